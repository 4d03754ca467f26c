"""``offers import``: three kinds of catalogue, what becomes of each row, and files that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.facts import offer_store
from rigwise.facts.catalogue import bundled_offers, offers
from rigwise.facts.imports import gpuhunt, plain, skypilot, take
from rigwise.facts.imports.devices import candidates, sold
from rigwise.facts.offer_store import Import, imported_offers, imports
from rigwise.units import GIB

DATA = Path(__file__).parent / "data" / "offers"
SKYPILOT, GPUHUNT = DATA / "skypilot", DATA / "gpuhunt"
DAY = "2026-11-20"
HEAD = "provider,instance,region,accelerator,accel_count,price_usd_h\n"


@pytest.fixture
def store(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    monkeypatch.setenv(offer_store.VARIABLE, str(folder))
    return folder


def run(capfdbinary, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["offers", *map(str, arguments)])
    out, err = capfdbinary.readouterr()
    return stop.value.code, out.decode(), err.decode()


def reading(cloud):
    return skypilot.read(SKYPILOT / "v8" / cloud / "vms.csv", cloud, DAY)


def by_instance(offers):
    found = {}
    for offer in offers:
        found.setdefault(offer.instance, []).append(offer)
    return found


def test_zones_with_their_own_spot_price_stay_apart():
    p5 = by_instance(reading("aws").offers)["p5.48xlarge"]
    east = [(o.zone, o.price_usd_h, o.spot_price_usd_h) for o in p5 if o.region == "us-east-1"]
    assert east == [("use1-az1", 55.04, 20.8), ("use1-az2", 55.04, 11.39)]
    assert [(o.zone, o.spot_price_usd_h) for o in p5 if o.region == "us-west-1"] == [("", 35.76)]
    assert {(o.device, o.link, o.accel_count) for o in p5} == {("h100-sxm5-80gb", "nvlink", 8)}


def test_rows_without_an_accelerator_and_equal_zones_are_counted():
    aws = reading("aws")
    assert aws.excluded == {"no accelerator": 2, "the same prices as in another zone of the region": 1}
    assert aws.read == len(aws.offers) + sum(aws.excluded.values())


def test_google_hosts_and_accelerators_are_added():
    found = by_instance(reading("gcp").offers)
    (a2,) = found["a2-highgpu-1g"]
    assert (a2.price_usd_h, a2.spot_price_usd_h) == (
        pytest.approx(0.73948 + 2.933908),
        pytest.approx(0.36975 + 1.55827),
    )
    assert (a2.device, a2.vcpus, a2.memory_bytes, a2.region, a2.zone) == (
        "a100-sxm4-40gb",
        12,
        85 * GIB,
        "us-central1",
        "",
    )
    (t4,) = found["n1-standard-4 + 1 T4"]  # the smallest host that has enough for the card
    assert t4.price_usd_h == pytest.approx(0.19 + 0.35)


def test_halves_of_google_instances_never_become_offers():
    gcp = reading("gcp")
    assert gcp.excluded["an accelerator without a host in its zone"] == 1
    assert gcp.excluded["a host without its accelerators"] == 1
    assert gcp.excluded["no accelerator"] == 2
    assert min(offer.price_usd_h for offer in gcp.offers) > 0.5


def test_a_tpu_slice_counts_chips():
    found = by_instance(reading("gcp").offers)
    assert {(o.device, o.accel_count) for o in found["tpu-v6e-256"]} == {("tpu-v6e", 256)}
    assert {(o.device, o.accel_count) for o in found["tpu-v4-16"]} == {("tpu-v4", 8)}


def test_the_newest_version_of_the_columns_is_read():
    assert set(skypilot.files(SKYPILOT)) == {"aws", "azure", "gcp", "mithril", "runpod", "vast"}
    assert skypilot.files(SKYPILOT)["aws"].parts[-3] == "v8"
    assert list(skypilot.files(SKYPILOT / "v8" / "aws")) == list(skypilot.files(SKYPILOT / "v8" / "aws" / "vms.csv"))


def test_gpuhunt_spot_rows_join_their_on_demand_rows():
    aws = gpuhunt.read(GPUHUNT / "aws.csv", "aws", DAY)
    p5, t4 = aws.offers
    assert (p5.price_usd_h, p5.spot_price_usd_h, p5.device) == (55.04, 11.39, "h100-sxm5-80gb")
    assert (t4.price_usd_h, t4.spot_price_usd_h, t4.accel_memory_bytes) == (0.526, None, 16 * GIB)
    gcp = gpuhunt.read(GPUHUNT / "gcp.csv", "gcp", DAY)
    assert [(o.instance, o.region, o.zone, o.device, o.accel_count) for o in gcp.offers] == [
        ("a2-highgpu-1g", "us-central1", "", "a100-sxm4-40gb", 1),
        ("v3-8", "us-central1", "", "tpu-v3", 4),
    ]
    assert gcp.excluded["neither spot nor not"] == 1


def test_gpuhunt_archives_are_read_as_published(tmp_path):
    folder = tmp_path / "aws" / "20261120"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "catalog.zip", "w") as archive:
        archive.write(GPUHUNT / "aws.csv", "aws.csv")
    (name, path), = gpuhunt.files(folder).items()  # fmt: skip
    assert name == "aws"
    assert gpuhunt.read(path, name, DAY).offers == gpuhunt.read(GPUHUNT / "aws.csv", "aws", DAY).offers
    cut = tmp_path / "cut.zip"
    cut.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidInputError, match="cut off"):
        gpuhunt.read(cut, "aws", DAY)


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("RTX6000-Ada", 48, "rtx-6000-ada"),
        ("RTX6000Ada", None, "rtx-6000-ada"),
        ("RTX-6000-Ada", None, "rtx-6000-ada"),
        ("RTX6000", 24, "quadro-rtx-6000"),
        ("RTX_5090", None, "rtx-5090"),
        ("H100NVL", None, "h100-nvl-94gb"),
        ("H100-MEGA-80GB", 80, "h100-sxm5-80gb"),
        ("A100", 40, "a100-pcie-40gb|a100-sxm4-40gb"),
        ("A100", 80, "a100-pcie-80gb|a100-sxm4-80gb"),
        ("V100", 16, "v100-pcie-16gb|v100-sxm2-16gb"),
        ("Inferentia2", None, "inferentia-2"),
        ("Trainium", None, "trainium-1"),
        ("RTX", 24, ""),
        ("Quantum-9000", 24, ""),
    ],
)
def test_names_of_other_catalogues_find_our_devices(name, gib, expected):
    assert "|".join(candidates(name, gib and gib * GIB)) == expected


def test_no_device_of_the_package_is_contradicted():
    """The names that sources used for the rows in the package lead to the device that was found for them by hand."""
    for offer in bundled_offers():
        if offer.device:
            found = candidates(offer.accelerator, offer.accel_memory_bytes)
            assert set(offer.devices) <= set(found), offer.accelerator


def test_the_instance_narrows_what_the_name_leaves_open():
    assert sold("aws", "p4d.24xlarge", "A100", 8, 40 * GIB).device == "a100-sxm4-40gb"
    assert sold("mithril", "h100-80gb.sxm.8x", "H100", 8, 80 * GIB).device == "h100-sxm5-80gb"
    assert sold("runpod", "1x_A100", "A100-80GB", 1, None, also_called="A100 PCIe").device == "a100-pcie-80gb"
    assert sold("cudo", "epyc-genoa-a100-pcie_1x4v8gb2", "A100", 1, 80 * GIB).device == "a100-pcie-80gb"


def test_import_keeps_tags_and_counts(capfdbinary, store):
    code, out, err = run(capfdbinary, "import", "skypilot", SKYPILOT, "--as-of", DAY)
    assert code == 0
    assert "skypilot.gcp" in out
    assert "left out: an on-demand price that is negative" in out
    assert str(store) in err
    rows = imported_offers()
    assert offers() == bundled_offers() + rows
    assert {row.as_of for row in rows} == {DAY}
    assert all(row.source.startswith("imported skypilot ") for row in rows)
    assert sum(about.kept for about in imports()) == len(rows)


def test_the_report_in_json(capfdbinary, store):
    code, out, err = run(capfdbinary, "import", "gpuhunt", GPUHUNT, "--as-of", DAY, "--json")
    document = json.loads(out)
    assert (code, err, document["schema"], document["written"]) == (0, "", "rigwise.offers.import/1", True)
    aws = next(one for one in document["imports"] if one["name"] == "gpuhunt.aws")
    assert (aws["read"], aws["kept"], aws["as_of"], aws["dated_by"]) == (4, 2, DAY, "given")
    code, out, _ = run(capfdbinary, "imports", "--json")
    assert [one["name"] for one in json.loads(out)["imports"]] == ["gpuhunt.aws", "gpuhunt.gcp"]
    assert run(capfdbinary, "forget", "gpuhunt.aws", "--json")[0] == 0
    assert [about.name for about in imports()] == ["gpuhunt.gcp"]


def test_a_dry_run_writes_nothing(capfdbinary, store):
    code, out, err = run(capfdbinary, "import", "skypilot", SKYPILOT, "--dry-run", "--only", "aws")
    assert (code, err) == (0, "nothing was written (--dry-run)\n")
    assert "skypilot.aws" in out
    assert "skypilot.gcp" not in out
    assert not store.exists()


def test_the_day_of_a_file_is_its_own_and_says_so(capfdbinary, store, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(HEAD + "campus,dgx,cellar,A100-SXM4-80GB,8,12.5\n")
    moment = datetime(2026, 9, 3, 12, tzinfo=UTC).timestamp()
    os.utime(table, (moment, moment))
    assert run(capfdbinary, "import", "csv", table)[0] == 0
    (about,) = imports()
    assert (about.as_of, about.dated_by) == ("2026-09-03", "file")
    (row,) = imported_offers()
    assert (row.device, row.price_usd_h, row.as_of) == ("a100-sxm4-80gb", 12.5, "2026-09-03")


def test_a_table_of_one_s_own_may_say_more(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(
        "provider,accel_count,device,price_usd_h,spot_price_usd_h,zone,as_of,term_h,memory_gib\n"
        "Campus,4,rtx-3090|RTX 4090,$2.5,nan,b,2026-10-01,8760,256\n"
    )
    (row,) = plain.read(table, "mine", DAY).offers
    assert (row.provider, row.device, row.zone, row.as_of) == ("campus", "rtx-3090|rtx-4090", "b", "2026-10-01")
    assert (row.price_usd_h, row.term_s, row.memory_bytes) == (2.5, 8760 * 3600, 256 * GIB)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("provider,price\n", ["no column 'accel_count'"]),
        (HEAD, ["holds no offer"]),
        (HEAD.replace("region", "regoin") + "a,b,c,T4,1,1\n", ["unknown column 'regoin'", "did you mean region"]),
        ("provider,accel_count,price_usd_h\na,1,2\n", ["neither a column 'accelerator' nor 'device'"]),
        ("provider,accel_count,accelerator\na,1,T4\n", ["neither a column 'price_usd_h' nor"]),
        (HEAD + "a,b,c,T4,one,1\n", ["line 2", "accel_count is 'one'"]),
        (HEAD + "a,b,c,T4,-1,1\n", ["line 2", "accel_count is '-1'"]),
        (HEAD + "a,b,c,T4,1,1\n,b,c,T4,1,1\n", ["line 3", "provider is empty"]),
        (HEAD + "a,b,c,T4,1,1\na,b,c,T4", ["cut off", "line 3 has 4 cells, not 6"]),
        (HEAD + "a,b,c,T4\na,b,c,T4,1,1\n", ["line 2 has 4 cells"]),
        (HEAD + 'a,b,c,"T4', ["cut off", "line 2"]),
        (HEAD + "a,b,c,T4,1,nan\n", ["holds no offer", "1 with an on-demand price that is no number"]),
        (HEAD + "a,b,c,T4,1,-3\n", ["holds no offer", "negative"]),
        (HEAD + "a,b,c,T4,1,\n", ["holds no offer", "1 with no price"]),
        ("provider,provider,accel_count\na,a,1\n", ["'provider' stands twice"]),
        ("provider,accel_count,price_usd_h,device\na,1,2,rtx-490\n", ["line 2", "rtx-490", "did you mean"]),
        ("provider,accel_count,price_usd_h,device,as_of\na,1,2,t4,2026-02-30\n", ["line 2", "2026-02-30"]),
        ("\0\0\0", ["zero bytes"]),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(capfdbinary, store, tmp_path, text, words):
    table = tmp_path / "bad.csv"
    table.write_text(text)
    code, out, err = run(capfdbinary, "import", "csv", table)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert imports() == ()


@pytest.mark.parametrize("keep", [0.4, 0.7, 0.99])
def test_a_file_cut_off_leaves_the_import_before_it(capfdbinary, store, tmp_path, keep):
    folder = tmp_path / "v8"
    shutil.copytree(SKYPILOT / "v8", folder)
    assert run(capfdbinary, "import", "skypilot", folder, "--as-of", DAY)[0] == 0
    before = imported_offers()
    table = folder / "aws" / "vms.csv"
    table.write_bytes(table.read_bytes()[: int(keep * table.stat().st_size)])
    code, out, err = run(capfdbinary, "import", "skypilot", folder, "--as-of", DAY)
    assert code == 1
    assert "skypilot.gcp" in out  # the others are taken all the same
    assert "aws stays as it was" in err
    assert "cut off" in err
    assert imported_offers() == before


def test_a_file_cut_at_the_end_of_a_line_is_noticed_by_its_size(capfdbinary, store, tmp_path):
    table = tmp_path / "mine.csv"
    lines = [f"campus,dgx-{n},cellar,T4,1,1\n" for n in range(10)]
    table.write_text(HEAD + "".join(lines))
    assert run(capfdbinary, "import", "csv", table)[0] == 0
    table.write_text(HEAD + "".join(lines[:4]))
    code, _, err = run(capfdbinary, "import", "csv", table)
    assert (code, "has 4 offers, and csv.mine had 10" in err) == (2, True)
    assert len(imported_offers()) == 10
    assert run(capfdbinary, "import", "csv", table, "--force")[0] == 0
    assert len(imported_offers()) == 4


def test_the_same_row_twice_is_counted_and_another_price_is_left_to_lint(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(HEAD + "a,b,c,T4,1,1\n" * 2 + "a,b,c,T4,1,3\n")
    about, rows = take.take(plain.read(table, "mine", DAY), take.Day(as_of=DAY, by=take.GIVEN), date(2026, 11, 21))
    assert [row.price_usd_h for row in rows] == [1, 3]
    assert about.excluded == {"the same row again": 1}


def test_a_wrong_clock_is_one_line(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(HEAD)
    today = date(2026, 11, 21)
    tomorrow = datetime.combine(today + timedelta(days=3), datetime.min.time(), UTC).timestamp()
    os.utime(table, (tomorrow, tomorrow))
    with pytest.raises(InvalidInputError, match=r"2026-11-24.* after today .*a clock is wrong"):
        take.day_of(table, "", today)
    with pytest.raises(InvalidInputError, match="--as-of 2026-11-24 is after today"):
        take.day_of(table, "2026-11-24", today)
    with pytest.raises(InvalidInputError, match="this machine's clock says 1970-01-01"):
        take.day_of(table, "", date(1970, 1, 1))
    assert take.day_of(table, "2026-11-20", date(1970, 1, 1)).as_of == "2026-11-20"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["import", "skypilot", "nowhere"], "nowhere"),
        (["import", "skypilot", "."], "no vms.csv"),
        (["import", "gpuhunt", "nowhere"], "nowhere"),
        (["import", "csv"], "needs a PATH"),
        (["import", "cvs", "x"], "skypilot"),
        (["import", "csv", "x", "--as-of", "yesterday"], "yesterday"),
        (["import", "csv", "missing.csv"], "there is no file missing.csv"),
        (["import", "csv", "."], "folder"),
        (["forget", "skypilot.aws"], "skypilot.aws"),
        (["lint", "nowhere.csv"], "nowhere.csv"),
        (["lint", "x.csv", "--imported"], "not both"),
        (["imprt"], "import"),
        (["h100"], "--device h100"),
        (["--device", "t4", "lint"], "--device stands before lint"),
        (["refresh", "--only", "asw"], "aws"),
        (["refresh", "--mirror", "ftp://host"], "ftp://host"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(capfdbinary, store, tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfdbinary, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err


def test_without_a_place_nothing_is_imported(capfdbinary, monkeypatch):
    monkeypatch.setenv(offer_store.VARIABLE, "none")
    code, _, err = run(capfdbinary, "import", "skypilot", SKYPILOT, "--only", "aws")
    assert (code, "no place" in err) == (2, True)
    assert imported_offers() == ()


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-40], lambda b: b.replace(b"55.04", b"55.05"), lambda b: b"{}", lambda b: b""]
)
def test_a_damaged_store_says_how_to_go_on(capfdbinary, store, spoil):
    assert run(capfdbinary, "import", "skypilot", SKYPILOT, "--only", "aws")[0] == 0
    (path,) = offer_store.import_files()
    path.write_bytes(spoil(path.read_bytes()))
    code, _, err = run(capfdbinary, "--device", "t4")
    assert (code, err.count("\n")) == (2, 1)
    assert "is damaged; import it again, or rigwise offers forget skypilot.aws" in err
    assert run(capfdbinary, "import", "skypilot", SKYPILOT, "--only", "aws")[0] == 0
    assert len(imported_offers()) == 6


NUMBERS = st.none() | st.integers(0, 10**9) | st.floats(0, 1e12, allow_nan=False)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
ABOUT = Import(
    name="csv.x", kind="csv", origin="x", sha256="", as_of="", dated_by="given", imported_on="", read=0, kept=0
)
OFFERS = st.builds(
    type(bundled_offers()[0]),
    **{
        f.name: NUMBERS if "float" in f.type else WORDS
        for f in __import__("dataclasses").fields(bundled_offers()[0])
        if f.name != "flags"
    },
)


@given(st.lists(OFFERS, max_size=20))
def test_what_is_stored_is_what_is_read(rows):
    about, read = offer_store.load(offer_store.dump(ABOUT, rows))
    assert (about, list(read)) == (ABOUT, rows)
    assert [[type(getattr(a, n)) for n in offer_store._COLUMNS] for a in read] == [
        [type(getattr(b, n)) for n in offer_store._COLUMNS] for b in rows
    ]
