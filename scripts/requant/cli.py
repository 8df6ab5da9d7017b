"""The ``requant`` command. Exit codes: 0 all is as it should be, 1 bytes differ, 2 wrong usage or unreadable input."""

import sys
from pathlib import Path

import click

from requant import compare as comparison
from requant.disk import in_units
from requant.errors import DigestError, RequantError
from requant.release import list_release

PATH = click.Path(path_type=Path)


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
@click.argument("folder", type=PATH)
def show(folder: Path) -> None:
    """Check a release FOLDER against its SHA256SUMS and list it."""
    entries = list_release(folder)
    width = max(len(entry["name"]) for entry in entries)
    click.echo(f"release: {folder}")
    for entry in entries:
        click.echo(f"  {entry['name']:<{width}}  {in_units(entry['size']):>8}  {entry['sha256']}")


@main.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--json", "out", metavar="FILE", type=PATH, help="Write the numbers to FILE, as JSON.")
@click.option(
    "--quantize", "model", metavar="MODEL", type=PATH,
    help="Quantize this BF16 GGUF with A and with B, and compare the bytes. Needs room for both here, for a while.",
)  # fmt: skip
@click.option("--type", "kind", metavar="TYPE", help="What --quantize makes, such as Q4_K_M.")
@click.option(
    "--tool", metavar="RECORD", type=PATH,
    help="What --quantize runs: results/toolchains/SOURCE/strict/bin/llama-quantize.json.",
)  # fmt: skip
def compare(a: Path, b: Path, out: Path | None, model: Path | None, kind: str | None, tool: Path | None) -> None:
    """Compare the importance matrices A and B, weight by weight.

    Shown is the relative difference |a - b| / max(a, b) of the columns' importance, in_sum2 / counts. However large it
    is, the exit code is 0.
    """
    if len({model is None, kind is None, tool is None}) > 1:
        raise click.UsageError("--quantize, --type and --tool belong together: give all three or none")
    found = comparison.compare(a, b)
    document = comparison.as_document(found)
    click.echo(comparison.as_text(found))
    if model is not None and kind is not None and tool is not None:
        # Only this needs the packages of the workflow.
        from requant import compare_quants as quants

        weights = [row.name for row in found.weights]
        quant = quants.compare_quants({"A": a, "B": b}, weights, model, kind, tool, Path.cwd())
        document["quant"] = quants.as_document(quant)
        click.echo(f"\n{quants.as_text(quant)}")
    if out is not None:
        comparison.write_document(out, document)
