"""requant.audit.question: the command that an audit prints asks the same again, whatever was asked."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from requant.audit.named_weights import open_weights
from requant.audit.question import Question, again
from requant.audit.subject.subject import open_subject
from requant.cli.main import main
from requant.ground.errors import SourceError
from requant.places.place import open_place
from support.gguf_files import write_model

SUBJECT, WEIGHTS, MATRIX = "./quant.gguf", "./weights.gguf", "./imatrix.gguf"
ALL = Question(
    SUBJECT, WEIGHTS, MATRIX, rows=5, seed=7, toolchain="b1", exact=True, trust_subject=True,
    allowed=frozenset({"general.x", "general.y"}), converter=True, fit_imatrix=True,
)  # fmt: skip
FULL = Question(SUBJECT, WEIGHTS, rows=None)
LITTLE = Question(SUBJECT, rows=9, seed=1)
MOVES_NOTHING = {"jobs", "max_rate"}
"""How fast it goes."""


def asked_again(question: Question, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    """What the printed command asks, where it is typed in the folder of the files."""
    monkeypatch.chdir(folder)
    for name in (SUBJECT, WEIGHTS, MATRIX):
        write_model(folder / name, {"a.weight": (np.ones((4, 64), np.float32), None)})
    subject, weights = open_subject(question.subject), open_weights(question.weights or WEIGHTS)
    matrix = None if question.imatrix is None else open_place(question.imatrix)
    with subject.place, weights.place:
        _, *words = again(question, subject, weights, matrix, question.seed)
    heard: list[Question] = []

    def hear(question: Question) -> None:
        heard.append(question)
        raise SourceError("heard")

    monkeypatch.setattr("requant.audit.question.audit", hear)
    assert CliRunner().invoke(main, words).exit_code == 3
    return heard[0]


@pytest.mark.parametrize("question", [ALL, FULL, LITTLE], ids=["all", "full", "little"])
def test_the_command_asks_the_same(question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_again(question, tmp_path, monkeypatch) == question


def test_all_that_moves_an_answer_is_in_it() -> None:
    """So that a new field is not forgotten."""
    default = Question("")
    same = {field.name for field in fields(Question) if getattr(ALL, field.name) == getattr(default, field.name)}
    assert same == MOVES_NOTHING
