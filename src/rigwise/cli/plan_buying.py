"""``rigwise plan --explain buying``: the best machine to buy against the best to rent."""

from __future__ import annotations

from typing import Any

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plot_option import draw
from rigwise.errors import InfeasibleError, InvalidInputError


def explain_buying(
    job: Any, world: Any, load: str | None = None, *, output: str | None, as_json: bool, quiet: bool
) -> int:
    """Plan a job on what can be bought and on what can be rented, and print when buying pays.

    Args:
        job: The job.
        world: The world of a model.
        load: Jobs of each week, or a file of them; None for the hours a week of the horizon.
        output: A file for the document.
        as_json: Print one JSON document.
        quiet: Print the answer only.
    """
    import json

    from rigwise.facts.catalogue import parts
    from rigwise.report.break_even_text import SCHEMA, break_even_document, break_even_text
    from rigwise.report.load_text import load_document, load_text
    from rigwise.search.buying import buying_answer, load_answer
    from rigwise.workload.job import StagedJob

    if isinstance(job, StagedJob):
        raise InvalidInputError("--explain buying explains one job, not one of several stages")
    jobs_by_week = None if load is None else _load(load)
    try:
        if jobs_by_week is None:
            answer, machine = buying_answer(job, world(job.model), parts())
        else:
            answer, machine, varying = load_answer(job, world(job.model), parts(), jobs_by_week)
    except InfeasibleError as error:
        if as_json:
            print_json({"schema": SCHEMA, "infeasible": error.as_dict()})
        raise
    document = break_even_document(answer, machine.parts)
    text = break_even_text(answer, machine.parts, brief=quiet)
    if jobs_by_week is not None:
        document, text = {**document, "load": load_document(varying)}, load_text(varying, answer) + "\n" + text
    if output is not None:
        write_output(output, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", quiet=quiet)
    draw(document, quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(text, end="", markup=False, soft_wrap=True)
    return 0


def _load(text: str) -> tuple[float, ...]:
    """Of the flag itself, or of the file that it names."""
    from pathlib import Path

    from rigwise.edge import read_text
    from rigwise.market.load import read_load

    if Path(text).is_file():
        return read_load(read_text(text, limit_bytes=2**20), text)
    return read_load(text, "--load")
