"""``rigwise plan --explain change`` and ``--explain choice``: what would change the answer, and why it is so."""

from __future__ import annotations

from typing import Any

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plot_option import without_plot
from rigwise.errors import InfeasibleError, InvalidInputError


def explain_answer(what: str, job: Any, world: Any, *, output: str | None, as_json: bool, quiet: bool) -> int:
    """Solve a job, then solve it again with something changed, and print what comes of it."""
    import json

    from rigwise.report import explain_text as words
    from rigwise.search.changes import what_would_change
    from rigwise.search.sensitivity import Again
    from rigwise.workload.job import StagedJob

    without_plot(f"what --explain {what} tells")
    if isinstance(job, StagedJob):
        raise InvalidInputError(f"--explain {what} explains one job, not one of several stages")
    try:
        again = Again(job, world(job.model))
    except InfeasibleError as error:
        if as_json:
            schema = words.CHANGE_SCHEMA if what == "change" else words.CHOICE_SCHEMA
            print_json({"schema": schema, "infeasible": error.as_dict()})
        raise
    if what == "change":
        first, changes = again.plan(again.first), what_would_change(again)
        document, text = words.change_document(job, first, changes), words.change_text(job, first, changes, brief=quiet)
    else:
        from rigwise.search.choice import choice

        chosen = choice(again)
        document, text = words.choice_document(job, chosen), words.choice_text(job, chosen, brief=quiet)
    if output is not None:
        write_output(output, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(text, end="", markup=False, soft_wrap=True)
    return 0
