"""The ``requant`` command.

Exit codes: 0 all is as it should be, 1 something differs, 2 wrong usage or unreadable input, 3 it could not be checked.
"""

import logging
import sys
from pathlib import Path

import click

from requant.cli.evaluate import compare_behaviour, evaluate
from requant.difference import imatrices as comparison
from requant.documents.reports import write_document, write_text
from requant.ground.errors import (
    DigestError,
    PlaceError,
    RequantError,
    SourceError,
    UnsupportedError,
)
from requant.ground.text import in_units
from requant.release.folder import list_release

PATH = click.Path(path_type=Path)
CODES = {DigestError: 1, PlaceError: 2, SourceError: 3, UnsupportedError: 3}
"""Of errors, the first that fits; 2 is for all others."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RequantError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(next((code for kind, code in CODES.items() if isinstance(error, kind)), 2))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


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
@click.argument("subject")
@click.option("--source", metavar="WEIGHTS", help="The weights: OWNER/NAME@REVISION on the Hub, a folder, or a GGUF.")
@click.option("--imatrix", metavar="FILE", help="The importance matrix; by default imatrix.gguf beside the subject.")
@click.option("--full", is_flag=True, help="Check every row of every tensor instead of a sample.")
@click.option("--rows", type=click.IntRange(1, 1 << 24), help="Rows to draw for a sample.  [default: 1024]")
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), help="Draw these rows again; by default it is random.")
@click.option("--exact", is_flag=True, help="Let only exact bytes pass, not another compiler's arithmetic.")
@click.option("--toolchain", metavar="NAME", help="The llama.cpp of the pin table to derive with.")
@click.option("--json", "json_out", metavar="FILE", type=PATH, help="Write the whole report to FILE, as JSON.")
@click.option("--markdown", metavar="FILE", type=PATH, help="Write a summary to FILE, for a discussion page.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Batches, and connections, at a time.")
@click.option("--attest", metavar="FILE", type=PATH, help="Write a signed statement of a passed full audit to FILE.")
@click.option("--key", metavar="FILE", type=PATH, help="The Ed25519 private key that --attest signs with.")
def audit(
    subject: str, source: str | None, imatrix: str | None, full: bool, rows: int | None, seed: int | None, exact: bool,
    toolchain: str | None, json_out: Path | None, markdown: Path | None, jobs: int | None, attest: Path | None,
    key: Path | None,
) -> None:  # fmt: skip
    """Check that the quant SUBJECT derives from the weights that it names, or that an imatrix could be theirs.

    SUBJECT is a file, a folder, hf://OWNER/NAME[@REVISION][/FILE], ms://... for ModelScope, or an https:// address.
    Exit code 0: all that was checked is a derivation; 1: it is not; 2: wrong usage or unreadable input; 3: something
    could not be checked.
    """
    from requant.audit.question import ROWS, Question
    from requant.audit.question import audit as carry_out
    from requant.audit.render import rendered

    if full and (rows is not None or seed is not None):
        raise click.UsageError("--full checks all rows: leave out --rows and --seed")
    if (attest is None) is not (key is None) or (attest is not None and not full):
        raise click.UsageError("--attest needs --key and --full")
    chosen = None if full else rows or ROWS
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    report = carry_out(Question(subject, source, imatrix, chosen, seed, toolchain, jobs, exact))
    found = rendered(report)
    if found.markdown is None and (markdown is not None or attest is not None):
        raise click.UsageError("--markdown and --attest are for quants, SUBJECT is an importance matrix")
    click.echo(found.text)
    if json_out is not None:
        write_document(json_out, found.document)
    if markdown is not None and found.markdown is not None:
        write_text(markdown, found.markdown)
    if attest is not None and key is not None:
        from requant.release.attestation import audit_statement, sign

        sign(audit_statement(found.document), key, attest)
    sys.exit(report.exit_code)


@main.command()
@click.argument("release", type=PATH)
@click.option("--key", metavar="FILE", type=PATH, help="The public key that the attestation must be signed with.")
@click.option("--json", "out", metavar="FILE", type=PATH, help="Write what was found to FILE, as JSON.")
def verify(release: Path, key: Path | None, out: Path | None) -> None:
    """Check that digests, manifest, card and attestation of RELEASE agree; no weights are needed."""
    from requant.release import verify as verification

    found = verification.verify_release(release, key)
    click.echo(verification.as_text(found))
    if out is not None:
        write_document(out, verification.as_document(found))
    sys.exit({"agrees": 0, "differs": 1, "unchecked": 3}[found.verdict])


@main.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--json", "out", metavar="FILE", type=PATH, help="Write what differs to FILE, as JSON.")
def diff(a: Path, b: Path, out: Path | None) -> None:
    """Say what differs between two GGUF files, or two release folders, A and B, and by how much."""
    from requant.difference import diff as difference
    from requant.documents.pins import TABLE, read_pins
    from requant.formats.ggml import Arithmetic
    from requant.toolchain.quantizers import open_quantizer

    pin = next(iter(read_pins(TABLE, "the pin table").toolchains.values()))
    found = difference.diff(a, b, lambda: open_quantizer(Arithmetic.STRICT, pin))
    click.echo(difference.as_text(found))
    if out is not None:
        write_document(out, difference.as_document(found))
    sys.exit(0 if found.same else 1)


@main.command()
@click.argument("release", type=PATH)
@click.option("--key", metavar="FILE", type=PATH, help="The private key: Ed25519, or EC for model-signing.")
@click.option("--method", type=click.Choice(["dsse", "model-signing", "sigstore"]), default="dsse", show_default=True)
def attest(release: Path, key: Path | None, method: str) -> None:
    """Sign what RELEASE was built from: an in-toto statement, or a model signature of the OpenSSF."""
    from requant.release.signing import sign_release

    click.echo(f"wrote {sign_release(release, key, method)}")


@main.command()
@click.argument("path", type=PATH)
def new_key(path: Path) -> None:
    """Make an Ed25519 key pair: the private key in PATH, the public one in PATH.pub."""
    from requant.release.keys import new_key as make

    click.echo(f"wrote {path} (keep it secret) and {path}.pub, key id {make(path)}")


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
        from requant.difference import imatrix_effect as quants

        weights = [row.name for row in found.weights]
        quant = quants.compare_quants({"A": a, "B": b}, weights, model, kind, tool, Path.cwd())
        document["quant"] = quants.as_document(quant)
        click.echo(f"\n{quants.as_text(quant)}")
    if out is not None:
        write_document(out, document)


main.add_command(evaluate)
main.add_command(compare_behaviour)
