"""What lab 10 asks: when a machine of one's own pays for itself.

The prices are those of the founding notes and of the text of the lab, not today's.
"""

from __future__ import annotations

from rigwise.labs.exercise import Exercise, Prediction, choice, number
from rigwise.labs.mistakes import values
from rigwise.market.break_even import break_even_s

#: The founding notes: a server of four Titan X; four K80 by the hour; how many times as long these take.
SERVER_USD, K80S_USD_PER_H, RATIO, WEEK_H = 8500.0, 4 * 0.90, 6.0, 168.0
#: The rig of the exercise: its price, what it draws, electricity, the rent of the same card.
RIG_USD, RIG_KW, USD_PER_KWH, RENT_USD_PER_H = 2800.0, 0.6, 0.15, 0.69
_ELECTRICITY_USD_PER_H = RIG_KW * USD_PER_KWH


def rig_even_h(rented_over_own: float = 1.0, electricity_usd_per_h: float = _ELECTRICITY_USD_PER_H) -> float:
    """Hours of work until the rig of the exercise has paid for itself.

    Source: ``market.break_even``.

    >>> round(rig_even_h()), round(rig_even_h(0.5))
    (4667, 10980)
    """
    even_s = break_even_s(RIG_USD, RENT_USD_PER_H, electricity_usd_per_h, rented_over_own)
    return float(even_s) / 3600


_WEEK_USD, _RIG_H, _QUICK_H = WEEK_H * RATIO * K80S_USD_PER_H, rig_even_h(), rig_even_h(0.5)

PREDICTIONS = {
    "10.1": Prediction(
        question="After how many hours of its own work has the server paid for itself, if a K80 takes six times"
        " as long?",
        unit="hours",
    ),
    "10.4": Prediction(
        question="What does it cost to rent what this machine does in an hour?",
        unit="cents",
    ),
}

EXERCISES = {
    "10.2": Exercise(
        question="A job takes the four Titan X one week. What do four K80 at $0.90 an hour each cost for the same job?",
        judge=number(
            _WEEK_USD,
            "168 hours x 6 are 1,008 hours, at $3.60 that is ${right:,.0f}",
            within_frac=0.01,
            mistakes={
                1 / RATIO: "that is 168 hours of the K80s; they need six times as long for the same work",
                1 / 4: "that is the rent of one K80; four are rented",
                1 / (4 * RATIO): "that is one K80 for 168 hours; four are rented, and for six times as long",
                1 / RATIO**2: "the time is divided by six; the K80s are the slower ones",
                1 / 7: "that is one day of the server's work; a week has seven",
            },
        ),
    ),
    "10.3": Exercise(
        question="A rig of $2,800 draws 0.6 kW, electricity costs $0.15 a kWh, and the same card rents at $0.69"
        " an hour. Nothing is counted for its resale. After how many hours of work has it paid for itself?",
        judge=number(
            _RIG_H,
            "each hour saves $0.69 less $0.09 of electricity, and 2,800 / 0.60 are {right:,.0f} hours",
            within_frac=0.01,
            mistakes=values(
                _RIG_H,
                {
                    rig_even_h(1.0, 0.0): "that leaves the electricity out, $0.09 an hour",
                    rig_even_h(1.0, -_ELECTRICITY_USD_PER_H): "electricity was added to the rent; your own"
                    " machine draws it, so less is saved",
                    rig_even_h(1.0, USD_PER_KWH): "that takes 1 kW in place of 0.6: the price of a kWh is not"
                    " that of an hour",
                    _RIG_H / 24: "that is days of 24 hours; hours were asked for",
                    RIG_USD / _ELECTRICITY_USD_PER_H: "that is how long $2,800 pay the electricity",
                },
            ),
        ),
    ),
    "10.5": Exercise(
        question="As before, but the rented card is twice as quick as your own. After how many hours of your own rig?",
        judge=number(
            _QUICK_H,
            "the rent for an hour of your own work is now 0.69 / 2; less $0.09 that saves $0.255, and 2,800 / 0.255"
            " are {right:,.0f} hours",
            within_frac=0.01,
            mistakes=values(
                _QUICK_H,
                {
                    _RIG_H: "that is the answer for a card as quick as your own",
                    2 * _RIG_H: "twice the hours would be right without electricity, which is not halved",
                    rig_even_h(2.0): "that is for a rented card half as quick: the ratio is its time over yours",
                    _RIG_H / 2: "a quicker rented card makes owning worth less, not more",
                    _QUICK_H / 2: "that is in hours of the rented card; your own takes twice as long",
                    rig_even_h(0.5, 0.0): "that leaves the electricity out, $0.09 an hour",
                },
            ),
        ),
    ),
    "10.6": Exercise(
        question="What moves your break-even most: a tenth more on the price (a), a tenth more on the rent (b),"
        " or a card that you took to be twice as quick as it is (c)?",
        judge=choice(
            "c",
            {
                "a": "a tenth more to pay takes a tenth longer to save",
                "b": "a tenth more rent saves a little more than a tenth of the hours, as electricity stays",
                "c": "hours go with one over the ratio of the times, so a factor of two is a factor of two or"
                " more; this is what to measure or predict before anything else",
            },
        ),
    ),
}
