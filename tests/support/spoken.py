"""Everything that a call says, on either stream, in one file."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from requant.cli.main import main
from requant.documents.pins import ModelPin
from requant.pipeline.fetch_model import fetch_model
from requant.pipeline.job import job


def commands(commands: Sequence[Sequence[str]], out: Path) -> None:
    """Run commands, one after another; each ends with a line of its exit code."""
    with out.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        for arguments in commands:
            try:
                main([*arguments], prog_name="requant")
            except SystemExit as end:
                print(f"exit code {end.code}", file=sys.stderr)


def fetching(pin: ModelPin, folder: Path, out: Path) -> None:
    """Run the rule that fetches a model, with its log in ``folder``."""
    with out.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            with job(str(folder / "fetch.log")):
                fetch_model(
                    pin, "huggingface", ["Q4_K_M"], [], folder / "out", folder / "record.json", folder / "tool.log"
                )
        except SystemExit as end:
            print(f"exit code {end.code}", file=sys.stderr)
