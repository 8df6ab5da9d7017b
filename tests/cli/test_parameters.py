"""requant.cli.parameters: what goes to standard output, and what is written."""

from pathlib import Path

import pytest

from requant.cli.parameters import STANDARD_OUTPUT, hand_out
from requant.ground.canonical import canonical

BOLD = "\x1b[1mexact\x1b[0m"
DOCUMENT = {"verdict": "exact"}


def test_colours_that_were_chosen_stay(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is no terminal here, but rich may have been told to colour all the same."""
    hand_out(BOLD, DOCUMENT, None)
    assert capsys.readouterr().out == f"{BOLD}\n"


def test_the_document_goes_where_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hand_out("exact", DOCUMENT, tmp_path / "report.json")
    assert (capsys.readouterr().out, (tmp_path / "report.json").read_bytes()) == ("exact\n", canonical(DOCUMENT))
    hand_out("exact", DOCUMENT, STANDARD_OUTPUT)
    assert capsys.readouterr().out.encode() == canonical(DOCUMENT)
