"""The roofs of a machine: how much arithmetic a byte of memory traffic must bring for each number format."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import amount_axis, decimal_ticks
from rigwise.report.figures.label import Plane, spread
from rigwise.report.figures.theme import NARROW_BELOW_PX, SERIES, Document, Figure, altair, chart, dress, words
from rigwise.units import format_count

_HEIGHT_PX = 320
#: FLOP for each byte, at the left end; the right end is so many times the last ridge.
_FROM, _BEYOND = 0.25, 12.0


def machine_roofs(document: Document) -> Figure:
    """The theoretical peaks of a ``rigwise.inspect/1`` document as roofs: of its first GPU, or of its CPU.

    Raises:
        UnsupportedError: The machine does not tell a peak and a bandwidth.
    """
    peaks = [{name: field["value"] for name, field in peak.items()} for peak in document["peaks"]]
    of, memory = ("gpu 0", "gpu 0") if any(peak["of"] == "gpu 0" for peak in peaks) else ("cpu", "memory")
    formats = {peak["what"]: peak["flops_per_s"] for peak in peaks if peak["of"] == of and peak.get("flops_per_s")}
    rates = [
        stated["bytes_per_s"]
        for peak, stated in zip(peaks, document["peaks"], strict=True)
        if peak["of"] == memory and peak["what"] in ("memory", "bandwidth") and peak.get("bytes_per_s")
    ]
    if not formats or not rates:
        raise UnsupportedError("this machine does not tell its peaks, so there is nothing to draw")
    name = _name(document, of)
    rate = float(rates[0]["value"])
    assumed = f" ({rates[0]['source']})" if rates[0]["confidence"] == "assumed" else ""
    note = (
        f"Memory moves {format_count(rate, 'B/s')}{assumed}. Left of a corner memory limits an operator, right of it "
        "the arithmetic of its number format. Peaks are theoretical: rigwise bench measures."
    )
    title = f"Roofs of {name}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(formats, rate, width_px))


def _name(document: Document, of: str) -> str:
    gpus = document["gpus"]
    field = gpus[0].get("name") if of != "cpu" and gpus else document["cpu"].get("name")
    return str(field["value"]) if field and field["value"] else f"this machine's {of}"


def _draw(formats: dict[str, float], bytes_per_s: float, width_px: int) -> Any:
    alt = altair()
    grouped: dict[float, list[str]] = {}
    for name, peak in sorted(formats.items(), key=lambda pair: pair[1]):
        grouped.setdefault(peak, []).append(name)
    last = max(_FROM, max(grouped) / bytes_per_s) * _BEYOND
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for index, (peak, names) in enumerate(grouped.items()):
        text = f"{', '.join(names)}: {format_count(peak, 'FLOP/s')}"
        ridge = max(_FROM, peak / bytes_per_s)
        line = [(_FROM, min(peak, _FROM * bytes_per_s)), (ridge, min(peak, ridge * bytes_per_s)), (last, peak)]
        rows += [{"text": text, "intensity": x, "rate": y, "order": index} for x, y in line]
        labels.append({"text": text, "intensity": last, "rate": peak})
    low, high = min(_FROM * bytes_per_s, *grouped) / 1.5, max(grouped) * 3
    scale = alt.Scale(type="log", domain=[_FROM, last], nice=False)
    narrow = width_px < NARROW_BELOW_PX
    across = "FLOP per byte" if narrow else "arithmetic intensity (FLOP per byte of memory traffic)"
    x = alt.X("intensity:Q", title=across, scale=scale, axis=alt.Axis(format="~g", values=decimal_ticks(_FROM, last)))
    y = alt.Y(
        "rate:Q",
        title=None,
        axis=amount_axis("FLOP/s", values=decimal_ticks(low, high)),
        scale=alt.Scale(type="log", domain=[low, high]),
    )
    order = [", ".join(names) for names in grouped.values()]
    colours = alt.Scale(domain=[label["text"] for label in labels], range=list(SERIES[: len(order)]))
    lines = (
        chart(rows)
        .mark_line(strokeWidth=2.5)
        .encode(x=x, y=y, color=alt.Color("text:N", scale=colours, legend=None), order="intensity:Q")
    )
    plane = Plane(x_range=(_FROM, last), y_range=(low, high), width_px=width_px - 90, height_px=_HEIGHT_PX)
    places = spread([(one["intensity"], one["rate"], one["text"]) for one in labels], plane, level=False)
    layers = [lines]
    for label, place in zip(labels, places, strict=True):
        if place:
            layers += words([label], {"x": x, "y": y}, align=place.align, dx=place.dx_px, dy=place.dy_px)
    return dress(alt.layer(*layers), width_px, _HEIGHT_PX)
