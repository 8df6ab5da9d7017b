"""The ``requant`` command. Exit codes: 0 all is as it should be, 1 bytes differ, 2 wrong usage or unreadable input."""

import sys
from pathlib import Path

import click

from requant.disk import in_units
from requant.errors import DigestError, RequantError
from requant.release import list_release


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RequantError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1 if isinstance(error, DigestError) else 2)


@click.group(cls=_Group)
@click.version_option(package_name="requant")
def main() -> None:
    """Make reproducible GGUF quantizations, and look at them."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Check a release FOLDER against its SHA256SUMS and list it."""
    entries = list_release(folder)
    width = max(len(entry["name"]) for entry in entries)
    click.echo(f"release: {folder}")
    for entry in entries:
        click.echo(f"  {entry['name']:<{width}}  {in_units(entry['size']):>8}  {entry['sha256']}")
