"""What a server of a language model must take: requests, their lengths and how long they may wait."""

from __future__ import annotations

from dataclasses import dataclass

from rigwise.errors import InvalidInputError
from rigwise.units import HOUR_S
from rigwise.workload.job import Job, label

#: What prices by the month are told for. Source: 365 x 24 / 12 hours.
MONTH_S = 730 * HOUR_S
_MOST_TOKENS = 10**7


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A steady stream of equal requests.

    Attributes:
        rate_per_s: Requests that arrive in a second, over all replicas.
        prompt_tokens, output_tokens: Of each request.
        ttft_s: Longest time to the first token, None for any.
        tpot_s: Longest mean time from one token of a request to its next, None for any.
        utilisation_frac: Part of the rate that a replica could take which it is planned for.
        duration_s: How long to serve; what costs are told for.
    """

    rate_per_s: float
    prompt_tokens: int
    output_tokens: int
    ttft_s: float | None = None
    tpot_s: float | None = None
    utilisation_frac: float = 1.0
    duration_s: float = MONTH_S

    @property
    def decode_steps(self) -> int:
        """Tokens of a request after the first, which the prompt gives."""
        return self.output_tokens - 1

    @property
    def mean_context(self) -> int:
        """Tokens in the cache of a request, on average over its decode steps."""
        return self.prompt_tokens + self.output_tokens // 2

    @property
    def longest_context(self) -> int:
        """Tokens in the cache of a request before its last one."""
        return self.prompt_tokens + self.output_tokens - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingJob:
    """A load, and the job that says which model, which market and how sure.

    Attributes:
        load: The requests.
        job: Its task is ``decode``, its amount the tokens of one request.
    """

    load: Serving
    job: Job


def check_load(load: Serving, where: str) -> Serving:
    """The same load, if its values can mean anything.

    Raises:
        InvalidInputError: One of them cannot; names the key.
    """
    for key, value, least, most in (
        ("rate", load.rate_per_s, 1e-6, 1e6),
        ("prompt", load.prompt_tokens, 1, _MOST_TOKENS),
        ("output_tokens", load.output_tokens, 1, _MOST_TOKENS),
        ("ttft", load.ttft_s, 1e-6, 1e6),
        ("tpot", load.tpot_s, 1e-6, 1e6),
        ("utilisation", load.utilisation_frac, 0.01, 1.0),
        ("duration", load.duration_s, 1.0, 1e10),
    ):
        if value is not None and not least <= value <= most:
            unit = {"rate": "/s", "ttft": " s", "tpot": " s", "duration": " s"}.get(key, "")
            raise InvalidInputError(
                f"{where}: {label(f'workload.{key}', where)} is {value:g}{unit}",
                hint=f"give a value from {least:g} to {most:g}{unit}",
            )
    return load
