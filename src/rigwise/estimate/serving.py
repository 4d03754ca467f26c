"""Serving a language model, the static part: prompts, tokens and dollars for fixed numbers of sequences.

For each batch of sequences and each context, one decode step and one prompt are predicted as any case is; rates,
the room for the cache and dollars follow by arithmetic. Nothing queues: no arrivals, no scheduling of prompts
between decode steps, no sequences of different lengths. A server under load waits longer than this.

Source: Kwon et al., "PagedAttention", 2023, sections 2 and 4 (cache, pages); Pope et al., "Efficiently Scaling
Transformer Inference", 2022, section 2 (what bounds prefill and decode).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.estimate.predict import Prediction, best_format_of, predict
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.graph.op import Role
from rigwise.machine.this import resolve_device
from rigwise.units import HOUR_S
from rigwise.workload.case import Case

#: A runtime that replays recorded launches and pages its cache.
DEFAULT_RUNTIME = "vllm"
DEFAULT_BATCHES, DEFAULT_CONTEXTS = (1, 8, 32), (1024, 8192)
DEFAULT_PROMPT = 1024
#: Sequences and tokens beyond which a question is a slip of the pen.
MOST_SEQUENCES = 1 << 20
MOST_TOKENS = 10**9
_POSITION_TABLES = ("wpe", "position_embeddings", "embed_positions", "position_embedding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What all devices cost together.

    Attributes:
        usd_per_h: Dollars for an hour of all devices.
        basis: Where the figure comes from, in words.
    """

    usd_per_h: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingQuestion:
    """What to serve, on what, and for which loads.

    Attributes:
        case: Model, device, count, format and parallelism; its task and sizes are replaced. Where it names no
            format, that is the quickest of 16 or 32 bits.
        batches: Sequences served at one time by each replica.
        contexts: Tokens that each of them has in the cache; empty: the usual ones that the model can have.
        prompt: Tokens of a prompt; None: the usual number, or as many as the model can have.
        price: Of all devices; None leaves dollars out.
    """

    case: Case
    batches: tuple[int, ...] = DEFAULT_BATCHES
    contexts: tuple[int, ...] = ()
    prompt: int | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPoint:
    """Decode of one batch at one context. Quantiles are those of the step time.

    Attributes:
        batch, context: Sequences of a replica and tokens each has in the cache.
        token_s: Time from one token of a sequence to its next.
        user_tokens_per_s: Tokens of one sequence in a second.
        tokens_per_s: Tokens of all sequences of all replicas in a second.
        usd_per_million_tokens: Output tokens, while nothing else runs; None without a price.
        memory_bytes, fits: Peak of the fullest device, and whether it has that much.
        binds: Fractions of the time by what limits it.
    """

    batch: int
    context: int
    token_s: Mapping[str, float]
    user_tokens_per_s: Mapping[str, float]
    tokens_per_s: Mapping[str, float]
    usd_per_million_tokens: Mapping[str, float] | None
    memory_bytes: float
    fits: bool
    binds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt alone on a replica.

    Attributes:
        tokens: Its length.
        first_token_s: Time to its first token, if it waits for nothing.
        tokens_per_s: Prompt tokens of all replicas in a second.
        usd_per_million_tokens: Input tokens, while nothing else runs; None without a price.
        fits, binds: As of a ``ServingPoint``.
    """

    tokens: int
    first_token_s: Mapping[str, float]
    tokens_per_s: Mapping[str, float]
    usd_per_million_tokens: Mapping[str, float] | None
    fits: bool
    binds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimit:
    """What one context costs in memory.

    Attributes:
        context: Tokens in the cache of each sequence.
        sequence_bytes: Cache of one sequence on all devices of its replica, in whole pages.
        most_sequences: Sequences of one replica for which decode still fits; 0 if not even one does.
    """

    context: int
    sequence_bytes: float
    most_sequences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The answer to a ``ServingQuestion``.

    Attributes:
        case: As resolved for decode, one replica.
        replicas: Copies of the model among all devices.
        count: All devices.
        prompt: One prompt.
        points: Every context with every batch.
        limits: One for each context.
        weights_bytes, capacity_bytes: Of one device.
        longest_context: Positions that the model has; None where it computes them.
        price: Of all devices.
        provenance: What the times rest on.
        assumed: Sentences.
    """

    case: Case
    replicas: int
    count: int
    prompt: Prompt
    points: tuple[ServingPoint, ...]
    limits: tuple[CacheLimit, ...]
    weights_bytes: float
    capacity_bytes: float
    longest_context: int | None
    price: Price | None
    provenance: str
    assumed: tuple[str, ...]


def serve(question: ServingQuestion, model: Model | None = None) -> Serving:
    """Answer for every context and batch.

    Raises:
        InvalidInputError: No batch or context, or one that cannot be.
        UnsupportedError: The model has no decode step, or its positions end before the context.
        RigwiseError: What ``predict`` raises.
    """
    model = model or load_model(question.case.model)
    _check(question, model)
    longest = longest_context(model)
    replica, replicas = _replica_of(question.case)
    assumed = []
    if replica.dtype is None:
        replica = replace(replica, dtype=best_format_of(resolve_device(replica.device)))
        assumed.append(f"dtype {replica.dtype}")
    tokens = question.prompt or min(DEFAULT_PROMPT, longest or DEFAULT_PROMPT)
    has_context = "c" in model.graph("decode").symbols

    @cache
    def ask(batch: int, context: int) -> Prediction:
        decode = replace(replica, task="decode", batch=batch, context=context if has_context else None, seq=None)
        return predict(decode, model)

    prompt = predict(replace(replica, task="prefill", batch=1, seq=tokens, context=None), model)
    contexts = question.contexts or _usual_contexts(longest)
    cost = (replicas, question.price)
    least = ask(1, contexts[0])
    return Serving(
        case=least.case,
        replicas=replicas,
        count=question.case.count,
        prompt=_prompt(prompt, tokens, cost),
        points=tuple(_point(ask(batch, context), context, cost) for context in contexts for batch in question.batches),
        limits=tuple(_limit(ask, context) for context in contexts),
        weights_bytes=least.memory_terms.get("weights", 0.0),
        capacity_bytes=least.capacity_bytes,
        longest_context=longest,
        price=question.price,
        provenance=least.provenance,
        assumed=(*assumed, *_assumed(least, longest, grows=_cache_grows(model))),
    )


def _usual_contexts(longest: int | None) -> tuple[int, ...]:
    """The usual contexts, none beyond what leaves room for one new token."""
    most = DEFAULT_CONTEXTS[-1] if longest is None else longest - 1
    return tuple(dict.fromkeys(min(context, most) for context in DEFAULT_CONTEXTS))


def _check(question: ServingQuestion, model: Model) -> None:
    if "decode" not in model.graphs:
        raise UnsupportedError(
            f"{model.name} has no decode step, so it serves no tokens", hint=f"predict {model.name} --task infer"
        )
    prompts = () if question.prompt is None else (question.prompt,)
    longest = longest_context(model) or MOST_TOKENS
    _check_list("batch", question.batches, MOST_SEQUENCES)
    for name, values, most in (("context", question.contexts, longest - 1), ("seq", prompts, longest)):
        if values:
            _check_list(name, values, MOST_TOKENS)
        if max(values, default=0) > most:
            raise UnsupportedError(
                f"{model.name} has {longest} positions, too few for {name} {max(values)}",
                hint=f"--{name} of at most {most}" + (", which leaves room for a new token" if most < longest else ""),
            )
    price = question.price
    if price is not None and not 0 < price.usd_per_h < 1e9:
        raise InvalidInputError(f"a price of {price.usd_per_h:g} dollars an hour", hint="give a number above 0")


def _check_list(name: str, values: Sequence[int], most: int) -> None:
    if not values:
        raise InvalidInputError(f"{name} is empty", hint=f"--{name} 1,8,32")
    for value in values:
        if not 1 <= value <= most:
            raise InvalidInputError(f"{name} is {value}", hint=f"{name} must be a whole number from 1 to {most}")


def longest_context(model: Model) -> int | None:
    """Positions in the table of learned ones; None where positions are computed, and nothing ends them.

    Tables after BART's (OPT has one) begin with two rows that no token uses.
    """
    for parameter in model.parameters:
        words = parameter.name.split(".")
        if len(parameter.shape) == 2 and any(table in words for table in _POSITION_TABLES):
            rows = parameter.shape[0]
            return rows - 2 if "embed_positions" in words and rows % 16 == 2 else rows
    return None


def _cache_grows(model: Model) -> bool:
    """Whether a longer context takes a larger cache; a state keeps its size."""
    graph = model.graph("decode")
    kept = [tensor for op in graph.ops for tensor in op.inputs if tensor.role is Role.CACHE]
    sizes = [sum(tensor.elements({**graph.symbols, "c": tokens}) for tensor in kept) for tokens in (1, 2)]
    return bool(sizes[1] > sizes[0])


def _replica_of(case: Case) -> tuple[Case, int]:
    """The devices of one copy of the model, and how many copies there are.

    Raises:
        InvalidInputError: Tensor and pipeline groups do not divide the devices.
    """
    group = case.parallel.tensor * case.parallel.pipeline
    if case.count % group or case.count % case.nodes:
        raise InvalidInputError(
            f"tensor {case.parallel.tensor} x pipeline {case.parallel.pipeline} does not divide {case.count} devices"
            f" in {case.nodes} nodes",
        )
    per_node = case.count // case.nodes
    if group > per_node and group % per_node:
        raise InvalidInputError(f"a replica of {group} devices does not fill whole nodes of {per_node}")
    nodes = max(1, group // per_node)
    parallel = replace(case.parallel, data=1, micro_batch=None)
    return replace(case, count=group, nodes=nodes, parallel=parallel), case.count // group


def _point(p: Prediction, context: int, cost: tuple[int, Price | None]) -> ServingPoint:
    replicas, price = cost
    rate = _rates(p.step_time_s, p.case.batch * replicas)
    return ServingPoint(
        batch=p.case.batch,
        context=context,
        token_s=p.step_time_s,
        user_tokens_per_s=_rates(p.step_time_s, 1),
        tokens_per_s=rate,
        usd_per_million_tokens=_dollars(rate, price),
        memory_bytes=p.peak_memory_bytes["p50"],
        fits=p.fits,
        binds=p.binds,
    )


def _prompt(p: Prediction, tokens: int, cost: tuple[int, Price | None]) -> Prompt:
    replicas, price = cost
    rate = _rates(p.step_time_s, tokens * replicas)
    return Prompt(
        tokens=tokens,
        first_token_s=p.step_time_s,
        tokens_per_s=rate,
        usd_per_million_tokens=_dollars(rate, price),
        fits=p.fits,
        binds=p.binds,
    )


def _rates(time_s: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Tokens in a second; the slow time gives the low rate."""
    return {"p10": tokens / time_s["p90"], "p50": tokens / time_s["p50"], "p90": tokens / time_s["p10"]}


def _dollars(tokens_per_s: Mapping[str, float], price: Price | None) -> dict[str, float] | None:
    """Dollars for a million tokens; the low rate is the dear one."""
    if price is None:
        return None
    cost = {name: usd_per_million(price.usd_per_h, rate) for name, rate in tokens_per_s.items()}
    return {"p10": cost["p90"], "p50": cost["p50"], "p90": cost["p10"]}


def usd_per_million(usd_per_h: Any, tokens_per_s: Any) -> Any:
    """Dollars for a million tokens at an hourly price and a steady rate.

    Source: the definition of both.

    >>> usd_per_million(3.6, 1000.0)
    1.0
    """
    return usd_per_h / HOUR_S / tokens_per_s * 1e6


def _limit(ask: Any, context: int) -> CacheLimit:
    """Most sequences that fit: doubled until they do not, then halved in between."""
    one = ask(1, context)
    group = one.case.parallel.tensor * one.case.parallel.pipeline
    low, high = 0, 1
    while high <= MOST_SEQUENCES and ask(high, context).fits:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle, context).fits else (low, middle)
    return CacheLimit(
        context=context,
        sequence_bytes=one.memory_terms.get("kv_cache", 0.0) * group,
        most_sequences=low,
    )


def _assumed(p: Prediction, longest: int | None, *, grows: bool) -> tuple[str, ...]:
    words = [word for word in p.assumed if not word.startswith(("context ", "seq "))]
    if p.case.runtime == DEFAULT_RUNTIME:
        words.append(f"runtime {p.case.runtime}: launches are replayed, and the cache is kept in pages of 16 tokens")
    if p.case.mode == "compiled":
        words.append("the runtime fuses what lies between matrix products")
    words.append("all sequences are equally long, and none waits for another: no queue is modelled")
    words.append("a prompt runs alone; dollars are for devices that do nothing else meanwhile")
    if not grows:
        words.append("what the model keeps of a sequence does not grow with it, so every context costs the same")
    elif longest is None:
        words.append("the model computes its positions: how long a context it was trained for is not known here")
    return tuple(words)


def serving_document(serving: Serving) -> dict[str, Any]:
    """The JSON object of ``rigwise.serving/1``."""
    from rigwise.edge import as_plain

    return {"schema": "rigwise.serving/1", **as_plain(serving)}
