"""The verb that compares: ``requant diff``."""

import sys
from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, as_json, hand_out, keep_inputs


@click.command(
    cls=Verb,
    short_help="What differs between two of a kind?",
    examples=[
        "requant diff model-Q4_K_M.gguf other-Q4_K_M.gguf",
        "requant diff release other-release",
        "requant diff imatrix.gguf other-imatrix.gguf --json differences.json",
        "requant diff imatrix.gguf other-imatrix.gguf --quantize model.gguf --type Q4_K_M --tool llama-quantize.json",
        "requant diff answers.jsonl other-answers.jsonl",
    ],
)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@as_json
@click.option(
    "--quantize", "model", metavar="MODEL", type=PATH,
    help="Quantize this BF16 GGUF with the matrices A and B, and compare the bytes. Needs room for both here.",
)  # fmt: skip
@click.option("--type", "quant", metavar="TYPE", help="What --quantize makes, such as Q4_K_M.")
@click.option(
    "--tool", metavar="RECORD", type=PATH,
    help="What --quantize runs: results/toolchains/SOURCE/strict/bin/llama-quantize.json.",
)  # fmt: skip
def diff(a: Path, b: Path, out: Path | None, model: Path | None, quant: str | None, tool: Path | None) -> None:
    """Say what differs between A and B, and by how much.

    They are two GGUF files, two release folders, two importance matrices, or two results of requant evaluate.

    The exit code is 0 if they are the same, and 1 if they differ, however little. Of two importance matrices the
    relative difference |a - b| / max(a, b) of each column's importance, in_sum2 / counts, is shown. Of two results, the
    items that only one of them passed, how likely flips so one-sided are if both are equally good (McNemar's exact
    test), and the settings that differ; of these the model's name alone makes no difference.
    """
    from requant.difference import diff as difference

    keep_inputs((a, b, model, tool), (out,))
    found = difference.diff(a, b, trial=difference.trial_of(model, quant, tool))
    hand_out(difference.as_text(found), difference.as_document(found), out)
    sys.exit(found.exit_code)
