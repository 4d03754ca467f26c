"""``rigwise plan`` for several job files: planned side by side, answered in their order."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plan_job import jobs_at
from rigwise.cli.plan_options import flag_of
from rigwise.cli.plot_option import draw
from rigwise.cli.report_option import write_report
from rigwise.errors import InvalidInputError

T = TypeVar("T")


def plan_many(
    targets: tuple[str, ...],
    given: dict[str, Any],
    written: dict[str, str],
    where: tuple[str | None, int | None],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Plan many jobs; 1 if one of them has no plan.

    Args:
        targets: Job files.
        given: Flags that describe a job, of which there may be none.
        written: Files of ``--own``, ``--output`` and ``--report``.
        where: ``--engine`` and ``--jobs``.
        as_json: Print one JSON document.
        quiet: Print the answer only.

    Raises:
        RigwiseError: The engine cannot be used, or the flags belong to a single job.
    """
    if given:
        names = ", ".join(map(flag_of, given))
        raise InvalidInputError(f"{names} cannot be combined with several jobs", hint="write it into the job files")
    from datetime import date

    from rigwise.edge import as_plain
    from rigwise.execute.plans import SCHEMA, answers, is_answered
    from rigwise.execute.spread import PROCESS, engine_of
    from rigwise.report.plans_text import plans_text

    engine = engine_of(where[0] or PROCESS, where[1])
    found = answers(jobs_at(targets, written.get("own")), date.today(), engine)
    results = list(found if quiet else _counted(found, len(targets)))
    document = {"schema": SCHEMA, "results": results}
    if any(map(is_answered, results)):
        draw(as_plain(document), quiet=quiet)
    write_report(lambda command: _page(as_plain(document), command), quiet=quiet)
    if "output" in written:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_output(written["output"], text, quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(plans_text(results), end="", markup=False, soft_wrap=True)
    return 0 if all(map(is_answered, results)) else 1


def _page(document: dict[str, Any], command: str) -> str:
    from rigwise.report.jobs_page import jobs_page

    return jobs_page(document, command=command)


def _counted(found: Iterable[T], total: int) -> Iterator[T]:
    """The same, with a line on a terminal that says how many are done."""
    shown = sys.stderr.isatty()
    for number, one in enumerate(found, 1):
        if shown:
            print(f"\rplanned {number} of {total}", end="\n" if number == total else "", file=sys.stderr, flush=True)
        yield one
