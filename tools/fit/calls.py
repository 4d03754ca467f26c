"""What a table's way of timing adds to an operator, by kind: the constants ``CALL_S`` of ``calibrate/score.py``.

    python tools/fit/calls.py

For each kind it prints the time with which the error is least over all cards, each card weighing the same; then for
each card the time that the others give, and the card's geometric error without any and with that of the others.
Reads ``neusight_ops`` from ``RIGWISE_MEASURED`` (default ``../shared/data/measured``). The constants of the laws should
be fitted anew when these change much, and the other way round.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict

import numpy as np
from gemm import MEASURED

from rigwise.calibrate.question import question
from rigwise.calibrate.rows import what_of
from rigwise.calibrate.score import CALL_S, score
from rigwise.calibrate.shelf import Shelf
from rigwise.errors import RigwiseError
from rigwise.measurement.tables import read_tables

#: Times that are tried.
TRIED_S = np.arange(0, 400) * 1e-6
Pair = tuple[float, float]


def pairs_of(table: str) -> dict[str, dict[str, list[Pair]]]:
    """Measured seconds, and those predicted of the operator alone, by kind and card."""
    asked = []
    for row in read_tables([MEASURED / f"{table}.csv"])[0]:
        with contextlib.suppress(RigwiseError):
            asked.append(question(row))
    found: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for one in score([q for q in asked if q.op is not None], Shelf(None))[0]:
        found[what_of(one)][one.question.device.id].append((one.measured_s, one.p50_s - one.call_s))
    return found


def errors_of(pairs: list[Pair]) -> np.ndarray:
    """Mean of abs(ln(predicted / measured)) with each time that is tried."""
    measured, alone = np.array(pairs).T
    return np.array([np.abs(np.log((alone + added_s) / measured)).mean() for added_s in TRIED_S])


def main() -> None:
    for table in CALL_S:
        for kind, cards in sorted(pairs_of(table).items()):
            errors = {card: errors_of(pairs) for card, pairs in cards.items()}
            whole = np.sum(list(errors.values()), axis=0)
            print(
                f"{table} {kind}: {TRIED_S[whole.argmin()] * 1e6:.0f} us; now {CALL_S[table].get(kind, 0) * 1e6:.0f} us"
            )
            for card, of_card in errors.items():
                others = int((whole - of_card).argmin())
                without, beside = np.expm1(of_card[0]), np.expm1(of_card[others])
                n = len(cards[card])
                print(f"  {card:<18}{n:>6}  others {TRIED_S[others] * 1e6:3.0f} us: {without:6.1%} -> {beside:6.1%}")


if __name__ == "__main__":
    main()
