"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

from support.checkout import ROOT

SCRIPTS = ROOT / "scripts"
MODULES = sorted(path for path in SCRIPTS.rglob("requant/**/*.py") if ">>> " in path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(SCRIPTS).with_suffix("").parts)


def test_there_are_examples() -> None:
    assert {"requant.ground.text", "requant.formats.ggml", "requant.quantization.mix"} <= {*map(module, MODULES)}


@pytest.mark.parametrize("path", MODULES, ids=module)
def test_examples(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(module(path)))
    assert found.attempted and not found.failed
