"""The verbs that make what a release begins with: ``requant convert``."""

import logging
import sys
from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output
from requant.ground.text import in_units


@click.command(
    cls=Verb,
    short_help="Convert a checkpoint to a BF16 GGUF, without torch.",
    examples=["requant convert Tiny-Qwen3 Tiny-Qwen3.gguf"],
)
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=Output())
def convert(checkpoint: Path, out: Path) -> None:
    """Write the BF16 GGUF that llama.cpp's converter would make of the folder CHECKPOINT, byte for byte, to OUT.

    The GGUF bears the folder's name. Models of other layouts than Qwen3, Qwen2, Llama and Mistral are refused; the
    workflow converts those with llama.cpp's own converter.
    """
    from requant.pipeline.write_gguf import convert_folder

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    digest = convert_folder(checkpoint, out)
    click.echo(f"wrote {out}, {in_units(digest.size)}, SHA-256 {digest.sha256}")
