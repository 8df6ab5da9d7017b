"""The verbs that look at the machine: ``requant doctor`` and ``requant gc``."""

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


@click.command(
    cls=Verb,
    short_help="What takes room here that no release needs?",
    examples=["requant gc", "requant gc --delete"],
)
@click.option("--delete", is_flag=True, help="Remove it; without this it is only shown.")
def gc(delete: bool) -> None:
    """Show what no release needs in this folder's results and in the cache of audits, how much, and why.

    That is: a llama.cpp that neither a pin nor a release names, what killed runs left unfinished, objects of builds
    that are done, audits that were broken off a month ago. What was made stays, and what the next run goes on from.
    """
    from requant.machine.leftovers import as_text, free, leftovers

    click.echo(as_text(free() if delete else leftovers(), delete))
