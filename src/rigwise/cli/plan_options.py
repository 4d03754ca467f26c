"""The flags of ``rigwise plan`` that describe a job, and the keys of a job file that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rigwise.errors import InvalidInputError
from rigwise.workload.case import METHODS, OPTIMIZERS

F = TypeVar("F", bound=Callable[..., Any])


def _table(name: str, *keys: str) -> dict[str, tuple[str, ...]]:
    return {key: (name, key) for key in keys}


#: Flag -> place in a job file.
PLACES: dict[str, tuple[str, ...]] = {
    **_table("workload", "task", "method", "lora_rank", "optimizer", "samples", "tokens", "steps", "epochs"),
    **_table("workload", "dataset_size", "batch", "seq", "context", "image_size", "runs", "parallel_runs"),
    **_table("workload", "rate", "prompt", "output_tokens", "ttft", "tpot", "utilisation", "duration"),
    "loss_curve": ("workload", "until", "curve"),
    "until_loss": ("workload", "until", "loss"),
    **{f"data_{key}": ("data", key) for key in ("size", "at", "format")},
    **_table("data", "download", "checkpoint"),
    **_table("constraints", "deadline", "budget", "hourly_cap", "confidence", "allow_quantised", "countries"),
    **_table("constraints", "max_nodes", "quota"),
    **_table("market", "providers", "regions", "devices", "spot", "buy", "horizon", "hours_per_week", "tax", "setup"),
    **_table("market", "max_price_age", "rates"),
    **_table("objective", "minimize", "weights", "value_of_time", "gap", "top", "frontier_energy"),
}

#: Flags that are not spelled like their parameter.
_SPELLING = {"providers": "provider", "regions": "region", "devices": "device", "countries": "country"}
_SPELLING |= {"weights": "weight", "rates": "exchange"}
_WEIGHTS = ("cost", "time", "energy", "carbon")

_JOB_OPTIONS = (
    click.option("--task", help="train, infer, prefill, decode or serve.  [default: train]"),
    click.option("--samples", help="How much work: samples ..."),
    click.option("--tokens", help="... or tokens ..."),
    click.option("--steps", help="... or steps ..."),
    click.option("--epochs", help="... or epochs of --dataset-size samples ..."),
    click.option("--dataset-size", help="Samples of one epoch."),
    click.option("--until-loss", help="... or until this loss, by a measured --loss-curve."),
    click.option("--loss-curve", metavar="FILE", help="CSV of samples, tokens, steps or epochs, and loss."),
    click.option("--batch", help="Global batch of one step.  [default: the model's reference batch]"),
    click.option("--seq", help="New tokens per sequence."),
    click.option("--context", help="Tokens in the cache when one more is decoded."),
    click.option("--image-size", help="Height and width of images."),
    click.option("--method", type=click.Choice(METHODS), help="Full training, LoRA or QLoRA.  [default: full]"),
    click.option("--lora-rank", type=int, help="Rank of the adapters.  [default: 16]"),
    click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="[default: adamw]"),
    click.option("--runs", help="Equal runs, those of a sweep.  [default: 1]"),
    click.option("--parallel-runs", help="How many of them may run at once.  [default: 1]"),
    click.option("--rate", help="To serve: requests that arrive, 20/s or 500/h say."),
    click.option("--prompt", help="Tokens of a prompt, 2k say."),
    click.option("--output-tokens", help="Tokens of an answer; when serving, --output 300 says the same."),
    click.option("--ttft", help="Longest time to the first token, 500ms say."),
    click.option("--tpot", help="Longest mean time for each token after it, 40ms say."),
    click.option("--utilisation", help="Part of what it can take that a replica is planned for.  [default: 1]"),
    click.option("--duration", help="How long to serve; what costs are told for.  [default: a month of 730h]"),
    click.option("--data-size", help="Size of the data, 100GB say."),
    click.option("--data-at", help="Where they lie: local, s3, a provider or provider/region."),
    click.option("--data-format", help="What they are: jpeg, tokens ..."),
    click.option("--download", help="Rate at which they reach the machine, 1Gbit/s say."),
    click.option("--checkpoint", help="Size of what is saved, 16GB say."),
    click.option("--deadline", help="Longest time, 24h say."),
    click.option("--budget", help="Most money, $100 say."),
    click.option("--hourly-cap", help="Most that all machines may cost in an hour, $8 say."),
    click.option("--confidence", help="Probability with which limits are kept.  [default: 0.9]"),
    click.option("--country", "countries", multiple=True, help="Only regions in this country (DE); may be repeated."),
    click.option("--max-nodes", help="Most nodes of one plan.  [default: 8]"),
    click.option("--quota", metavar="FILE", help="The most devices of a provider: a TOML file of [[quota]] tables."),
    click.option(
        "--minimize",
        type=click.Choice(("cost", "time", "energy", "carbon", "weights", "latency", "throughput")),
        help="What is best.  [default: cost; of an application the highest throughput]",
    ),
    click.option(
        "--weight",
        "weights",
        multiple=True,
        metavar="NAME=VALUE",
        help="Minimize a sum: cost=1, time=$30/h, energy=$0.30/kWh, carbon=$100/t; repeated.",
    ),
    click.option("--value-of-time", help="What an hour of waiting costs, $30/h say; counts beside the cost."),
    click.option("--spot/--no-spot", default=None, help="Use capacity that can be taken away.  [default: no-spot]"),
    click.option("--own", metavar="FILE", help="Machines that already stand there: a TOML file of [[owned]] tables."),
    click.option("--buy/--no-buy", default=None, help="Consider buying.  [default: no-buy]"),
    click.option("--horizon", help="How long what is bought would be used, 24mo say."),
    click.option("--hours-per-week", help="Hours of a week in which it would work.  [default: 168]"),
    click.option("--tax", help="Tax on every price, 19% say.  [default: 0]"),
    click.option("--setup", help="Time to start a rented machine and install what is needed."),
    click.option(
        "--exchange", "rates", multiple=True, metavar="CURRENCY=USD", help="Dollars for one unit: EUR=1.08; repeated."
    ),
    click.option("--provider", "providers", multiple=True, help="Only this provider; may be repeated."),
    click.option("--region", "regions", multiple=True, help="Only this region; may be repeated."),
    click.option("--device", "devices", multiple=True, help="Only this device; may be repeated."),
    click.option("--max-price-age", help="Older prices do not count.  [default: 365d]"),
    click.option("--allow-quantised", is_flag=True, default=None, help="Allow 8- and 4-bit weights for inference."),
    click.option("--gap", help="A plan at most this much worse than the best will do.  [default: 0]"),
    click.option("--top", type=int, help="Plans to show.  [default: 5]"),
    click.option("--frontier-energy", is_flag=True, default=None, help="A frontier of cost, time and energy."),
)


def job_options(function: F) -> F:
    """The flags that describe a job, in the order of the help."""
    for option in reversed(_JOB_OPTIONS):
        function = option(function)
    return function


def flag_of(name: str) -> str:
    """A flag as it is typed."""
    return "--" + _SPELLING.get(name, name).replace("_", "-")


def tables_of(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """The tables of a job file that say what the flags say.

    Raises:
        InvalidInputError: A pair of name and value that is none.
    """
    if ("until_loss" in given) != ("loss_curve" in given):
        raise InvalidInputError("command line: --until-loss and --loss-curve go together", hint="give both")
    tables: dict[str, Any] = {"workload": {"model": model}}
    for name, value in given.items():
        *path, key = PLACES[name]
        inner = tables
        for part in path:
            inner = inner.setdefault(part, {})
        inner[key] = _pairs(name, value) if name in ("weights", "rates") else value
    if "weights" in given:
        tables["objective"].setdefault("minimize", "weights")
    return tables


def _pairs(name: str, values: tuple[str, ...]) -> dict[str, Any]:
    """``("time=$30/h",)`` as a table; rates are numbers."""
    table: dict[str, Any] = {}
    for text in values:
        key, equals, value = text.partition("=")
        known = name == "rates" or key.strip() in _WEIGHTS
        if not (key and equals and value and known) or key in table:
            hint = "write EUR=1.08" if name == "rates" else "write cost=, time=, energy= or carbon=, time=$30/h say"
            raise InvalidInputError(f"command line: {flag_of(name)} is {text!r}", hint=hint)
        table[key.strip()] = _number(value, name) if name == "rates" else value
    return table


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(f"command line: {flag_of(name)}: {text!r} is no number", hint="EUR=1.08") from None
