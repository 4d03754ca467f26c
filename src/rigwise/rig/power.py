"""Rules of power: the supply, its cables, the circuit, and the heat that all of it becomes.

Each rule judges parts of the kinds in its scope. Without a part that it needs it says so.
"""

from __future__ import annotations

from collections import Counter

from rigwise.rig.figures import figures, mains, source, value
from rigwise.rig.judged import Given, Judge, Rule, in_full, joined, known_sum
from rigwise.rig.types import Finding, Rig, Supply

_WATTS_NOT_KNOWN = "give power in the parts list, from the label or the data sheet"


def load_w(rig: Rig) -> float | None:
    """Power of everything behind the supply while cards and CPU work: the sum of what each is rated for.

    Source: Intel, "ATX Version 3.0 Power Supply Design Guide", 3.1: cards + CPU + rest of platform.
    """
    parts = known_sum([*(card.tdp_w for card in rig.gpu), *(cpu.power_w for cpu in rig.cpu)])
    other_w = rig.limits.other_w if rig.limits else None
    return None if parts is None else parts + (value("other-load") if other_w is None else other_w)


def _missing(rig: Rig) -> str:
    """What of the load is not known, in words."""
    lacking = [card.name for card in rig.gpu if card.tdp_w is None] + [c.name for c in rig.cpu if c.power_w is None]
    return f"power of {joined(lacking)} is not known"


def _supply_load(rig: Rig, given: Given) -> Finding:
    judge = Judge("supply-load", source("supply-load", "other-load"))
    load = load_w(rig)
    if load is None:
        return judge.unknown(_missing(rig), _WATTS_NOT_KNOWN)
    wanted_w = load / value("supply-load")
    rated_w = known_sum(psu.rated_w for psu in rig.psu)
    figures_ = {"load_w": load, "wanted_w": wanted_w}
    said = f"cards, CPU and the rest draw {load:.0f} W"
    if not rig.psu or rated_w is None:
        fix = f"it should be rated for {wanted_w:.0f} W or more; read its label"
        return judge.unknown(f"{said}; what the supply delivers is not known", fix, **figures_)
    figures_["rated_w"] = rated_w
    if load > rated_w:
        return judge.problem(f"{said}, the supply {rated_w:.0f} W", f"take one of {wanted_w:.0f} W", **figures_)
    if wanted_w > rated_w * (1 + 1e-9):
        share = f"{100 * load / rated_w:.0f} % of the {rated_w:.0f} W supply"
        return judge.warning(f"{said}, {share} for hours", f"take one of {wanted_w:.0f} W", **figures_)
    return judge.ok(f"{said}, {100 * load / rated_w:.0f} % of {rated_w:.0f} W", **figures_)


def _grade(rig: Rig, given: Given) -> Finding:
    judge = Judge("supply-grade", in_full(figures().sources["efficiency_frac"]))
    level = rig.psu[0].efficiency
    if not level:
        return judge.unknown("whether the supply is certified is not known", "give efficiency, gold say")
    if level == "none":
        found = "the supply has no 80 PLUS certificate: nobody measured it at its rating"
        return judge.warning(found, "take bronze or better")
    return judge.ok(f"80 PLUS {level}", efficiency_frac=figures().efficiency_frac[level])


def _transients(rig: Rig, given: Given) -> Finding | None:
    """Moments in which cards draw a multiple of their rating, all at once in the worst case.

    A supply that its maker fixed to the machine is left to the maker.
    """
    if rig.limits and "psu" in rig.limits.fixed:
        return None
    figure_names = ("excursion-atx3", "excursion-atx2", "ride-atx3", "ride-atx3-plain")
    judge = Judge("supply-transients", source(*figure_names))
    load, cards_w = load_w(rig), known_sum(card.tdp_w for card in rig.gpu)
    rated_w = known_sum(psu.rated_w for psu in rig.psu) if rig.psu else None
    if load is None or cards_w is None or rated_w is None:
        return judge.unknown("power of the cards, the CPU or the supply is not known", _WATTS_NOT_KNOWN)
    old_w = load + (value("excursion-atx2") - 1) * cards_w
    peak_w = load + (value("excursion-atx3") - 1) * cards_w
    ride_w = rated_w * _ride(rig.psu[0], rated_w)
    evidence = {"rated_w": rated_w, "allowed_atx2_w": old_w, "peak_atx3_w": peak_w, "ride_atx3_w": ride_w}
    wanted_w = min(old_w, peak_w / value("ride-atx3"))
    if old_w <= rated_w:
        return judge.ok(f"{rated_w:.0f} W carry excursions of the cards to {old_w:.0f} W", **evidence)
    atx = rig.psu[0].atx
    spikes = f"with all cards at their peak {peak_w:.0f} W are drawn for 100 us"
    if atx.startswith("3") and peak_w <= ride_w:
        return judge.ok(f"{spikes}; an ATX {atx} supply rides {ride_w:.0f} W", **evidence)
    if atx or peak_w > ride_w:
        said = f"an ATX {atx} supply" if atx else "even an ATX 3.x supply"
        held = ride_w if atx.startswith("3") or not atx else rated_w
        fix = f"take an ATX 3.x supply of {wanted_w:.0f} W or more, or limit the cards' power"
        return judge.warning(f"{spikes}; {said} of {rated_w:.0f} W rides {held:.0f} W", fix, **evidence)
    fix = 'take one that says ATX 3.0 or 3.1, and write atx = "3.1" into the list'
    return judge.unknown(f"{spikes}; whether the supply rides that is not known", fix, **evidence)


def _ride(psu: Supply, rated_w: float) -> float:
    """Share of its rating that an ATX 3.x supply rides for 100 us."""
    plain = rated_w <= 450 or (psu.connectors is not None and not psu.connectors.get("16-pin"))
    return value("ride-atx3-plain" if plain else "ride-atx3")


def cables_of(rig: Rig) -> Counter[str] | None:
    """Power cables that the cards take, by kind; None where one of them is not known."""
    if any(card.connectors is None for card in rig.gpu):
        return None
    return Counter(kind for card in rig.gpu for kind in card.connectors or ())


def _connectors(rig: Rig, given: Given) -> Finding:
    judge = Judge("supply-connectors", in_full(row for c in figures().connectors.values() for row in c.source))
    cables = cables_of(rig)
    if cables is None:
        return judge.unknown("what cables the cards take is not known", "give connectors of the gpu in the list")
    if not cables:
        return judge.ok("the cards take no cable: the slot feeds them")
    listed = joined(f"{n}x {kind}" for kind, n in sorted(cables.items()))
    strange = sorted(set(cables) - set(figures().connectors))
    if strange:
        return judge.unknown(f"what a {joined(strange)} connector takes is not known", "ask the card's maker")
    have = rig.psu[0].connectors if rig.psu else None
    if have is None:
        fix = f"take one with {_cables_to_buy(rig, cables)}, each on its own cable"
        return judge.unknown(f"the cards take {listed}; the supply's cables are not known", fix, takes=listed)
    sixteen = min(have.get("16-pin", 0), cables["16-pin"])
    eights = have.get("8-pin", 0) + have.get("6+2-pin", 0)
    by_adapter = _adapted_eights(rig, cables["16-pin"] - sixteen)
    needed = by_adapter + sum(n * figures().connectors[k].eight_pins for k, n in cables.items() if k != "16-pin")
    evidence: dict[str, int | str] = {"takes": listed, "eight_pins_needed": needed}
    evidence |= {"eight_pins": eights, "sixteen_pins": sixteen}
    if needed > eights:
        found = f"the cards take {listed}: {needed} 8-pin cables beside {sixteen} 16-pin; the supply has {eights}"
        return judge.problem(found, "take a supply with more cables; do not split one cable in two", **evidence)
    return judge.ok(f"the supply has the cables for {listed}", **evidence)


def _cables_to_buy(rig: Rig, cables: Counter[str]) -> str:
    """Cables of a supply that serve the cards: 16-pin for 16-pin, 8-pin for all others."""
    eights = sum(n * figures().connectors[kind].eight_pins for kind, n in cables.items())
    wanted = [f"{cables['16-pin']}x 16-pin"] if cables["16-pin"] else []
    return joined([*wanted, f"{eights}x 8-pin"] if eights else wanted)


def _adapted_eights(rig: Rig, count: int) -> int:
    """8-pin cables behind the adapters of ``count`` 16-pin sockets, for the hungriest card."""
    most_w = max((card.tdp_w or 0 for card in rig.gpu), default=0)
    cables = -(-(most_w - value("slot-power")) // figures().connectors["8-pin"].power_w)
    return count * int(max(cables, 1))


def _circuit(rig: Rig, given: Given) -> Finding:
    if not given.mains:
        judge = Judge("circuit", in_full(figures().mains["us-15"].source))
        fix = f"--mains {', '.join(figures().mains)}"
        return judge.unknown("which circuit it hangs on is not known", fix)
    row = mains(given.mains)
    judge = Judge("circuit", (*in_full(row.source), *in_full(figures().sources["efficiency_frac"])))
    limit_w, load = row.breaker_w * row.continuous_frac, load_w(rig)
    if load is None:
        return judge.unknown(_missing(rig), _WATTS_NOT_KNOWN, limit_w=limit_w)
    level = rig.psu[0].efficiency if rig.psu else ""
    least = figures().efficiency_frac.get(level or "none", 0.7)
    wall_w = load / least
    evidence = {"load_w": load, "efficiency_frac": least, "wall_w": wall_w, "limit_w": limit_w}
    said = f"{wall_w:.0f} W at the wall; {given.mains} carries {limit_w:.0f} W for hours"
    if load > limit_w or (wall_w > limit_w and level):
        fix = "a second circuit, fewer cards, or a power limit: four RTX 3090 at 280 W kept 95 % of their speed"
        return judge.problem(said, fix, **evidence)
    if wall_w > limit_w:
        return judge.unknown(f"up to {said}", "give the supply's 80 PLUS level", **evidence)
    return judge.ok(said, **evidence)


def _heat(rig: Rig, given: Given) -> Finding:
    """Air that must pass for the heat to leave; the fans; and what the maker sold the case with."""
    judge = Judge("case-heat", (*source("air-rise", "air-heat", "fan-flow"), *in_full([rig.case[0].source])))
    load, case = load_w(rig), rig.case[0]
    if load is None:
        return judge.unknown(_missing(rig), _WATTS_NOT_KNOWN)
    flow_m3_per_s = load / (value("air-heat") * value("air-rise"))
    fans = -(-flow_m3_per_s // value("fan-flow"))
    evidence: dict[str, float] = {"heat_w": load, "flow_m3_per_s": flow_m3_per_s, "fans_needed": fans}
    density = ""
    if case.volume_m3:
        evidence["density_w_per_l"] = load / case.volume_m3 / 1000
        density = f" in {1000 * case.volume_m3:.3g} litres"
    said = f"{load:.0f} W of heat{density} take {2118.88 * flow_m3_per_s:.0f} CFM for a rise of 15 K"
    if case.heat_w and load > case.heat_w:
        sold = f"the largest supply that it was sold with delivers {case.heat_w:.0f} W"
        return judge.problem(f"{said}; {sold}", "another case, or a power limit on the cards", **evidence)
    if case.fans is None:
        fix = f"the case needs {fans:.0f} fans of 120 mm that draw air in; give fans in the list"
        return judge.unknown(f"{said}; the fans of the case are not known", fix, **evidence)
    evidence["fans"] = case.fans
    if case.fans < fans:
        fix = f"fit {fans:.0f} fans of 120 mm, take a more open case, or limit the cards' power"
        return judge.warning(f"{said}; its {case.fans} fans move {case.fans / fans:.0%} of that", fix, **evidence)
    return judge.ok(f"{said}; its {case.fans} fans move that", **evidence)


def _cooler(rig: Rig, given: Given) -> Finding:
    judge = Judge("cpu-cooler", in_full([*figures().sources["turbo_w"], *figures().sources["coolers_w"]]))
    cpu, cooler = rig.cpu[0], rig.cpu_cooler[0]
    if cpu.power_w is None or cooler.capacity_w is None:
        lacking = f"what the {cooler.name} carries away" if cpu.power_w is not None else f"the power of {cpu.name}"
        return judge.unknown(f"{lacking} is not known", "give power of the cpu_cooler, from its data sheet")
    evidence = {"cpu_w": cpu.power_w, "cooler_w": cooler.capacity_w}
    said = f"the CPU holds {cpu.power_w:.0f} W, a cooler of its class carries {cooler.capacity_w:.0f} W away"
    if cpu.power_w > cooler.capacity_w:
        return judge.warning(said, "take a larger cooler, or set the CPU's power limit lower", **evidence)
    return judge.ok(said, **evidence)


RULES = (
    Rule(name="supply-load", scope=frozenset({"gpu", "cpu", "psu"}), judge=_supply_load),
    Rule(name="supply-grade", scope=frozenset({"psu"}), judge=_grade),
    Rule(name="supply-transients", scope=frozenset({"gpu", "cpu", "psu"}), judge=_transients),
    Rule(name="supply-connectors", scope=frozenset({"gpu", "psu"}), judge=_connectors),
    Rule(name="circuit", scope=frozenset({"gpu", "cpu", "psu"}), judge=_circuit),
    Rule(name="case-heat", scope=frozenset({"gpu", "cpu", "case"}), judge=_heat),
    Rule(name="cpu-cooler", scope=frozenset({"cpu", "cpu_cooler"}), judge=_cooler),
)
