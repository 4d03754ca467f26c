"""Rules of what goes into what: sockets, slots, lanes, lengths, memory, and machines sold whole."""

from __future__ import annotations

from collections.abc import Iterable

from rigwise.rig.figures import figures, source, value
from rigwise.rig.judged import Given, Judge, Rule, in_full, joined, known_sum
from rigwise.rig.types import Card, Finding, Rig
from rigwise.units import GIB


def lanes_each(lanes: int, cards: int) -> int:
    """Lanes of each card where equal shares of ``lanes`` are wired: a power of two.

    >>> lanes_each(16, 1), lanes_each(16, 2), lanes_each(16, 3), lanes_each(44, 2)
    (16, 8, 4, 16)
    """
    share = min(lanes // max(cards, 1), 16)
    return 1 << (share.bit_length() - 1) if share else 0


def least_lanes(cards: Iterable[Card]) -> int:
    """Lanes that each of these cards should have: fewer only if it has no more."""
    return min(int(value("least-lanes")), *(card.lanes or 16 for card in cards))


def _lanes(rig: Rig, given: Given) -> Finding:
    """A processor's lanes for cards, split; a board can only take away from them."""
    cpu, cards = rig.cpu[0], rig.gpu
    socket = figures().sockets.get(cpu.socket)
    judge = Judge("pcie-lanes", (*source("least-lanes"), *in_full(socket.source if socket else [cpu.source])))
    if cpu.lanes is None:
        return judge.unknown(f"the lanes of {cpu.name} are not known", "give lanes of the cpu, from its data sheet")
    least = least_lanes(cards)
    each = lanes_each(cpu.lanes, len(cards))
    said = f"{len(cards)} card{'s' if len(cards) > 1 else ''} on {cpu.lanes} lanes: x{each} each"
    evidence: dict[str, float] = {"cards": len(cards), "cpu_lanes": cpu.lanes, "lanes_each": each}
    if each < least:
        fix = "fewer cards, or a workstation CPU with more lanes"
        return judge.warning(f"{said}, below x{least}", fix, **evidence)
    wired = rig.motherboard[0].card_lanes if rig.motherboard else None
    if wired is not None:
        ranked = sorted(wired, reverse=True)[: len(cards)]
        last = ranked[-1] if len(ranked) == len(cards) else 0
        evidence["board_lanes_last"] = last
        if last < least:
            slots = joined(f"x{n}" for n in wired)
            found = f"the board wires {slots} to its slots: card {len(cards)} gets {f'x{last}' if last else 'none'}"
            fix = "a board with x8/x8 slots, or fewer cards"
            return (judge.warning if last else judge.problem)(found, fix, **evidence)
    elif len(cards) > 1:
        fix = f"take a board whose manual says {'/'.join(f'x{each}' for _ in cards)} with {len(cards)} cards"
        return judge.unknown(f"{said}, if the board splits them so", fix, **evidence)
    return judge.ok(said, **evidence)


def _slots(rig: Rig, given: Given) -> Finding | None:
    """Width of the cards against the slots of case and board; room for fans between them.

    The last card may reach beyond the board, but its connector cannot.
    """
    if all(card.form != "card" for card in rig.gpu):
        return None
    judge = Judge("card-slots", source("free-slots"))
    width, case = known_sum(card.slots for card in rig.gpu), rig.case[0]
    if width is None:
        thick = joined(c.name for c in rig.gpu if c.slots is None)
        return judge.unknown(f"the width of {thick} is not known", "give slots of the gpu in the list")
    if case.slots is None:
        found = f"the cards take {width:g} slots; those of the case are not known"
        return judge.unknown(found, "give slots of the case", slots_needed=width)
    opened = [card for card in rig.gpu if not card.exhaust]
    gaps = (len(rig.gpu) - 1) * value("free-slots") if opened else 0.0
    board = rig.motherboard[0].slots if rig.motherboard else None
    before_last = width - (rig.gpu[-1].slots or 0)
    evidence = {"slots_needed": width, "slots_spaced": width + gaps, "slots": case.slots, "board_slots": board or 0}
    said = f"the cards take {width:g} of {case.slots} slots"
    many = len(rig.gpu) > 1
    if width > case.slots or (many and board is not None and before_last + 1 > board):
        short = said if width > case.slots else f"the last card needs slot {before_last + 1:g}, the board has {board}"
        return judge.problem(short, "thinner or fewer cards, or a larger case and board", **evidence)
    if width + gaps > case.slots or (many and board is not None and before_last + gaps + 1 > board):
        fix = "blower or liquid-cooled cards, or a larger case and board"
        return judge.warning(f"{said}, none free between them for air", fix, **evidence)
    return judge.ok(f"{said}{', one free between them' if many and opened else ''}", **evidence)


def _length(rig: Rig, given: Given) -> Finding | None:
    if all(card.form != "card" for card in rig.gpu):
        return None
    judge = Judge("card-length", in_full(filter(None, {card.source for card in rig.gpu})))
    longest = max((card.length_m or 0 for card in rig.gpu), default=0)
    unsure = [card for card in rig.gpu if card.length_m is None and card.form == "card"]
    most = rig.case[0].max_length_m
    if unsure or (most is None and longest):
        length = f"the card is {1000 * longest:.0f} mm long in its reference form" if not unsure else "its length"
        found = f"{length}; what the case takes is not known" if not unsure else f"{unsure[0].name}: {length} unknown"
        fix = f"take a case for cards of {1000 * longest:.0f} mm or more" if longest else "measure it"
        return judge.unknown(found, fix, length_mm=1000 * longest)
    if most is not None and longest > most:
        found = f"the card is {1000 * longest:.0f} mm long, the case takes {1000 * most:.0f} mm"
        return judge.problem(found, "a shorter card or a longer case", length_mm=1000 * longest, most_mm=1000 * most)
    return judge.ok(f"{1000 * longest:.0f} mm of card fit", length_mm=1000 * longest)


def _memory_size(rig: Rig, given: Given) -> Finding:
    judge = Judge("memory-per-vram", source("memory-per-vram"))
    vram = known_sum(card.memory_bytes for card in rig.gpu)
    have = known_sum(kit.total_bytes for kit in rig.ram)
    if vram is None or have is None:
        return judge.unknown("memory of the cards or of the machine is not known", "give memory_size in the list")
    wanted = value("memory-per-vram") * vram
    evidence = {"memory_bytes": have, "vram_bytes": vram, "wanted_bytes": wanted}
    said = f"{have / GIB:.0f} GiB of memory for {vram / GIB:.0f} GiB on the cards"
    fix = f"fit {wanted / GIB:.0f} GiB: twice the cards' holds a checkpoint beside the input pipeline"
    if have < vram * (1 - 1e-9):
        return judge.problem(f"{said}: less than what a checkpoint takes on its way", fix, **evidence)
    if have < wanted * (1 - 1e-9):
        return judge.warning(f"{said}, below twice that", fix, **evidence)
    return judge.ok(f"{said}: {have / vram:.1f} times", **evidence)


def _memory_fits(rig: Rig, given: Given) -> Finding:
    board = rig.motherboard[0]
    row = figures().boards.get(board.form)
    judge = Judge("memory-fits", in_full(row.source if row else [board.source]))
    kinds = {kit.memory for kit in rig.ram if kit.memory}
    possible = {board.memory} if board.memory else set(_socket_memory(board.socket))
    modules, have = known_sum(kit.modules for kit in rig.ram), known_sum(kit.total_bytes for kit in rig.ram)
    evidence = {"modules": modules or 0, "slots": board.dimms or 0, "memory_bytes": have or 0}
    if kinds and possible and not kinds <= possible:
        found = f"{joined(sorted(kinds))} modules, a board for {joined(sorted(possible))}"
        return judge.problem(found, "take memory of the board's kind", **evidence)
    if len(kinds) > 1:
        return judge.problem(f"modules of {joined(sorted(kinds))} together", "take one kind", **evidence)
    if modules is not None and board.dimms is not None and modules > board.dimms:
        found = f"{modules:.0f} modules, {board.dimms} slots"
        return judge.problem(found, "fewer, larger modules", **evidence)
    if have is not None and board.max_memory_bytes and have > board.max_memory_bytes * (1 + 1e-9):
        found = f"{have / GIB:.0f} GiB, the board takes {board.max_memory_bytes / GIB:.0f}"
        return judge.problem(found, "less memory, or another board", **evidence)
    if not kinds or not possible or modules is None or (modules > 2 and board.dimms is None):
        return judge.unknown(
            "kind, modules or slots of the memory are not known", "read them off the manual", **evidence
        )
    if modules % 2 and board.dimms != 1:
        found = f"{modules:.0f} module{'s' if modules > 1 else ''}: boards read two together, one alone halves the rate"
        return judge.warning(found, "take the same size in pairs", **evidence)
    if len(possible) > 1:
        kind = kinds.pop()
        fix = f"take the board in its {kind} version"
        return judge.unknown(f"boards of {board.socket} are for {joined(sorted(possible))}", fix, **evidence)
    return judge.ok(f"{modules:.0f} modules of {kinds.pop()}, {have / GIB if have else 0:.0f} GiB", **evidence)


def _socket_memory(socket: str) -> tuple[str, ...]:
    row = figures().sockets.get(socket)
    return row.memory if row else ()


def _socket(rig: Rig, given: Given) -> Finding:
    cpu, board = rig.cpu[0], rig.motherboard[0]
    judge = Judge("cpu-socket", in_full(filter(None, [cpu.source, board.source])))
    if not cpu.socket or not board.socket:
        lacking = cpu.name if not cpu.socket else board.name
        return judge.unknown(f"the socket of {lacking} is not known", "give socket in the list")
    if cpu.socket != board.socket:
        return judge.problem(f"{cpu.name} needs {cpu.socket}, the board has {board.socket}", "another board")
    return judge.ok(f"{cpu.socket} on both")


def _board_case(rig: Rig, given: Given) -> Finding:
    board, case = rig.motherboard[0], rig.case[0]
    row = figures().cases.get(case.form)
    judge = Judge("board-in-case", in_full(row.source if row else [case.source]))
    if not board.form or case.boards is None:
        return judge.unknown("the form of the board or of the case is not known", "give form in the list")
    if board.form not in case.boards:
        return judge.problem(f"board {board.form}, a case for {joined(case.boards)}", "another case")
    return judge.ok(f"board {board.form}, case {case.form}")


def _sold_whole(rig: Rig, given: Given) -> Finding | None:
    """What a machine that was sold whole allows."""
    limits = rig.limits
    if limits is None:
        return None
    judge = Judge("sold-whole", in_full(limits.source.split("; ")))
    wrong = [card for card in rig.gpu if card.form != limits.card_form]
    if wrong:
        found = f"the {limits.name} takes {_form(limits.card_form)}, {wrong[0].name} is {_form(wrong[0].form)}"
        return judge.problem(found, "another machine")
    if limits.cards is not None and len(rig.gpu) > limits.cards:
        found = f"{len(rig.gpu)} cards, the {limits.name} has room for {limits.cards}"
        return judge.problem(found, "one card, or another machine", cards=len(rig.gpu), most=limits.cards)
    strange = [p for p in rig.psu if p.rated_w is not None and p.rated_w not in limits.supply_options_w]
    if limits.supply_options_w and strange:
        sold = joined(f"{w:.0f} W" for w in limits.supply_options_w)
        found = f"the {limits.name} was sold with supplies of {sold}, not {strange[0].rated_w:.0f} W"
        return judge.warning(found, "ask for the maker's own; cables and mounts are not standard")
    hot = [c for c in rig.cpu if limits.cpu_w and c.power_w and c.power_w > limits.cpu_w]
    if hot:
        return judge.problem(
            f"{hot[0].name} holds {hot[0].power_w:.0f} W, the machine {limits.cpu_w:.0f}", "another CPU"
        )
    return judge.ok(f"within what the {limits.name} allows")


def _form(form: str) -> str:
    return {"mxm": "an MXM module", "sxm": "an SXM module"}.get(form, "a PCIe card")


def _card_form(rig: Rig, given: Given) -> Finding | None:
    """Modules without a PCIe edge need a carrier that no desktop board has."""
    if rig.limits is not None:
        return None
    odd: list[Card] = [card for card in rig.gpu if card.form != "card"]
    judge = Judge("card-form", in_full(["pcie-spec the card's edge", *filter(None, {card.source for card in odd})]))
    if odd:
        return judge.problem(
            f"{odd[0].name} is {_form(odd[0].form)}, not a PCIe card", "its PCIe version, if there is one"
        )
    return judge.ok("all cards are PCIe cards")


RULES = (
    Rule(name="card-form", scope=frozenset({"gpu"}), judge=_card_form),
    Rule(name="pcie-lanes", scope=frozenset({"gpu", "cpu", "motherboard"}), judge=_lanes),
    Rule(name="card-slots", scope=frozenset({"gpu", "motherboard", "case"}), judge=_slots),
    Rule(name="card-length", scope=frozenset({"gpu", "case"}), judge=_length),
    Rule(name="memory-per-vram", scope=frozenset({"gpu", "ram"}), judge=_memory_size),
    Rule(name="memory-fits", scope=frozenset({"motherboard", "ram"}), judge=_memory_fits),
    Rule(name="cpu-socket", scope=frozenset({"cpu", "motherboard"}), judge=_socket),
    Rule(name="board-in-case", scope=frozenset({"motherboard", "case"}), judge=_board_case),
    Rule(name="sold-whole", scope=frozenset({"gpu", "cpu", "psu"}), judge=_sold_whole),
)
