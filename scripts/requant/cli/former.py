"""The names that verbs had before. Each says its new one, works as it did, and goes after two minor versions."""

from pathlib import Path

import click

from requant.cli.parameters import PATH, Output, keep_inputs
from requant.documents.reports import write_document
from requant.ground.text import in_units


def _say(former: str, now: str) -> None:
    click.echo(f"note: requant {former} is now requant {now}; the old name stays for two minor versions", err=True)


@click.command(hidden=True)
@click.argument("folder", type=PATH)
def show(folder: Path) -> None:
    """Check a release FOLDER against its SHA256SUMS and list it."""
    from requant.release.folder import list_release

    _say("show", "verify")
    entries = list_release(folder)
    width = max(len(entry["name"]) for entry in entries)
    click.echo(f"release: {folder}")
    for entry in entries:
        click.echo(f"  {entry['name']:<{width}}  {in_units(entry['size']):>8}  {entry['sha256']}")


@click.command(hidden=True)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--json", "out", metavar="FILE", type=Output(), help="Write the numbers to FILE, as JSON.")
@click.option("--quantize", "model", metavar="MODEL", type=PATH, help="As of requant diff.")
@click.option("--type", "quant", metavar="TYPE", help="As of requant diff.")
@click.option("--tool", metavar="RECORD", type=PATH, help="As of requant diff.")
def compare(a: Path, b: Path, out: Path | None, model: Path | None, quant: str | None, tool: Path | None) -> None:
    """Compare the importance matrices A and B; however much differs, the exit code is 0."""
    from requant.difference import imatrices, imatrix_effect
    from requant.difference.diff import trial_of

    _say("compare", "diff")
    keep_inputs((a, b, model, tool), (out,))
    found, trial = imatrices.compare(a, b), trial_of(model, quant, tool)
    document = imatrices.as_document(found)
    click.echo(imatrices.as_text(found))
    if trial:
        weights = [row.name for row in found.weights]
        quants = imatrix_effect.compare_quants({"A": a, "B": b}, weights, trial, Path.cwd())
        document["quant"] = imatrix_effect.as_document(quants)
        click.echo(f"\n{imatrix_effect.as_text(quants)}")
    if out is not None:
        write_document(out, document)


@click.command("compare-behaviour", hidden=True)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
def compare_behaviour(a: Path, b: Path) -> None:
    """Compare the results A and B of the same suite; however much differs, the exit code is 0."""
    from requant.difference.results import as_text, compare_results

    _say("compare-behaviour", "diff")
    click.echo(as_text(compare_results(a, b)))
