"""From the name of a part to its figures.

Rows of the parts table and the lines that people copy from shops are written alike: a power
supply says its watts, memory its modules, a board its socket and form. What a name does not
say stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

from rigwise.errors import RigwiseError, UnknownNameError, near_matches
from rigwise.facts import catalogue
from rigwise.facts.cpu import Cpu
from rigwise.facts.device import Device
from rigwise.facts.part import Part
from rigwise.rig.figures import figures
from rigwise.rig.types import Board, Card, Cooler, Drive, Enclosure, Item, Kit, Processor, Supply
from rigwise.units import GB, GIB, TB

#: A word after the model that makes it another model.
_OTHER_MODEL = re.compile(r"^(ti|super|xtx?|gre|d|laptop|mobile|max-q|server|pro|ada)\b")
_BOARD_FORMS = {
    "micro atx": "Micro ATX", "microatx": "Micro ATX", "matx": "Micro ATX", "mini itx": "Mini ITX",
    "mini-itx": "Mini ITX", "eatx": "EATX", "e-atx": "EATX", "micro stx": "Micro STX", "atx": "ATX",
}  # fmt: skip
_LONGEST_NAME = 300
_EFFICIENCIES = ("bronze", "silver", "gold", "platinum", "titanium", "white", "none")


def described(kind: str, text: str) -> Item:
    """A part with every figure that its name gives, or that the catalogue knows under that name.

    Raises:
        UnknownNameError: The name says nothing that the rules need; lists near matches.

    >>> described("psu", "ATX 850 W 80+ gold").rated_w
    850.0
    """
    if len(text) > _LONGEST_NAME:
        raise UnknownNameError(
            f"a {kind} has a name of {len(text)} characters", hint=f"at most {_LONGEST_NAME} are read"
        )
    return _READERS[kind](" ".join(text.split()))


def from_row(part: Part, price: str) -> Item:
    """A row of the parts table with its ``low`` or ``median`` price."""
    usd = part.street_low_usd if price == "low" else part.street_median_usd
    item = _of_row(part) if part.category in ("gpu", "cpu") else described(part.category, part.name)
    if isinstance(item, Board) and "max_memory_gb" in part.detail:
        item = replace(item, max_memory_bytes=float(part.detail["max_memory_gb"]) * GIB)
    return replace(item, price_usd=usd, as_of=part.as_of, source=part.source)


def _of_row(part: Part) -> Item:
    return _card_of(part) if part.category == "gpu" else _processor_of(part.name, part, _known_cpu(part))


@cache
def rows(kind: str) -> tuple[Part, ...]:
    """The rows of a kind in the parts table."""
    return tuple(part for part in catalogue.parts() if part.category == kind)


def _unknown(kind: str, text: str) -> UnknownNameError:
    names = [_model(part.name.lower()) for part in rows(kind)]
    close = near_matches(text, dict.fromkeys(names)) or _near_inside(text, names)
    return UnknownNameError(
        f"there is no {kind} {text!r}", hint=close or f"rigwise parts --category {kind} lists those known"
    )


def _near_inside(text: str, names: list[str]) -> str:
    """Near matches of a model that stands somewhere in a long name."""
    words = _plain(text).split()
    close: dict[str, None] = {}
    for size in (2, 3):
        for start in range(len(words) - size + 1):
            close |= dict.fromkeys(get_close_matches(" ".join(words[start : start + size]), names, n=2, cutoff=0.8))
    return f"did you mean {', '.join(list(close)[:4])}?" if close else ""


def _model(name: str) -> str:
    """A name in lower case without its line and memory: ``rtx 3080``."""
    return re.sub(r"^(geforce|radeon|tesla) ", "", re.sub(r" \d+ gb$", "", name))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9+.\-]+", " ", text.lower().replace("(r)", "").replace("(tm)", "")).split())


# --- graphics cards ---------------------------------------------------------------------------


def _card(text: str) -> Card:
    """The card that the text names; an MXM module has no bracket, no cable and another length."""
    card = _named_card(text)
    if re.search(r"\bmxm\b", text, re.IGNORECASE):
        return replace(card, name=f"{card.name} MXM", form="mxm", slots=0.0, length_m=None, connectors=())
    return card


def _named_card(text: str) -> Card:
    """The card whose model stands in the text; its memory tells variants apart."""
    plain = _plain(text)
    found: dict[str, list[Part]] = {}
    for part in rows("gpu"):
        model = _model(_plain(part.name))
        match = re.search(rf"(?<![\w-]){re.escape(model)}(?![\w-])(.*)", plain)
        if match and not _OTHER_MODEL.match(match.group(1).strip()):
            found.setdefault(model, []).append(part)
    if found:
        variants = found[max(found, key=len)]
        sizes = {float(size) for size in re.findall(r"(\d+) ?gi?b", plain)}
        fitting = [p for p in variants if not sizes or (p.memory_bytes or 0) / GIB in sizes]
        if len(fitting) == 1:
            return _card_of(fitting[0])
        if fitting:
            named = [p for p in fitting if not re.search(r"\d+ GB$", p.name)]
            if len(named) == 1:
                return _card_of(named[0])
            listed = ", ".join(p.name for p in fitting)
            raise UnknownNameError(f"{text!r} may be {listed}", hint="add the memory, 12 GB say")
        listed = ", ".join(f"{p.name} with {(p.memory_bytes or 0) / GIB:.0f} GB" for p in variants)
        raise UnknownNameError(f"there is no gpu {text!r}", hint=f"known: {listed}")
    try:
        device = catalogue.device(text)
    except RigwiseError:
        raise _unknown("gpu", text) from None
    row = next((p for p in rows("gpu") if device.id in p.device.split("|")), None)
    return _card_of(row) if row else _bare_card(device)


def _card_of(part: Part) -> Card:
    identifier = part.device.split("|")[0]
    device = catalogue.device(identifier) if identifier else None
    boards = device.per_board if device else 1
    bus = re.fullmatch(r"PCIe (\d)\.\d x(\d+)", part.bus)
    memory = part.memory_bytes * boards if part.memory_bytes else None
    module = "sxm" if "SXM" in part.name or part.name.endswith(("B200", "B300", "MI300X", "MI325X", "MI355X")) else ""
    return Card(
        name=part.name,
        device=identifier,
        per_board=boards,
        tdp_w=part.tdp_w,
        memory_bytes=memory,
        slots=part.slots,
        length_m=part.length_m,
        connectors=_connectors(part),
        generation=int(bus.group(1)) if bus else None,
        lanes=int(bus.group(2)) if bus else None,
        form=module or "card",
        source=part.source,
    )


def _connectors(part: Part) -> tuple[str, ...] | None:
    """The power cables of a card; None where nobody says, for a card above what its slot delivers."""
    if not part.power_connectors:
        return () if (part.tdp_w or 1e9) <= figures().figures["slot-power"].value else None
    listed: list[str] = []
    for word in part.power_connectors.split(" + "):
        match = re.fullmatch(r"(?:(\d+)x )?(\d+-pin)( EPS)?", word)
        if not match:
            return None
        listed += ["EPS" if match.group(3) else match.group(2)] * int(match.group(1) or 1)
    return tuple(listed)


def _bare_card(device: Device) -> Card:
    """An accelerator of which the catalogue knows no card."""
    boards = device.per_board
    return Card(
        name=device.name,
        device=device.id,
        per_board=boards,
        tdp_w=device.tdp_w * boards if device.tdp_w else None,
        memory_bytes=device.memory_bytes * boards if device.memory_bytes else None,
        slots=device.slots,
        form="sxm" if "sxm" in device.id else "card",
        source=device.source,
    )


# --- processors -------------------------------------------------------------------------------


def _processor(text: str) -> Processor:
    name = re.sub(r"\s+\d+(\.\d+)? ?GHz.*$", "", text, flags=re.IGNORECASE)
    name = re.sub(r"\s+\S+-Core( Processor)?$|\s+Processor$", "", name, flags=re.IGNORECASE)
    plain = _plain(name)
    row = next((p for p in rows("cpu") if plain and _plain(p.name).endswith(plain)), None)
    known: Cpu | None = None
    with suppress(RigwiseError):
        known = catalogue.cpu(name)
    known = known or (_known_cpu(row) if row else None)
    if row is None and known is None:
        raise _unknown("cpu", text)
    return _processor_of(name, row, known)


def _known_cpu(row: Part) -> Cpu | None:
    return catalogue.cpu(row.device) if row.device else None


def _relatives(architecture: str) -> tuple[Cpu, ...]:
    return tuple(cpu for cpu in catalogue.cpus() if cpu.architecture == architecture)


def _shared(relatives: tuple[Cpu, ...], name: str) -> Any:
    """What all CPUs of an architecture have in common, None where they differ."""
    values = {getattr(cpu, name) for cpu in relatives}
    return values.pop() if len(values) == 1 else None


def _processor_of(name: str, row: Part | None, known: Cpu | None) -> Processor:
    name = row.name if row else known.name if known else name
    architecture = known.architecture if known else row.detail.get("arch", "") if row else ""
    architecture = architecture.removesuffix(" Refresh")
    relatives: tuple[Cpu, ...] = (known,) if known else _relatives(architecture)
    socket = _socket(name, architecture, known)
    facts = figures().sockets.get(socket)
    tdp_w = (row.tdp_w if row else None) or (known.tdp_w if known else None)
    cores = row.detail.get("cores") if row else None
    lanes = facts.card_lanes if facts else known.pcie_lanes if known and known.segment == "server" else None
    memory = facts.memory if facts else tuple(known.memory_kind.split("/")) if known and known.memory_kind else ()
    return Processor(
        name=name,
        device=known.id if known else "",
        socket=socket,
        memory=memory,
        power_w=_sustained_w(name, socket, tdp_w, known),
        cores=int(cores) if cores else known.cores if known else None,
        lanes=lanes,
        isa=_shared(relatives, "isa"),
        ipc_frac=_shared(relatives, "ipc_frac"),
        source=row.source if row else known.source if known else "",
    )


def _socket(name: str, architecture: str, known: Cpu | None) -> str:
    """The socket of a desktop CPU, empty where the architecture does not tell."""
    if "threadripper" in name.lower():
        return "sTRX4" if architecture == "Zen 2" else ""
    if known and known.segment in ("server", "mobile"):
        return ""
    return next((s for s, row in figures().sockets.items() if architecture in row.architectures), "")


def _sustained_w(name: str, socket: str, tdp_w: float | None, known: Cpu | None) -> float | None:
    """The most that a CPU draws for long: its stated turbo power, or what its socket makes of its TDP."""
    plain = _plain(name)
    for model, power_w in figures().turbo_w.items():
        if plain.endswith(_plain(model)):
            return power_w
    times = figures().sockets[socket].turbo_frac if socket else None
    if tdp_w and times:
        return tdp_w * times
    return tdp_w if known and known.segment == "server" else None


# --- everything else says what it is ----------------------------------------------------------


def _board(text: str) -> Board:
    plain = text.lower()
    socket = next((s for s in figures().sockets if re.search(rf"\b{s.lower()}\b", plain)), "")
    form = next((form for word, form in _BOARD_FORMS.items() if re.search(rf"\b{word}\b", plain)), "")
    if not socket and not form:
        raise _unknown("motherboard", text)
    row, kind = figures().boards.get(form), re.search(r"\bddr[345]\b", plain)
    kinds = figures().sockets[socket].memory if socket else ()
    memory = kind.group().upper() if kind else kinds[0] if len(kinds) == 1 else ""
    slots, dimms = (row.slots, row.dimms) if row else (None, None)
    return Board(name=text, socket=socket, form=form, memory=memory, slots=slots, dimms=dimms)


def _kit(text: str) -> Kit:
    kind = re.search(r"\bddr[345]\b", text, re.IGNORECASE)
    modules = re.search(r"(\d+) ?x ?(\d+) ?GB", text, re.IGNORECASE)
    whole = re.search(r"(\d+) ?GB", text, re.IGNORECASE)
    if not modules and not whole:
        raise _unknown("ram", text)
    count, total = (int(modules.group(1)), int(modules.group(1)) * int(modules.group(2))) if modules else (None, None)
    size = total if total is not None else int(whole.group(1)) if whole else 0
    return Kit(name=text, memory=kind.group().upper() if kind else "", modules=count, total_bytes=size * GIB)


def _supply(text: str) -> Supply:
    watts = re.search(r"\b(\d{3,4}) ?W\b", text, re.IGNORECASE)
    if not watts:
        raise _unknown("psu", text)
    plain = text.lower()
    level = re.search(r"80\+?(?: ?plus)? ?\+? ?(\w+)", plain)
    atx = re.search(r"\batx ?v?(\d\.\d+)\b", plain)
    efficiency = level.group(1) if level and level.group(1) in _EFFICIENCIES else "white" if "80+" in plain else ""
    return Supply(name=text, rated_w=float(watts.group(1)), efficiency=efficiency, atx=atx.group(1) if atx else "")


def _enclosure(text: str) -> Enclosure:
    plain = text.lower()
    forms = [form for form in figures().cases if form.lower() in plain]
    if forms:
        form = max(forms, key=len)  # "MicroATX Mid Tower" holds "ATX Mid Tower"
        row = figures().cases[form]
        return Enclosure(name=text, form=form, boards=row.boards, slots=row.slots)
    if re.search(r"\b(case|chassis|tower|desktop)\b", plain):
        return Enclosure(name=text)
    raise _unknown("case", text)


def _cooler(text: str) -> Cooler:
    plain = text.lower()
    size = re.search(r"\b(120|240|280|360|420) ?mm\b", plain)
    liquid = "liquid" in plain or "aio" in plain.split()
    form = ("liquid " + size.group(1) + " mm" if size else "liquid") if liquid else "air"
    return Cooler(name=text, form=form, capacity_w=figures().coolers_w.get(form))


def _drive(text: str) -> Drive:
    plain = text.lower()
    size = re.search(r"(\d+(?:\.\d+)?) ?(tb|gb)\b", plain)
    express = re.search(r"pcie ?(\d)", plain)
    form = ""
    if re.search(r"\bhdd\b|\brpm\b|hard (disk|drive)", plain):
        form = "HDD"
    elif express:
        form = f"SSD PCIe {express.group(1)}"
    elif re.search(r"ssd|solid state|sata|nvme", plain):
        form = "" if "nvme" in plain else "SSD SATA"
    if not size and not form:
        raise _unknown("storage", text)
    row = figures().drives.get(form)
    scale = TB if size and size.group(2) == "tb" else GB
    return Drive(
        name=text,
        form=form,
        capacity_bytes=float(size.group(1)) * scale if size else None,
        read_bytes_per_s=row.read_bytes_per_s if row else None,
        random_reads_per_s=row.random_reads_per_s if row else None,
        is_ceiling=row.is_ceiling if row else False,
    )


_READERS: Mapping[str, Callable[[str], Item]] = {
    "gpu": _card,
    "cpu": _processor,
    "motherboard": _board,
    "ram": _kit,
    "psu": _supply,
    "case": _enclosure,
    "cpu_cooler": _cooler,
    "storage": _drive,
}
