"""Safe fixes: shown, applied, written down, put back; nothing that another has changed is touched."""

import os
import stat

import pytest

from rigwise.errors import InvalidInputError
from rigwise.machine.doctor import fix
from rigwise.machine.doctor.fix import Change, planned
from rigwise.machine.doctor.types import Finding, Severity, Status


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "id_ed25519"
    file.write_text("not a key")
    file.chmod(0o644)
    return file


def finding(repair: str, *changes: str) -> Finding:
    return Finding(
        rule="a-rule", status=Status.PROBLEM, severity=Severity.ERROR, applies=True, title="t", evidence="e",
        explanation="x", fix="f", source="s", repair=repair, changes=changes,
    )  # fmt: skip


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_file_is_closed_to_others_and_opened_again(key) -> None:
    (change,) = planned([finding("private-files", str(key))])
    assert (change.before, change.after, change.refused) == ("644", "600", "")
    fix.apply(change)
    assert mode(key) == 0o600
    fix.undo(change)
    assert mode(key) == 0o644


def test_what_another_changed_is_left_alone(key) -> None:
    (change,) = planned([finding("private-files", str(key))])
    key.chmod(0o640)
    with pytest.raises(InvalidInputError, match="by now"):
        fix.apply(change)
    assert mode(key) == 0o640


def test_a_link_is_not_followed(key, tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key)
    (change,) = planned([finding("private-files", str(link))])
    assert change.refused
    with pytest.raises(InvalidInputError):
        fix.apply(change)
    with pytest.raises(InvalidInputError):
        fix._set(Change(rule="r", kind="mode", place=str(link), before="644", after="600"), "644", "600")
    assert mode(key) == 0o644


def test_a_file_that_is_gone_is_refused(tmp_path) -> None:
    (change,) = planned([finding("private-files", str(tmp_path / "none"))])
    assert change.refused


def test_only_known_files_of_the_kernel_are_written(tmp_path) -> None:
    target = tmp_path / "value"
    target.write_text("never")
    with pytest.raises(InvalidInputError, match="nothing that a fix changes"):
        fix.undo(Change(rule="r", kind="value", place=str(target), before="x", after="never"))
    assert target.read_text() == "never"


def test_a_value_of_the_kernel(tmp_path, monkeypatch) -> None:
    file = tmp_path / "enabled"
    file.write_text("always madvise [never]")
    monkeypatch.setattr(fix, "THP", str(file))
    (change,) = planned([finding("huge-pages", "madvise")])
    assert (change.before, change.after) == ("never", "madvise")
    fix.apply(change)
    assert file.read_text() == "madvise"
    fix.undo(change)
    assert file.read_text() == "never"


def test_the_journal_is_read_back_and_refuses_what_is_not_its_own(key) -> None:
    assert fix.read_journal() == ()
    changes = planned([finding("private-files", str(key))])
    fix.write_journal(changes)
    assert fix.read_journal() == changes
    fix.journal_path().write_text('{"schema": "other/1", "changes": []}')
    with pytest.raises(InvalidInputError, match="another version"):
        fix.read_journal()
    fix.journal_path().write_text("{")
    with pytest.raises(InvalidInputError, match="not JSON"):
        fix.read_journal()


def test_a_journal_cannot_make_undo_do_something_else(key) -> None:
    with pytest.raises(InvalidInputError, match="no kind"):
        fix.undo(Change(rule="r", kind="shell", place="true", before="a", after="b"))
    with pytest.raises(InvalidInputError):
        fix.undo(Change(rule="r", kind="mode", place=str(key), before="644; x", after="644"))
    assert mode(key) == 0o644
