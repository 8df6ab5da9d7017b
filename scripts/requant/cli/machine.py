"""The verb that looks at the machine: ``requant doctor``."""

import sys
from pathlib import Path

import click

from requant.cli.command import Verb


@click.command(
    cls=Verb,
    short_help="What can this machine do, and what does it lack?",
    examples=["requant doctor"],
)
def doctor() -> None:
    """Look at what the workflow would use here: processor, disk, tools, GPU, network.

    Each line says how something is: ok; limited, so that only some things are not possible; or missing, so that not
    even the demo can be made. Where something lacks, the line ends in the remedy. Nothing is written, and nothing
    fetched; the package index and the hubs, or the mirrors that are set, are asked whether they are there.

    The exit code is 0 where nothing is missing, else 3.
    """
    from requant.machine.doctor import as_text, examine, exit_code

    found = examine(Path(__file__).resolve().parents[3])
    click.echo(as_text(found))
    sys.exit(exit_code(found))
