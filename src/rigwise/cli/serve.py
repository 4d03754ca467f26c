"""``rigwise serve``: the answers in a browser, on this machine alone unless a token says otherwise."""

from __future__ import annotations

import secrets
import sys
from importlib.util import find_spec

import click

from rigwise.errors import InvalidInputError, MissingExtraError

NEW = "new"
_NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "jinja2": "jinja2", "python_multipart": "python-multipart"}

EXAMPLES = """\b
Examples:
  rigwise serve --open
  rigwise serve --host 0.0.0.0 --token new
  curl 'http://127.0.0.1:8765/api/v1/plan?model=resnet50&samples=128e6&deadline=12h'
"""


@click.command("serve", epilog=EXAMPLES)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes any free port.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; others than loopback need --token."
)
@click.option("--token", envvar="RIGWISE_TOKEN", help="What a request must show; new makes one and prints it once.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A host name that browsers use for it; may be repeated."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that answer; without it one for each processor.")
@click.option("--limit", "limit", default="20s", show_default=True, help="Longest time for an answer.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--quiet", is_flag=True, help="Print the address only.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False)
def command(
    *,
    port: int,
    host: str,
    token: str | None,
    names: tuple[str, ...],
    workers: int | None,
    limit: str,
    is_opened: bool,
    quiet: bool,
) -> int:
    """A web page on this machine, and a JSON API at /api/v1, until Ctrl-C.

    The same questions and answers as on the command line. On loopback no token is needed; at any other address one is.
    Set RIGWISE_TOKEN rather than --token where others can list processes.
    """
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "web")
    from rigwise.units import parse_seconds
    from rigwise.web.settings import Settings, check, processors

    limit_s = parse_seconds(limit)
    if not 0.1 <= limit_s <= 3600:
        raise InvalidInputError(f"--limit is {limit}", hint="give a time from 0.1s to 1h")
    made = secrets.token_urlsafe(24) if token == NEW else ""
    settings = Settings(
        host=host, port=port, token=made or token or "", names=names, workers=workers or processors(), limit_s=limit_s
    )
    check(settings)
    from rigwise.web.server import serve

    def ready(address: str) -> None:
        shown = f"{address}?token={made}" if made else address
        print(shown if quiet else f"rigwise serves at {shown}", flush=True)
        if not quiet:
            print("Ctrl-C ends it" + ("; the token is not shown again" if made else ""), file=sys.stderr)
        if is_opened:
            click.launch(shown)

    try:
        serve(settings, ready)
    except KeyboardInterrupt:
        if not quiet:
            print("rigwise: stopped", file=sys.stderr)
    return 0
