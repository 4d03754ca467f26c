"""``rigwise plan --explain buying``: the best machine to buy against the best to rent."""

from __future__ import annotations

from typing import Any

from rigwise.cli.output import console, print_json, write_output
from rigwise.errors import InfeasibleError, InvalidInputError


def explain_buying(job: Any, world: Any, *, output: str | None, as_json: bool, quiet: bool) -> int:
    """Plan a job on what can be bought and on what can be rented, and print when buying pays."""
    import json

    from rigwise.facts.catalogue import parts
    from rigwise.report.break_even_text import SCHEMA, break_even_document, break_even_text
    from rigwise.search.buying import buying_answer
    from rigwise.workload.job import StagedJob

    if isinstance(job, StagedJob):
        raise InvalidInputError("--explain buying explains one job, not one of several stages")
    try:
        answer, machine = buying_answer(job, world(job.model), parts())
    except InfeasibleError as error:
        if as_json:
            print_json({"schema": SCHEMA, "infeasible": error.as_dict()})
        raise
    document = break_even_document(answer, machine.parts)
    if output is not None:
        write_output(output, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(break_even_text(answer, machine.parts, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0
