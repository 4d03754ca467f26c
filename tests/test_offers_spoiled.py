"""Files with bytes lost, changed or put in: an answer or one line, never a fault of ours."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.facts import offer_store
from rigwise.facts.catalogue import devices
from rigwise.facts.imports import take
from rigwise.facts.lint import Known, lint

DATA = Path(__file__).parent / "data" / "offers"
TODAY = date(2026, 11, 21)
DAY = take.Day(as_of="2026-11-20", by=take.GIVEN)
KNOWN = Known(devices={d.id: d for d in devices()}, today=TODAY)
PLAIN = (
    b"provider,instance,region,accelerator,accel_count,price_usd_h,as_of\na,b,c,T4,1,0.5,2026-11-01\na,d,c,L4,2,1,\n"
)
PIECES = [
    b"",
    b",",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"nan",
    b"-1",
    b"1e999",
    b"inf",
    b"|",
    b"{",
    b"\xff",
    "é".encode(),
    b"0",
    b"9" * 400,
]
SPOILS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(PIECES)), min_size=1, max_size=4)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spoiled(content: bytes, spoils) -> bytes:
    for place, lost, put_in in spoils:
        at = int(place * len(content))
        content = content[:at] + put_in + content[at + lost :]
    return content


def archive_of(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gcp.csv", content)
    return packed.getvalue()


FILES = {
    "aws/vms.csv": ("skypilot", (DATA / "skypilot" / "v8" / "aws" / "vms.csv").read_bytes()),
    "gcp/vms.csv": ("skypilot", (DATA / "skypilot" / "v8" / "gcp" / "vms.csv").read_bytes()),
    "gcp.csv": ("gpuhunt", (DATA / "gpuhunt" / "gcp.csv").read_bytes()),
    "gcp.zip": ("gpuhunt", archive_of((DATA / "gpuhunt" / "gcp.csv").read_bytes())),
    "mine.csv": ("csv", PLAIN),
}


@pytest.mark.parametrize("file", FILES)
@given(spoils=SPOILS)
@QUIET
def test_a_spoiled_catalogue_is_read_or_refused(tmp_path, file, spoils):
    kind, content = FILES[file]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(spoiled(content, spoils))
    try:
        take.kind_of(path)
        ((name, found),) = take.sources(kind, path).items()
        reading = take.read(kind, name, found, DAY.as_of)
    except RigwiseError:
        return
    lint(reading.offers, KNOWN)
    about, kept = take.take(reading, DAY, TODAY)
    assert about.kept == len(kept)
    # What is kept can be stored: every price is a number of zero or more.
    assert offer_store.load(offer_store.dump(about, kept)) == (about, kept)


@given(spoils=SPOILS)
@QUIET
def test_a_spoiled_import_is_read_or_refused(tmp_path, spoils):
    path = DATA / "skypilot" / "v8" / "gcp" / "vms.csv"
    about, kept = take.take(take.read("skypilot", "gcp", path, DAY.as_of), DAY, TODAY)
    file = tmp_path / f"skypilot.gcp{offer_store.SUFFIX}"
    content = offer_store.dump(about, kept)
    file.write_bytes(spoiled(content, spoils))
    offer_store._read_at.cache_clear()
    if file.read_bytes() == content:
        assert offer_store._read(file) == (about, kept)
        return
    with pytest.raises(InvalidInputError, match=r"forget skypilot\.gcp"):
        offer_store._read(file)
