"""The rules of a parts list: each finds its fault, keeps quiet without it, and says when it does not know."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rigwise.errors import UnknownNameError
from rigwise.facts.catalogue import DATA, cited
from rigwise.facts.data_files import read_sources
from rigwise.rig.check import RULES, check, document, has_problems
from rigwise.rig.feeding import cpu_samples_per_s, disk_samples_per_s
from rigwise.rig.figures import figures, prebuilt_names
from rigwise.rig.fit import lanes_each
from rigwise.rig.judged import Given
from rigwise.rig.names import described
from rigwise.rig.power import load_w
from rigwise.rig.reader import read_rig
from rigwise.rig.types import OK, PROBLEM, SEVERITIES, UNKNOWN, WARNING, Demand, Feed, Rig
from rigwise.units import GIB

EXAMPLES = Path(__file__).parents[1] / "examples" / "rigs"

#: A computer that keeps every rule: one card, everything known.
SOUND = {
    "gpu": "GeForce RTX 5070",
    "cpu": "AMD Ryzen 7 7700",
    "motherboard": "AM5 ATX DDR5",
    "ram": "DDR5 2x32 GB",
    "psu": "ATX 3.1 850 W 80+ gold",
    "case": "ATX Mid Tower",
    "cpu_cooler": "air",
    "storage": "SSD M.2 PCIe 4.0 2 TB",
}


def rig_of(**changes) -> Rig:
    """The sound computer with other parts: a name, a tuple of names, or an item."""
    parts = {}
    for kind, name in {**SOUND, **changes}.items():
        named = name if isinstance(name, tuple) else (name,)
        parts[kind] = tuple(described(kind, n) if isinstance(n, str) else n for n in named if n)
    case = tuple(replace(c, fans=c.fans or 4, max_length_m=c.max_length_m or 0.4) for c in parts["case"])
    psu = tuple(replace(p, connectors=p.connectors or {"8-pin": 4, "16-pin": 1}) for p in parts["psu"])
    return Rig(**{**parts, "case": case, "psu": psu})


def severity(rig: Rig, rule: str, **given) -> str:
    (found,) = [f for f in check(rig, Given(**given)) if f.rule == rule]
    return found.severity


def of(kind: str, name: str, **figures_):
    return replace(described(kind, name), **figures_)


def test_a_sound_computer_keeps_every_rule():
    findings = check(rig_of(), Given(mains="us-15"))
    assert {f.rule: f.severity for f in findings if f.severity != OK} == {}


def demand(rate: float) -> Demand:
    return Demand(model="m", samples_per_s=rate, fit_probability=1.0)


WIRED_16_4, WIRED_16, WIRED_8_8 = (of("motherboard", "AM5 ATX", card_lanes=n) for n in ((16, 4), (16,), (8, 8)))
FEED = Feed(bytes_per_sample=126000.0, decode="jpeg", dataset_bytes=1e12)

CASES = [
    ("supply-load", PROBLEM, {"psu": "ATX 3.1 400 W 80+ gold"}, {}),
    ("supply-load", WARNING, {"psu": "ATX 3.1 500 W 80+ gold"}, {}),
    ("supply-load", UNKNOWN, {"psu": ()}, {}),
    ("supply-transients", WARNING, {"psu": "ATX 2.4 600 W 80+ gold"}, {}),
    ("supply-transients", UNKNOWN, {"psu": "ATX 600 W 80+ gold"}, {}),
    ("supply-transients", OK, {"psu": "ATX 2.4 850 W 80+ gold"}, {}),
    ("supply-grade", WARNING, {"psu": "ATX 3.1 850 W 80+ none"}, {}),
    ("supply-connectors", PROBLEM, {"gpu": "RTX 3090", "psu": of("psu", "1600 W", connectors={"8-pin": 1})}, {}),
    ("supply-connectors", OK, {"gpu": "RTX 3090", "psu": of("psu", "1600 W", connectors={"8-pin": 2})}, {}),
    ("circuit", PROBLEM, {"gpu": ("RTX 5090",) * 2}, {"mains": "us-15"}),
    ("circuit", OK, {"gpu": ("RTX 5090",) * 2, "psu": "ATX 3.1 1600 W 80+ gold"}, {"mains": "us-20"}),
    ("circuit", UNKNOWN, {}, {}),
    ("case-heat", WARNING, {"case": of("case", "ATX Mid Tower", fans=1)}, {}),
    ("case-heat", PROBLEM, {"case": of("case", "ATX Mid Tower", fans=4, heat_w=300.0)}, {}),
    ("cpu-cooler", WARNING, {"cpu": "Core i9-14900K"}, {}),
    ("cpu-cooler", UNKNOWN, {"cpu_cooler": "liquid cooler"}, {}),
    ("pcie-lanes", WARNING, {"gpu": ("RTX 3070",) * 3}, {}),
    ("pcie-lanes", UNKNOWN, {"gpu": ("RTX 3070",) * 2}, {}),
    ("pcie-lanes", WARNING, {"gpu": ("RTX 3070",) * 2, "motherboard": WIRED_16_4}, {}),
    ("pcie-lanes", PROBLEM, {"gpu": ("RTX 3070",) * 2, "motherboard": WIRED_16}, {}),
    ("pcie-lanes", OK, {"gpu": ("RTX 3070",) * 2, "motherboard": WIRED_8_8}, {}),
    ("card-slots", PROBLEM, {"gpu": ("RTX 3090",) * 3}, {}),
    ("card-slots", WARNING, {"gpu": ("RTX 3070",) * 3}, {}),
    ("card-slots", OK, {"gpu": ("RTX 3090",) * 2}, {}),
    ("card-slots", WARNING, {"gpu": ("RTX 3090",) * 2, "motherboard": "AM5 Micro ATX"}, {}),
    ("card-length", PROBLEM, {"gpu": "RTX 3090", "case": of("case", "ATX Mid Tower", fans=4, max_length_m=0.3)}, {}),
    ("memory-per-vram", PROBLEM, {"ram": "DDR5 1x8 GB"}, {}),
    ("memory-per-vram", WARNING, {"ram": "DDR5 2x8 GB"}, {}),
    ("memory-fits", PROBLEM, {"ram": "DDR4 2x32 GB"}, {}),
    ("memory-fits", PROBLEM, {"ram": ("DDR5 4x16 GB", "DDR5 2x16 GB")}, {}),
    ("memory-fits", WARNING, {"ram": "DDR5 1x64 GB"}, {}),
    ("cpu-socket", PROBLEM, {"cpu": "AMD Ryzen 5 5600"}, {}),
    ("board-in-case", PROBLEM, {"case": "MicroATX Mini Tower"}, {}),
    ("card-form", PROBLEM, {"gpu": "Tesla V100 SXM2 16 GB"}, {}),
    ("cpu-instructions", WARNING, {"cpu": "Pentium G4600"}, {}),
    ("cpu-feeds-cards", WARNING, {"gpu": ("RTX 3070",) * 2, "cpu": "Pentium G4600"}, {}),
    ("cpu-feeds-cards", PROBLEM, {}, {"demand": demand(1e5)}),
    ("cpu-feeds-cards", WARNING, {}, {"demand": demand(4000.0)}),
    ("cpu-feeds-cards", OK, {}, {"demand": demand(1000.0)}),
    ("disk-feeds-cards", PROBLEM, {"storage": "2 TB 7200 RPM hard disk"}, {"demand": demand(3000.0)}),
    ("disk-feeds-cards", OK, {"storage": "2 TB 7200 RPM hard disk"}, {"demand": demand(1000.0)}),
    ("disk-kind", WARNING, {"storage": "2 TB 7200 RPM hard disk"}, {}),
    ("disk-size", PROBLEM, {"storage": "SSD SATA 500 GB"}, {}),
    ("model-fits", PROBLEM, {}, {"demand": replace(demand(1.0), samples_per_s=None, fit_probability=0.0)}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "expected", "parts", "given"), CASES)
def test_a_rule_finds_its_fault(rule, expected, parts, given):
    rig = replace(rig_of(**parts), feed=FEED if given.get("demand") or rule == "disk-size" else Feed())
    assert severity(rig, rule, **given) == expected


def test_every_rule_is_tried_with_a_fault():
    assert {rule.name for rule in RULES} - {rule for rule, expected, _, _ in CASES if expected != OK} == {"sold-whole"}


def test_every_finding_that_is_not_kept_has_a_fix_and_a_source():
    for rule, expected, parts, given in CASES:
        rig = replace(rig_of(**parts), feed=FEED)
        for found in check(rig, Given(**given)):
            assert found.severity in SEVERITIES
            assert found.found
            if found.severity != OK:
                assert found.fix, (rule, expected, found)
            assert found.source or found.rule == "parts", found


def test_the_load_is_the_sum_of_what_the_parts_are_rated_for():
    rig = rig_of(gpu=("RTX 3080", "RTX 3080"), cpu="i7-11700KF")
    assert load_w(rig) == 2 * 320 + 251 + 100


def test_excursions_follow_the_stated_factors():
    (found,) = [f for f in check(rig_of(gpu="RTX 3080"), Given()) if f.rule == "supply-transients"]
    load = 320 + 65 * 1.35 + 100
    assert found.evidence["peak_atx3_w"] == pytest.approx(load + 2 * 320)
    assert found.evidence["ride_atx3_w"] == 2 * 850
    assert found.evidence["allowed_atx2_w"] == pytest.approx(load + 1.17 * 320, abs=1e-3)


@pytest.mark.parametrize(
    ("cables", "expected"),
    [({"16-pin": 2}, OK), ({"16-pin": 1, "8-pin": 3}, OK), ({"16-pin": 1, "8-pin": 2}, PROBLEM), ({"8-pin": 6}, OK)],
)
def test_a_16_pin_socket_takes_its_cable_or_as_many_8_pin_as_its_watts_need(cables, expected):
    """An RTX 4090 takes 450 W: 75 from the slot, 375 from three 8-pin cables behind the adapter."""
    rig = rig_of(gpu=("RTX 4090",) * 2, psu=of("psu", "ATX 3.1 1600 W 80+ gold", connectors=cables))
    assert severity(rig, "supply-connectors") == expected


def test_a_supply_without_the_16_pin_cable_rides_less():
    with_cable = rig_of(gpu="RTX 3090", psu=of("psu", "ATX 3.1 700 W 80+ gold", connectors={"8-pin": 4, "16-pin": 1}))
    without = replace(with_cable, psu=(replace(with_cable.psu[0], connectors={"8-pin": 4}),))
    assert (severity(with_cable, "supply-transients"), severity(without, "supply-transients")) == (OK, WARNING)


def test_the_american_circuit_carries_1440_watts_for_hours():
    (found,) = [f for f in check(rig_of(), Given(mains="us-15")) if f.rule == "circuit"]
    assert found.evidence["limit_w"] == 1440
    assert found.evidence["wall_w"] == pytest.approx((250 + 65 * 1.35 + 100) / 0.87, abs=1e-3)


@pytest.mark.parametrize(
    ("lanes", "cards", "each"), [(16, 1, 16), (16, 2, 8), (20, 2, 8), (16, 4, 4), (56, 2, 16), (3, 4, 0)]
)
def test_lanes_are_split_in_powers_of_two(lanes, cards, each):
    assert lanes_each(lanes, cards) == each


def test_a_disk_reads_as_the_founding_notes_say():
    disk = described("storage", "2 TB 7200 RPM hard disk")
    sequential = Feed(bytes_per_sample=57e3)
    assert disk_samples_per_s(disk, sequential) == pytest.approx(170e6 / 57e3)  # about 3,000 images a second
    assert disk_samples_per_s(disk, replace(sequential, access="files")) == 110


def test_a_core_decodes_as_measured():
    zen4 = described("cpu", "AMD Ryzen 7 7700")
    assert cpu_samples_per_s(zen4, FEED) == pytest.approx(8 * 537)
    assert cpu_samples_per_s(zen4, replace(FEED, bytes_per_sample=252000.0)) == pytest.approx(4 * 537)
    assert cpu_samples_per_s(zen4, Feed(decode_per_core_per_s=100.0)) == 800


def test_unknown_figures_are_never_a_verdict():
    bare = Rig(gpu=(of("gpu", "RTX 3080", tdp_w=None, slots=None, length_m=None, memory_bytes=None, connectors=None),))
    rig = replace(rig_of(), gpu=bare.gpu)
    found = {f.rule: f.severity for f in check(rig, Given(mains="eu"))}
    for rule in ("supply-load", "supply-transients", "supply-connectors", "circuit", "card-slots", "memory-per-vram"):
        assert found[rule] == UNKNOWN, rule


def test_the_alienware_of_the_notes():
    rig = read_rig((EXAMPLES / "alienware-aurora-r12.toml").read_text(), "rig.toml")
    findings = {f.rule: f for f in check(rig, Given(mains="us-15"))}
    assert not has_problems(findings.values())
    assert findings["case-heat"].severity == WARNING  # its airflow is the flaw
    assert findings["supply-load"].severity == UNKNOWN  # the notes do not say what its supply delivers
    assert findings["supply-load"].evidence["wanted_w"] == pytest.approx((320 + 251 + 100) / 0.8)
    two = replace(rig, gpu=rig.gpu * 2)
    assert {f.rule for f in check(two, Given()) if f.severity == PROBLEM} >= {"sold-whole", "pcie-lanes"}
    small = replace(rig, psu=(described("psu", "550 W"),))
    assert severity(small, "supply-load") == PROBLEM
    large = replace(rig, psu=(described("psu", "1000 W"),))
    assert (severity(large, "supply-load"), severity(large, "sold-whole")) == (OK, OK)
    for kits, size in ((("DDR4 2x16 GB", "DDR4 2x32 GB"), 96), (("DDR4 4x32 GB",), 128)):
        more = replace(rig, ram=tuple(described("ram", kit) for kit in kits))
        assert sum(kit.total_bytes for kit in more.ram) == size * GIB
        assert severity(more, "memory-fits") == OK
    too_much = replace(rig, ram=tuple(described("ram", "DDR4 2x32 GB") for _ in range(3)))
    assert severity(too_much, "memory-fits") == PROBLEM


def test_the_home_box_takes_modules_only():
    rig = read_rig((EXAMPLES / "home-box-2018.toml").read_text(), "rig.toml")
    assert not has_problems(check(rig, Given(mains="us-15")))
    assert severity(rig, "cpu-instructions") == WARNING
    assert severity(replace(rig, gpu=(described("gpu", "GTX 1070"),)), "sold-whole") == PROBLEM


def test_the_two_cards_of_the_example_are_too_much_for_it():
    rig = read_rig((EXAMPLES / "two-3090.txt").read_text(), "two-3090.txt")
    found = {f.rule for f in check(rig, Given()) if f.severity == PROBLEM}
    assert found == {"memory-per-vram", "supply-load"}


def test_an_unknown_circuit_is_refused():
    with pytest.raises(UnknownNameError, match="us-15"):
        check(rig_of(), Given(mains="us-51"))


def test_a_document_lists_equal_parts_once():
    rig = rig_of(gpu=("RTX 3090", "RTX 3090"))
    plain = document(rig, Given(), check(rig, Given()))
    (cards,) = [part for part in plain["parts"] if part["kind"] == "gpu"]
    assert (cards["count"], cards["device"]) == (2, "rtx-3090")
    assert plain["schema"] == "rigwise.rig.check/1"


def test_every_figure_cites_a_source_that_we_list():
    known = read_sources(DATA)
    text = (DATA / "rig_rules.toml").read_text(encoding="utf-8")
    for file in ("rig_rules.toml", *(f"builds/{name}.toml" for name in prebuilt_names())):
        listed = r"^(?:source|turbo_w|coolers_w|efficiency_frac) = \[(.*)\]$"
        for row in re.findall(listed, (DATA / file).read_text(encoding="utf-8"), re.MULTILINE):
            for citation in re.findall(r'"([^"]*)"', row):
                assert citation.partition(" ")[0] in known, citation
                assert len(cited(citation)) == 1
    assert len(re.findall(r"^source = ", text, re.M)) > 50


def test_what_is_remembered_is_marked_as_assumed():
    known = read_sources(DATA)
    for name, figure in figures().figures.items():
        remembered = any("remembered" in known[text.partition(" ")[0]].title for text in figure.source)
        assert not remembered or figure.basis == "assumed", name
