"""From what people, drivers and clouds call a device to its catalogue id.

Three steps, the first that answers wins:

1. the text, squashed to letters and digits without makers' words, is an id, a name or an alias;
2. a bare model number gets its usual prefix (``4090`` is ``rtx 4090``);
3. every word of the text is a word of exactly one device (``A100 80GB PCIe``).

Several answers are an error that lists them; none is an error with near matches. Nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from rigwise.errors import AmbiguousNameError, UnknownNameError, near_matches

#: Words that makers, drivers and clouds add or leave out; they only decide between like names (Tesla M4, Apple M4).
_NOISE = """
nvidia amd intel apple google aws geforce radeon tesla instinct corporation generation
graphics gpu accelerator processor cpu one of two four per r tm
"""
NOISE = frozenset(_NOISE.split())
#: Words that make another model of the same number; a name without them means the plain one.
OTHER_MODEL = frozenset(("ti", "super", "mobile", "d", "gre", "xt", "xtx"))
_LINK_WITH_GENERATION = re.compile(r"^(sxm|oam)\d$")
_MEMORY = re.compile(r"^\d+gb$")
_PREFIXES = ("rtx", "gtx", "rx", "arc")


def _all_words(text: str) -> list[str]:
    plain = text.lower().replace("+", "p").replace("laptop", "mobile")
    plain = re.sub(r"@.*|\(r\)|\(tm\)|\b\d+-core processor.*", " ", plain)
    plain = re.sub(r"(?<![a-z0-9])(\d+)[ _-]?gi?b\b", r"\1gb", plain)
    return re.findall(r"[a-z0-9.]+", plain)


def words(text: str) -> list[str]:
    """The telling words of a name, in order.

    >>> words("NVIDIA GeForce RTX 3080 Laptop GPU")
    ['rtx', '3080', 'mobile']
    >>> words("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz")
    ['xeon', 'platinum', '8480p']
    """
    return [word for word in _all_words(text) if word not in NOISE]


def squash(text: str) -> str:
    """A name without case, spaces, dashes and makers' words.

    >>> squash("NVIDIA A100-SXM4-80GB") == squash("a100 sxm4 80 GB") == "a100sxm480gb"
    True
    """
    return "".join(words(text))


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one table.

    Attributes:
        what: What the table holds, for messages: "device".
        exact: Squashed name -> ids.
        vocabulary: Id -> every telling word that may stand in its name.
        makers: Id -> the other words of its names.
    """

    what: str
    exact: dict[str, list[str]] = field(default_factory=dict)
    vocabulary: dict[str, frozenset[str]] = field(default_factory=dict)
    makers: dict[str, frozenset[str]] = field(default_factory=dict)

    def add(self, identifier: str, names: Iterable[str], properties: Iterable[str] = ()) -> None:
        """Make a thing known by its id, by ``names``, and by words that only narrow a choice."""
        known = [identifier, *names]
        for name in known:
            ids = self.exact.setdefault(squash(name), [])
            if identifier not in ids:
                ids.append(identifier)
        found = {word for text in (*known, *properties) for word in words(text)}
        found |= {match.group(1) for word in found if (match := _LINK_WITH_GENERATION.match(word))}
        self.vocabulary[identifier] = frozenset(found)
        self.makers[identifier] = NOISE & {word for text in known for word in _all_words(text)}

    def candidates(self, text: str) -> tuple[str, ...]:
        """The ids that ``text`` may mean, in catalogue order; empty where there is none."""
        squashed = squash(text)
        if not squashed:
            return ()
        if squashed in self.exact:
            ids = self.exact[squashed]
            said = NOISE & set(_all_words(text))
            return tuple([i for i in ids if said <= self.makers[i]] or ids) if len(ids) > 1 else tuple(ids)
        prefixed = [i for prefix in _PREFIXES for i in self.exact.get(prefix + squashed, ())]
        if prefixed:
            return tuple(prefixed)
        asked = set(words(text))
        found = [i for i, known in self.vocabulary.items() if asked <= known]
        plain = [i for i in found if not (self.vocabulary[i] - asked) & OTHER_MODEL]
        return tuple(plain or found)

    def resolve(self, text: str) -> str:
        """The one id that ``text`` means.

        Raises:
            AmbiguousNameError: Several variants answer to it.
            UnknownNameError: None does.
        """
        found = self.candidates(text)
        if len(found) == 1 and (squash(text) in self.exact or self._names_a_model(text)):
            return found[0]
        if len(found) > 1:
            shown = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
            raise AmbiguousNameError(f"{text!r} may be {shown}", hint="give one of these ids")
        raise UnknownNameError(f"there is no {self.what} {text!r}", hint=self._near(text, found))

    def _names_a_model(self, text: str) -> bool:
        """Words such as ``server`` or ``94GB`` alone pick no device, even if only one has them."""
        return any(re.search(r"\d", word) and not _MEMORY.match(word) for word in words(text))

    def _near(self, text: str, found: tuple[str, ...]) -> str:
        squashed = squash(text)
        close = [i for name, ids in self.exact.items() for i in ids if squashed and squashed in name]
        listed = list(dict.fromkeys([*found, *close]))[:4]
        if listed:
            return f"did you mean {', '.join(listed)}?"
        return near_matches(text, self.vocabulary) or f"rigwise {self.what}s lists them"


def merged(what: str, tables: Iterable[Names]) -> Names:
    """Several tables as one, so that a name found in two of them is ambiguous."""
    exact: dict[str, list[str]] = {}
    vocabulary: dict[str, frozenset[str]] = {}
    makers: dict[str, frozenset[str]] = {}
    for table in tables:
        for name, ids in table.exact.items():
            exact.setdefault(name, []).extend(ids)
        vocabulary |= table.vocabulary
        makers |= table.makers
    return Names(what, exact, vocabulary, makers)
