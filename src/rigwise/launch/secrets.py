"""Secrets of the environment, kept out of everything that is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rigwise.errors import InvalidInputError

#: Variables whose value nobody else may see.
_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|APIKEY|(API|ACCESS|PRIVATE|SECRET|ACCOUNT|AUTH)_?KEY|KEY)(_|$)"
    r"|PASSWORD|_PW$|_PWD$|(^|_)(PAT|AUTH|DSN|COOKIE|WEBHOOK(_URL)?)$|^PGPASS|DATABASE_URL|CONNECTION_STRING",
    re.IGNORECASE,
)
#: An address that holds a password, whatever the variable is called.
_LOGIN = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
#: A shorter value stands in ordinary text by chance.
_LEAST_LENGTH = 6
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Names and values of what must not be written, the longest value first.

    >>> secrets_of({"WANDB_API_KEY": "abcdef123", "KEYBOARD": "something", "HF_TOKEN": "hf_12345"})
    {'WANDB_API_KEY': 'abcdef123', 'HF_TOKEN': 'hf_12345'}
    >>> list(secrets_of({"https_proxy": "http://me:hidden@proxy", "http_proxy": "http://proxy:1", "PWD": "/home/me"}))
    ['https_proxy']
    """
    named = [(n, v) for n, v in environment.items() if _SECRET.search(n) or _LOGIN.search(v)]
    return dict(sorted(((n, v) for n, v in named if len(v) >= _LEAST_LENGTH), key=lambda pair: -len(pair[1])))


def hidden(words: Sequence[str], secrets: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A command with names in the place of secret values, and the names that were used.

    >>> hidden(["train", "--token=hf_12345"], {"HF_TOKEN": "hf_12345"})
    (('train', '--token=${HF_TOKEN}'), ('HF_TOKEN',))
    """
    used = []
    shown = list(words)
    for name, value in secrets.items():
        if any(value in word for word in shown):
            used.append(name)
            shown = [word.replace(value, f"${{{name}}}") for word in shown]
    return tuple(shown), tuple(used)


def revealed(words: Iterable[str], names: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The command as it was given.

    Raises:
        InvalidInputError: A variable that it needs is not set any more.
    """
    wanted = set(names)
    missing = sorted(name for name in wanted if name not in environment)
    if missing:
        raise InvalidInputError(f"the command needs {missing[0]}, which is not set", hint="export it and try again")

    def value(match: re.Match[str]) -> str:
        return environment[match[1]] if match[1] in wanted else match[0]

    return [_PLACEHOLDER.sub(value, word) for word in words]


class Mask:
    """Takes the values of secrets out of text that comes in pieces, wherever it is cut."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Look for each value whole, by its lines, as Python prints line breaks, and for the password of an address."""
        found: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            forms = [value, value.replace("\n", "\\n"), *value.splitlines(), *_LOGIN.findall(value)]
            for form in forms:
                if len(form.strip()) >= _LEAST_LENGTH:
                    found.setdefault(form.encode(errors="surrogateescape"), f"[{name}]".encode())
        self._forms = sorted(found.items(), key=lambda pair: -len(pair[0]))
        self._rest = b""

    def feed(self, text: bytes) -> bytes:
        """What can be shown so far: what may be the beginning of a value waits for the next piece.

        >>> mask = Mask({"HF_TOKEN": "hf_12345"})
        >>> mask.feed(b"my key is hf_1"), mask.feed(b"2345, yours is hf_12"), mask.rest()
        (b'my key is ', b'[HF_TOKEN], yours is ', b'hf_12')
        """
        text = self._rest + text
        cut = self._cut(text)
        self._rest = text[cut:]
        return self._masked(text[:cut])

    def rest(self) -> bytes:
        """What is left when nothing follows."""
        text, self._rest = self._rest, b""
        return self._masked(text)

    def _cut(self, text: bytes) -> int:
        """Where the text can be cut so that no value stands on both sides."""
        at = min((_beginning(text, form) for form, _ in self._forms), default=len(text))
        is_moved = True
        while is_moved:
            is_moved = False
            for form, _ in self._forms:
                across = text.find(form, max(0, at - len(form) + 1), at + len(form) - 1)
                if across >= 0:
                    at, is_moved = across, True
        return at

    def _masked(self, text: bytes) -> bytes:
        for form, name in self._forms:
            text = text.replace(form, name)
        return text


def _beginning(text: bytes, form: bytes) -> int:
    """Where the longest end of a text that a form begins with starts; its length if there is none.

    >>> _beginning(b"abcabc", b"abcd"), _beginning(b"abc", b"xyz")
    (3, 3)
    """
    at = text.find(form[:1], max(0, len(text) - len(form) + 1))
    while at >= 0:
        if form.startswith(text[at:]):
            return at
        at = text.find(form[:1], at + 1)
    return len(text)
