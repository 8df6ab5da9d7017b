"""The verb for the shell: ``requant completion``."""

import click
from click.shell_completion import get_completion_class

from requant.cli.command import Verb

VARIABLE = "_REQUANT_COMPLETE"
"""What click looks at to see that a shell asks, not a person."""


@click.command(
    cls=Verb,
    short_help="Let your shell complete verbs, options and files.",
    examples=['eval "$(requant completion bash)"'],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets SHELL complete verbs, options and files.

    The example, with your shell's name, goes into ~/.bashrc or ~/.zshrc; for fish, "requant completion fish | source"
    into ~/.config/fish/config.fish.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "requant", VARIABLE).source())
