"""What serving a language model takes, as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

from rigwise.estimate.serving import Serving, ServingPoint
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

_WIDTH = 80


def serving_text(serving: Serving, *, brief: bool = False) -> str:
    """The question, a prompt, the grid of batches and contexts, the room for the cache; why, unless ``brief``."""
    lines = [*_question(serving), "", *_prompt(serving), "", *_grid(serving), "", *_limits(serving)]
    if not brief:
        lines += ["", *wrap("assumed: " + "; ".join(serving.assumed), _WIDTH, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _question(serving: Serving) -> list[str]:
    case = serving.case
    devices = f"{serving.count} x {case.device}" if serving.count > 1 else case.device
    words = [f"serve {case.model} on {devices}", case.dtype or "", f"by {case.runtime}", case.mode]
    if case.count > 1:
        words.append(f"{case.count} devices a replica")
    if serving.replicas > 1:
        words.append(f"{serving.replicas} replicas")
    price = f"{format_usd(serving.price.usd_per_h)}/h: {serving.price.basis}" if serving.price else "none known"
    return [*wrap(", ".join(words), _WIDTH), *wrap(f"price {price}", _WIDTH, break_on_hyphens=False)]


def _interval(values: Mapping[str, float], show: object) -> str:
    low, middle, high = (show(values[q]) for q in ("p10", "p50", "p90"))  # type: ignore[operator]
    return f"{middle}   (80 %: {low} to {high})"


def _binding(binds: Mapping[str, float]) -> str:
    name = max(binds, key=lambda key: binds[key])
    return f"{name} {format_fraction(binds[name])}"


def _prompt(serving: Serving) -> list[str]:
    prompt = serving.prompt
    lines = [
        f"a prompt of {prompt.tokens} tokens",
        f"  first token  {_interval(prompt.first_token_s, format_seconds)}",
        f"  rate         {format_count(prompt.tokens_per_s['p50'])} tokens/s   bound by {_binding(prompt.binds)}",
    ]
    if prompt.usd_per_million_tokens:
        lines.append(f"  a million    {_interval(prompt.usd_per_million_tokens, format_usd)}")
    return lines if prompt.fits else [*lines, "  DOES NOT FIT"]


def _grid(serving: Serving) -> list[str]:
    head = ("context", "batch", "a token", "80 % in", "user tok/s", "all tok/s", "$/M tok", "bound by")
    rows = [head, *(_row(point) for point in serving.points)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["decode: batch sequences at one time on each replica; ! does not fit"]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append(("  " + "  ".join(cells) + "  " + row[-1]).rstrip())
    return lines


def _row(point: ServingPoint) -> tuple[str, ...]:
    time = point.token_s
    below, above = 1 - time["p10"] / time["p50"], time["p90"] / time["p50"] - 1
    dollars = point.usd_per_million_tokens
    return (
        str(point.context),
        f"{point.batch}" + (" " if point.fits else "!"),
        format_seconds(time["p50"]),
        f"-{below * 100:.0f}/+{above * 100:.0f}%",
        format_count(point.user_tokens_per_s["p50"]),
        format_count(point.tokens_per_s["p50"]),
        format_usd(dollars["p50"]) if dollars else "-",
        max(point.binds, key=lambda key: point.binds[key]),
    )


def _limits(serving: Serving) -> list[str]:
    lines = [
        f"memory of a device: {format_bytes(serving.capacity_bytes)},"
        f" of which weights {format_bytes(serving.weights_bytes)}"
    ]
    for limit in serving.limits:
        most = f"at most {limit.most_sequences} at one time" if limit.most_sequences else "not even one fits"
        lines.append(f"  context {limit.context}: cache of {format_bytes(limit.sequence_bytes)} a sequence, {most}")
    return lines
