"""``rigwise plan --explain spot``: what interruptions do to the best plan on spot capacity."""

from __future__ import annotations

from typing import Any

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plot_option import draw
from rigwise.errors import InfeasibleError, InvalidInputError


def check_flags(explain: str | None, details: tuple[str | None, str | None], others: dict[str, Any]) -> None:
    """Refuse flags that mean nothing with the explanation, or without it.

    Raises:
        InvalidInputError: There is one.
    """
    for name, of, value in zip(("--trace", "--load"), ("spot", "buying"), details, strict=True):
        if value is not None and explain != of:
            raise InvalidInputError(f"{name} is for --explain {of}", hint=f"add --explain {of}")
    wrong = [name for name, given in others.items() if given]
    if explain is not None and wrong:
        raise InvalidInputError(f"--explain {explain} explains one job, without {', '.join(wrong)}")


def explain_spot_plan(
    job: Any, world: Any, trace: str | None, *, output: str | None, as_json: bool, quiet: bool
) -> int:
    """Plan a job and print what its best plan on spot capacity comes to."""
    import json

    from rigwise.edge import read_text
    from rigwise.market.trace import read_trace
    from rigwise.report.spot_text import SCHEMA, spot_document, spot_text
    from rigwise.search.plan import plan
    from rigwise.search.spot import best_spot_plan, require_spot, spot_answer
    from rigwise.workload.job import StagedJob

    if isinstance(job, StagedJob):
        raise InvalidInputError("--explain spot explains one job, not one of several stages")
    require_spot(job)
    recorded = read_text(trace) if trace is not None else None
    around = world(job.model)
    try:
        result = plan(job, around)
        machines = best_spot_plan(result).nodes
        history = read_trace(recorded, str(trace), machines) if recorded is not None else None
        answer = spot_answer(result, around, history)
    except InfeasibleError as error:
        if as_json:
            print_json({"schema": SCHEMA, "infeasible": error.as_dict()})
        raise
    document = spot_document(answer)
    if output is not None:
        write_output(output, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", quiet=quiet)
    draw(document, quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(spot_text(answer, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0
