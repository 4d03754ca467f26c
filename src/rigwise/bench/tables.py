"""Tables: the sum by group and the join of two, with pandas, Polars, and cuDF on a GPU of NVIDIA.

The rows stand in memory already. A sum by group must read each key and each value once, which is the limit that is
stated; hashing, sorting and copying come on top. Every result is compared with NumPy's before it is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting
from rigwise.bench.libraries import compared, needed, rapids
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, Context, Raw

#: Rows of the long table; keys of both, each once in the short one.
ROWS, KEYS = 1_000_000, 10_000
ROWS_OF_GPU = 20_000_000
#: A key and a value, of eight bytes each.
_ROW_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A long table of keys and values, and a short one with another value for each key, as NumPy arrays."""

    key: Any
    value: Any
    short_key: Any
    short_value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Both operations in one library; each returns a number that tells whether it was done right.

    Attributes:
        group: The sum of values by key: the largest of these sums.
        join: Values beside those of the short table: the sum of their products.
    """

    group: Callable[[], float]
    join: Callable[[], float]


def run(context: Context) -> Iterator[Raw]:
    """Rows a second, by operation and library."""
    count = ROWS if context.target == "cpu" else ROWS_OF_GPU
    columns = columns_of(context, int(min(count, context.memory_bytes / _ROW_BYTES / 20)))
    libraries = {"pandas": pandas, "polars": polars, "cudf": cudf}
    for operation in ("group", "join"):
        names = [name for name in libraries if is_wanted(context, f"tables.{operation}.{name}")]
        yield from compared(
            {
                f"tables.{operation}.{name}": lambda n=name, o=operation: _figure(  # type: ignore[misc]
                    context, columns, (o, n), libraries[n]
                )
                for name in names
            },
            ITEMS,
        )


def columns_of(context: Context, rows: int) -> Columns:
    """Random tables, the same for one seed."""
    import numpy as np

    random = np.random.default_rng(context.seed)
    keys = min(KEYS, rows)
    return Columns(
        key=random.integers(0, keys, rows),
        value=random.standard_normal(rows),
        short_key=random.permutation(keys),
        short_value=random.standard_normal(keys),
    )


def expected(columns: Columns, operation: str) -> float:
    """What each library has to find."""
    import numpy as np

    if operation == "group":
        sums = np.bincount(columns.key, weights=columns.value)
        return float(sums[np.unique(columns.key)].max())  # a key that no row has is in no group
    by_key = np.zeros(len(columns.short_key))
    by_key[columns.short_key] = columns.short_value
    return float((columns.value * by_key[columns.key]).sum())


def _figure(
    context: Context, columns: Columns, called: tuple[str, str], make: Callable[[Context, Columns], Work]
) -> Raw:
    operation, library = called
    work = make(context, columns)
    call = work.group if operation == "group" else work.join
    found, right = call(), expected(columns, operation)
    if abs(found - right) > 1e-9 * max(1.0, abs(right)) * len(columns.key) ** 0.5:
        raise ValueError(f"{library} finds {found:g} where NumPy finds {right:g}")
    on_gpu = library == "cudf"
    return Raw(
        name=f"tables.{operation}.{library}",
        unit=ITEMS,
        amount=float(len(columns.key)),
        timing=measure(call, context.each_s, waiting(torch_or_none(), context.target) if on_gpu else lambda: None),
        parameters={
            "beside": f"tables.{operation}.pandas",
            "rows": len(columns.key),
            "keys": len(columns.short_key),
            "bytes_per_item": _ROW_BYTES,
            "threads": 1 if library == "pandas" else context.threads,
        },
        limit="memory" if on_gpu or context.target == "cpu" else "",
        note="rows of the long table, which stands in memory",
    )


def pandas(context: Context, columns: Columns) -> Work:
    """pandas, on one core.

    Raises:
        ImportError: It is not installed.
    """
    return _frames(needed("pandas"), columns)


def cudf(context: Context, columns: Columns) -> Work:
    """cuDF, on the GPU; the same calls as pandas.

    Raises:
        ImportError: There is no GPU of NVIDIA, or no RAPIDS.
    """
    return _frames(rapids(context, "cudf"), columns)


def _frames(library: Any, columns: Columns) -> Work:
    table = library.DataFrame({"key": columns.key, "value": columns.value})
    short = library.DataFrame({"key": columns.short_key, "other": columns.short_value})

    def join() -> float:
        both = table.merge(short, on="key")
        return float((both["value"] * both["other"]).sum())

    return Work(group=lambda: float(table.groupby("key")["value"].sum().max()), join=join)


def polars(context: Context, columns: Columns) -> Work:
    """Polars, on as many cores as the suite takes.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", str(context.threads))  # read when it is imported
    pl = needed("polars")
    table = pl.DataFrame({"key": columns.key, "value": columns.value})
    short = pl.DataFrame({"key": columns.short_key, "other": columns.short_value})

    def group() -> float:
        return float(table.group_by("key").agg(pl.col("value").sum())["value"].max())

    def join() -> float:
        both = table.join(short, on="key")
        return float((both["value"] * both["other"]).sum())

    return Work(group=group, join=join)
