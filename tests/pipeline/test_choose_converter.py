"""requant.pipeline.choose_converter: ours where it is sure, upstream's for the rest, and why."""

import json
from pathlib import Path

import pytest

from requant.conversion.writer import COMMIT
from requant.documents.records import read_record, write_record
from requant.pipeline.choose_converter import choose_converter, needs_upstream
from requant.toolchain.gguf_py import has_template_files
from support.checkpoints import MODELS, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    write_checkpoint(tmp_path / "source", MODELS["Qwen3"])
    write_record(tmp_path / "source" / "source.json", {})
    return tmp_path


def chosen(folder: Path, commit: str = COMMIT) -> tuple[bool, str]:
    sdist = {"project": "p", "version": "1", "size": 1, "sha256": "0" * 64}
    write_record(folder / "toolchain.json", {"name": "x", "commit": commit, "tree": "0" * 40, "sdist": sdist})
    choose_converter(folder / "source" / "source.json", folder / "toolchain.json", None, folder / "converter.json")
    return needs_upstream(str(folder / "converter.json")), read_record(folder / "converter.json")["reason"]


def test_another_llama_cpp(folder: Path) -> None:
    assert chosen(folder, "1" * 40) == (True, f"requant writes what llama.cpp {COMMIT[:12]} writes, not 111111111111")


def test_an_odd_index_is_as_upstream_takes_it(
    tmp_path: Path,
) -> None:
    """Many were written with shared tensors counted twice; upstream's converter refuses the other kind itself."""
    source = tmp_path / "source"
    source.mkdir()
    names = [*write_checkpoint(source, MODELS["tokenizer.json with more, of pieces"])]
    write_record(source / "source.json", {})
    (source / "model.safetensors").rename(source / "model-00001-of-00001.safetensors")
    for left, outcome in (0, (False, "")), (1, (True, f"holds '{names[0]}', which its index does not name")):
        places = dict.fromkeys(names[left:], "model-00001-of-00001.safetensors")
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (source / "model.safetensors.index.json").write_text(json.dumps(index))
        upstream, reason = chosen(tmp_path)
        assert upstream == outcome[0], reason
        assert outcome[1] in (reason or "")


def test_templates_in_the_settings_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "additional_chat_templates").mkdir()
    assert has_template_files(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": []}')
    assert not has_template_files(tmp_path)
