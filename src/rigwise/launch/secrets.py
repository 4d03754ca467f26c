"""Secrets of the environment, kept out of everything that is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rigwise.errors import InvalidInputError

#: Variables whose value nobody else may see.
_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|APIKEY|(API|ACCESS|PRIVATE|SECRET|ACCOUNT|AUTH)_?KEY|KEY)(_|$)"
    r"|PASSWORD|_PW$|^PGPASS|DATABASE_URL",
    re.IGNORECASE,
)
#: A shorter value stands in ordinary text by chance.
_LEAST_LENGTH = 6
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Names and values of what must not be written, the longest value first.

    >>> secrets_of({"WANDB_API_KEY": "abcdef123", "KEYBOARD": "something", "HF_TOKEN": "hf_12345"})
    {'WANDB_API_KEY': 'abcdef123', 'HF_TOKEN': 'hf_12345'}
    """
    found = [(n, v) for n, v in environment.items() if _SECRET.search(n) and len(v) >= _LEAST_LENGTH]
    return dict(sorted(found, key=lambda pair: -len(pair[1])))


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


def masked(text: bytes, secrets: Mapping[str, str]) -> bytes:
    """Output without the values of secrets.

    >>> masked(b"my key is hf_12345", {"HF_TOKEN": "hf_12345"})
    b'my key is [HF_TOKEN]'
    """
    for name, value in secrets.items():
        text = text.replace(value.encode(errors="surrogateescape"), f"[{name}]".encode())
    return text
