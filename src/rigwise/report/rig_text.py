"""A check of parts and a build as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from textwrap import wrap

from rigwise.facts.catalogue import device
from rigwise.rig.build import Build, to_check, unmended
from rigwise.rig.reasons import Chosen, Step
from rigwise.rig.types import KINDS, OK, PROBLEM, SEVERITIES, WARNING, Finding, Rig
from rigwise.units import format_count, format_seconds, format_usd

_WIDTH = 80
_HEADINGS = {"problem": "PROBLEM", "warning": "warning", "unknown": "unknown", "ok": "ok"}


def check_text(rig: Rig, findings: Sequence[Finding], *, brief: bool = False) -> str:
    """What the rules found; if ``brief`` only problems and warnings."""
    numbers = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    counts = [f"{n} {s}{'s' if n != 1 and s in (PROBLEM, WARNING) else ''}" for s, n in numbers.items()]
    lines = [*_wrapped(f"{rig.name}: {', '.join(counts)}"), *_given_prices(rig), ""]
    for finding in findings:
        if brief and finding.severity not in (PROBLEM, WARNING):
            continue
        lines += _finding(finding)
    if rig.ignored and not brief:
        lines += ["", *_wrapped(f"not looked at: {'; '.join(rig.ignored)}")]
    return "\n".join(lines).rstrip() + "\n"


def _given_prices(rig: Rig) -> list[str]:
    """What the list says that its parts cost."""
    parts = [part for kind in KINDS for part in rig.of(kind)]
    prices = [part.price_usd for part in parts if part.price_usd is not None]
    if not prices:
        return []
    used = sum(part.condition == "used" for part in parts)
    words = f"{format_usd(sum(prices))} for {len(prices)} of {len(parts)} parts, as the list says"
    return _wrapped(words + (f"; {used} used" if used else ""))


def _finding(finding: Finding) -> list[str]:
    """One line for what is kept; what is not, with its fix and where the rule comes from."""
    head = f"{_HEADINGS[finding.severity]:<8} {finding.rule}: "
    lines = _wrapped(finding.found, first=head, rest=" " * 9)
    if finding.severity == OK:
        return lines
    lines += _wrapped(finding.fix, first=" " * 9 + "-> ", rest=" " * 12) if finding.fix else []
    if finding.severity in (PROBLEM, WARNING):
        lines += [line for text in finding.source for line in _wrapped(text, first=" " * 9 + "source: ", rest=" " * 11)]
    return lines


def build_text(answer: Build, *, brief: bool = False) -> str:
    """The parts and what they do; unless ``brief``, why, what to look at, what more money buys, the proof."""
    lines = [*_wrapped(_question(answer)), "", *_answer(answer), ""]
    lines += _parts(answer.chosen)
    if brief:
        return "\n".join(lines) + "\n"
    lines += ["", "why these", *_listed(f"{c.kind}: {c.why}" for c in answer.chosen if c.action != "keep")]
    left = unmended(answer.findings)
    lines += ["", "still as before", *_listed(_with_fix(f) for f in left)] if left else []
    looked = to_check(answer.findings)
    lines += ["", "look at this before buying", *_listed(_with_fix(f) for f in looked)] if looked else []
    lines += ["", "single changes", *_steps(answer.steps)] if answer.steps else []
    lines += ["", "more money", *_listed([_further(answer)])]
    lines += ["", "certificate", *_listed(_certificate(answer))]
    omitted = "; ".join(f"{n} {reason}" for reason, n in answer.left_out.items())
    lines += ["", "left out of the parts table", *_listed([omitted])] if omitted else []
    lines += ["", "good to know", *_listed(_notes(answer))]
    return "\n".join(lines) + "\n"


def _question(answer: Build) -> str:
    ask = answer.ask
    job = ask.task.job
    limits = [f"for at most {format_usd(ask.budget_usd)}" if ask.budget_usd < inf else ""]
    limits += [f"within {format_seconds(ask.deadline_s)}" if ask.deadline_s < inf else ""]
    best = "the fastest" if ask.minimize == "time" else "the cheapest"
    what = f"change to {ask.owned.name}" if ask.owned else "computer"
    head = f"{best} {what} for {job.model}, {job.task}, batch {ask.task.case.batch}"
    return ", ".join(part for part in [head, *limits] if part)


def _answer(answer: Build) -> list[str]:
    lines = [f"  {'costs':<8} {format_usd(answer.total_usd)}{_prices(answer)}"]
    speed = answer.speed
    if speed is not None and speed.samples_per_s:
        interval = f"(80 %: {format_count(speed.low_per_s)} to {format_count(speed.high_per_s)})"
        before = f", now {format_count(answer.now_per_s)}" if answer.now_per_s else ""
        lines.append(f"  {'does':<8} {format_count(speed.samples_per_s)} samples/s {interval}{before}")
        rests = f"; predicted from {speed.provenance}" if speed.provenance else ""
        lines += _wrapped(f"{speed.recipe}{rests}", first=f"  {'with':<8} ", rest=" " * 11)
    if answer.time_s is not None and answer.ask.task.steps > 1:
        lines.append(f"  {'takes':<8} {format_seconds(answer.time_s)} for the job")
    return lines


def _prices(answer: Build) -> str:
    end = "low end" if answer.ask.wish.price == "low" else "median"
    age = f", {answer.age_days} days ago" if answer.age_days else ""
    return f" at the {end} of prices asked on {answer.prices_of}{age}" if answer.prices_of else ""


def _parts(chosen: Sequence[Chosen]) -> list[str]:
    name_width = _WIDTH - 2 - 12 - 9 - 10 - 3
    lines = []
    for part in chosen:
        price = "" if part.action == "keep" else format_usd(part.price_usd)
        name = part.name if len(part.name) <= name_width else part.name[: name_width - 1] + "…"
        lines.append(f"  {part.kind:<12} {part.action:<8} {name:<{name_width}} {price:>9}".rstrip())
    return lines


def _steps(steps: Sequence[Step]) -> list[str]:
    return _listed(
        f"{s.kind}: {s.action} {s.name}, {format_usd(s.price_usd)}, {s.gain}"
        + (f": refused by {s.refused}" if s.refused else "")
        for s in steps
    )


def _further(answer: Build) -> str:
    found = answer.further
    if found is None:
        return "no build that keeps the rules is faster"
    rate = f"{format_count(found.samples_per_s)} samples/s"
    if found.more_usd > 0:
        return f"{format_usd(found.more_usd)} more ({format_usd(found.total_usd)}) buys {found.cards}: {rate}"
    return f"a faster one costs {format_usd(found.total_usd)}: {found.cards}, {rate}"


def _certificate(answer: Build) -> list[str]:
    proof = answer.proof
    gap = "no build under the rules is better under this estimate: gap 0"
    if proof.lower_bound < proof.best * (1 - 1e-12):
        gap = f"no build is better than {proof.lower_bound:.6g}, this one is {proof.best:.6g}"
    ranked = [f"{count:,} {name}" for name, count in list(proof.pruned.items())[:6]]
    more = len(proof.pruned) - len(ranked)
    ranked += [f"{more} more reasons"] if more > 0 else []
    cut = f"{proof.candidates:,} builds, ruled out unseen by: {', '.join(ranked)}"
    return [gap, cut, f"A*, {proof.expanded:,} states expanded, {format_seconds(proof.wall_s)}"]


def _notes(answer: Build) -> list[str]:
    notes = ["best means best under this estimate and these prices; yours stand in a parts list given with --parts"]
    if any(c.kind in ("ram", "storage") and c.as_of for c in answer.chosen):
        notes.append("memory and solid-state disks have become dearer since these prices were asked")
    vendors = sorted({device(card.device).vendor for card in answer.rig.gpu if card.device} - {"NVIDIA"})
    if vendors:
        notes.append(
            f"cards of {' and '.join(vendors)} need their own build of the framework; --vendor nvidia leaves them out"
        )
    return [*notes, *answer.ask.task.assumed]


def _with_fix(finding: Finding) -> str:
    return f"{finding.rule}: {finding.found}" + (f" -> {finding.fix}" if finding.fix else "")


def _listed(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(sentence, first="  - ", rest="    ")]


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    return wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
