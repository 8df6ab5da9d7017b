"""requant.toolchain.converter without torch: a small Python program answers in place of upstream's classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from requant.ground.errors import ToolError, UnsupportedError
from requant.toolchain import converter
from requant.toolchain.converter import ask_converter, converter_python


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "requant" / "toolchains" / "converter"


def test_nothing_is_installed_unless_it_is_asked_for(cache: Path) -> None:
    assert converter_python(False) is None
    assert not cache.exists()


def test_an_environment_that_was_moved_away_is_said(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "environment.json").write_text("{}")
    with pytest.raises(ToolError, match=r"environment/bin/python is missing: remove .*environment\.json"):
        converter_python(False)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("raise NotImplementedError(\"Architecture 'Odd\\x1b' not supported!\")", r"does not convert a 'Odd\\x1b'"),
        ("print('Traceback', flush=True); raise SystemExit('KeyError: \\'hidden_size\\'')", "can say nothing of this model: KeyError: 'hidden_size'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "can say nothing of this model: it took too long"),
        ("import os; os.truncate(os.open('answer.json', os.O_CREAT | os.O_RDWR), 1 << 29); open('answer.npz', 'w')", "too long to be looked at"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, sentence: str
) -> None:
    """Whatever it says: strangers' files led to it."""
    folder = tmp_path / "asking"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "program.py").write_text(program)
    monkeypatch.setattr(converter, "PROGRAM", folder)
    with pytest.raises(UnsupportedError, match=sentence):
        ask_converter(Path(sys.executable), tmp_path, {"config.json": b"{}"}, [], {})


def test_the_program_sees_the_small_files_and_an_empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "asking"
    folder.mkdir()
    (folder / "__init__.py").touch()
    code = "import json, os, pathlib; seen = [str(p) for p in sorted(pathlib.Path('model').rglob('*'))]; env = dict(os.environ)"
    answer = "{'tensors': {'x': {'seen': seen, 'env': env}}, 'scales': {}, 'unknown': 'no header'}"
    (folder / "program.py").write_text(
        f"{code}\njson.dump({answer}, open('answer.json', 'w'))\nimport numpy; numpy.savez('answer.npz')\n"
    )
    monkeypatch.setattr(converter, "PROGRAM", folder)
    monkeypatch.setenv("HF_TOKEN", "secret")
    said = ask_converter(Path(sys.executable), tmp_path, {"config.json": b"{}", "1_Pooling/config.json": b"{}"}, [], {})
    found = said.tensors["x"]
    assert found["seen"] == ["model/1_Pooling", "model/1_Pooling/config.json", "model/config.json"]
    assert "secret" not in json.dumps(found["env"])
    assert found["env"]["HOME"] == found["env"]["HF_HOME"] != str(Path.home())
    assert (found["env"]["HF_HUB_OFFLINE"], said.header, said.unknown) == ("1", None, "no header")
