"""Commands that consist of actions: ``rigwise offers lint``, ``rigwise history compare``."""

from __future__ import annotations

import click

from rigwise.errors import near_matches


class Actions(click.Group):
    """The actions; a word that is none of them gets near matches, as everywhere."""

    #: What to say of a word that is like none of them; empty lists the actions.
    otherwise = ""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a hint for a typo."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = near_matches(args[0], self.commands) or self.otherwise or f"it has {', '.join(self.commands)}"
            raise click.UsageError(f"{self.name} has no action {args[0]!r}; {close}", ctx)
        return super().resolve_command(ctx, args)
