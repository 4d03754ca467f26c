"""``--plot FILE``: the answer as a picture.

The name is checked before anything is computed and kept with the command that runs, so that
whatever answers says ``draw(document)`` and no function passes the name on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.cli.output import write_output
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.report.figures.theme import Figure

F = TypeVar("F", bound=Callable[..., Any])
_FILE, _THEME = "rigwise.plot", "rigwise.plot_theme"


def plot_option(function: F) -> F:
    """``--plot`` and ``--plot-theme``, which no function takes as parameters."""
    function = click.option(
        "--plot-theme",
        type=click.Choice(("light", "dark")),
        help="Colours of a PNG or SVG; a page follows its reader.  [default: light]",
        expose_value=False,
        callback=_keep_theme,
    )(function)
    return click.option(
        "--plot",
        metavar="FILE",
        help="Draw the answer as FILE.png, FILE.svg or FILE.html.",
        expose_value=False,
        callback=_keep_file,
    )(function)


def draw(what: Mapping[str, Any] | Callable[[], Figure], *, quiet: bool) -> None:
    """Write the figure of a document, or the one that ``what`` makes, if one was asked for.

    Raises:
        UnsupportedError: The document has no figure.
        InvalidInputError: The file cannot be written.
    """
    path = click.get_current_context().meta.get(_FILE)
    if path is None:
        return
    from rigwise.report.figures import figure_of
    from rigwise.report.figures.save import check_place, content_of

    figure = figure_of(what) if isinstance(what, Mapping) else what()
    theme = click.get_current_context().meta.get(_THEME) or "light"
    write_output(path, content_of(figure, check_place(path), theme), quiet=quiet)


def without_plot(what: str) -> None:
    """Refuse ``--plot`` for something that has no figure.

    Raises:
        InvalidInputError: It was given.
    """
    if click.get_current_context().meta.get(_FILE) is not None:
        raise InvalidInputError(f"--plot cannot draw {what}", hint="leave it out, or use --json")


def _keep_theme(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    del parameter
    context.meta[_THEME] = value


def _keep_file(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep the name; refuse a wrong one at once."""
    del parameter
    if value is not None:
        from rigwise.report.figures.save import check_place

        check_place(value)
    context.meta[_FILE] = value
