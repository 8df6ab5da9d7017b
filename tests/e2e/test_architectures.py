"""requant.conversion beside the pinned converter: every tensor row by row, all metadata, and every byte that we write."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from requant.audit.metadata.comparison import (
    Grade,
    MetadataComparison,
    NamedImatrix,
    compare_making,
    compare_metadata,
    expected_from_gguf,
)
from requant.audit.named_weights import PRE, open_weights, with_pre_tokenizer
from requant.conversion.layout import Plan, plan, read_config
from requant.conversion.metadata import expected_metadata, read_texts
from requant.conversion.sources import ROPE_TOLERANCE
from requant.conversion.weights import rounded
from requant.formats.ggml import GGMLType
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import read_imatrix
from requant.ground.digests import Digest, digest_file
from requant.ground.programs import work_folder
from requant.pipeline.write_gguf import open_conversion, write_gguf
from requant.places.place import LocalPlace
from requant.toolchain.pre_tokenizers import PreTokenizers
from support.checkout import TOOLCHAINS
from support.checkpoints import MODELS, give_tokenizer, write_checkpoint, write_llama_tokenizer
from support.relabelled import relabelled, text
from support.workplace import TOOLCHAIN, Workplace

DESCRIPTIVE = ("general.base_model.", "general.license", "general.tags", "general.languages")
"""Keys that a README.md gives."""
UNCHECKED = {"Llama-3.2-1B-Instruct": ["tokenizer.ggml.pre"]}
"""Keys that no audit without a tokenizer can tell."""
PLAIN = ("Llama, biased", "Mistral", "Qwen2", "Qwen3, tied")
"""Models that have nothing which others here lack."""
TREE = TOOLCHAINS / TOOLCHAIN / "source"


def convert(python: Path, folder: Path, out: Path) -> Header:
    command = [python, TREE / "convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", "bf16"]
    env = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(out.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return read_header(out)


def convert_ourselves(folder: Path, place: Path) -> Digest:
    """The digest that is taken while the bytes pass."""
    with work_folder(place / "work") as work, LocalPlace(folder, "the checkpoint") as files:
        (work.path / folder.name).symlink_to(folder)
        found = write_gguf(work, open_conversion(files), folder.name, TREE, "own.gguf", place / "log")
        assert found.digest == digest_file(work.path / "own.gguf")
    return found.digest


def require_planned(header: Header, found: Plan) -> None:
    planned = {name: (origin.shape, origin.type.name) for name, origin in found.tensors.items()}
    planned |= {name: (factors.shape, "F32") for name, factors in found.computed.items()}
    assert {tensor.name: (tensor.shape, tensor.type.name) for tensor in header.tensors} == planned


def require_only_names(comparison: MetadataComparison, *harmless: str) -> None:
    """All keys are equal, but for those that only describe."""
    found = {finding.key: finding.grade for finding in comparison.findings}
    names = {"general.name", "general.size_label", "general.basename", "general.finetune"}
    assert found == dict.fromkeys(found.keys() & {*names, *harmless}, Grade.HARMLESS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in PLAIN else ()) for name in MODELS]
)
def test_the_converter(demo: Workplace, upstream_converter: Path, tmp_path: Path, name: str) -> None:
    model, folder = MODELS[name], tmp_path / name
    folder.mkdir()
    weights = write_checkpoint(folder, model)
    give_tokenizer(folder, model, demo.results / "generated", TREE, upstream_converter)
    header, found = convert(upstream_converter, folder, tmp_path / "model.gguf"), plan(model.config, weights)
    with LocalPlace(folder, name) as place:
        metadata = expected_metadata(read_texts(place))
    assert found == plan(model.config) or model.bare
    require_planned(header, found)
    comparison = compare_metadata(header, metadata)
    unchecked = [finding for finding in comparison.findings if finding.grade is Grade.UNCHECKED]
    assert [finding.key for finding in unchecked] == UNCHECKED.get(name, [])
    comparison = replace(comparison, findings=tuple(set(comparison.findings) - {*unchecked}))
    require_only_names(comparison, *(key for key in header.metadata if key.startswith(DESCRIPTIVE)))
    for tensor in header.tensors:
        data = np.memmap(tmp_path / "model.gguf", np.uint8, "r", tensor.offset, (tensor.nbytes,))
        if tensor.name in found.computed:
            np.testing.assert_allclose(data.view("<f4"), found.computed[tensor.name], rtol=ROPE_TOLERANCE, atol=0)
            continue
        origin = found.tensors[tensor.name]
        expected = weights[origin.name][origin.rows(np.arange(tensor.shape[-1]))]
        assert expected.size == prod(tensor.shape)
        if tensor.type.name == "BF16":
            expected, data = rounded(expected, GGMLType.BF16).view(np.uint32) >> 16, data.view("<u2")
        assert np.array_equal(data.view("<f4") if data.dtype == np.uint8 else data, expected.reshape(-1)), tensor.name
    assert convert_ourselves(folder, tmp_path) == digest_file(tmp_path / "model.gguf")


def test_a_tokenizer_saved_by_transformers_5_gives_the_same_file(demo: Workplace, tmp_path: Path) -> None:
    """The converter's own transformers cannot read such settings, so what it makes of the older form is the measure."""
    model, folder = MODELS["Llama-3.2-1B-Instruct"], tmp_path / "model"
    folder.mkdir()
    write_checkpoint(folder, model)
    write_llama_tokenizer(folder, TREE / "models" / "ggml-vocab-llama-bpe.gguf")
    before = convert_ourselves(folder, tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").write_text(settings.pop("chat_template"))
    del settings["added_tokens_decoder"]
    extra = {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<|reserved_special_token_0|>"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | extra))
    assert convert_ourselves(folder, tmp_path) == before


def test_a_pre_tokenizer_is_recognised_by_upstreams_list(demo: Workplace, tmp_path: Path) -> None:
    """By an audit too, which needs no torch for it: a changed name is evidence, and nothing is left unchecked."""
    model, folder = MODELS["Llama-3.2-1B-Instruct"], tmp_path / "model"
    folder.mkdir()
    write_checkpoint(folder, model)
    write_llama_tokenizer(folder, TREE / "models" / "ggml-vocab-llama-bpe.gguf")
    with work_folder(tmp_path / "work", keep=True) as work, LocalPlace(folder, "the checkpoint") as files:
        (work.path / "model").symlink_to(folder)
        write_gguf(work, open_conversion(files), "model", TREE, "own.gguf", tmp_path / "log")
    weights = open_weights(str(folder))
    with weights.place:
        known = PreTokenizers.of_package()
        asked, strange = (
            with_pre_tokenizer(weights, known.name),
            with_pre_tokenizer(weights, lambda _: known.name(b"{}")),
        )
    assert asked.expected and weights.expected and strange == weights
    header = read_header(tmp_path / "work" / "own.gguf")
    before, after = (compare_metadata(header, each.expected) for each in (weights, asked) if each.expected)
    assert {finding.key for finding in before.findings} - {finding.key for finding in after.findings} == {PRE}
    require_only_names(after)
    changed = relabelled(tmp_path / "work" / "own.gguf", tmp_path / "changed.gguf", {PRE: text("default")})
    serious = [each for each in compare_metadata(read_header(changed), asked.expected).findings if each.key == PRE]
    assert [(each.grade, each.expected) for each in serious] == [(Grade.SERIOUS, "'llama-bpe'")]


def test_the_demo(demo: Workplace) -> None:
    converted = read_header(demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf")
    [release] = [read_header(path) for path in demo.release.glob("*Q4_K_M*.gguf")]
    require_planned(converted, plan(read_config((demo.results / "generated" / "config.json").read_bytes())))
    imatrix = read_imatrix(demo.release / "imatrix.gguf")
    named = NamedImatrix(len(imatrix.entries), imatrix.chunk_count)
    with LocalPlace(demo.results / "generated", "the weights") as place:
        ours = expected_metadata(read_texts(place))
    for expected in (ours, expected_from_gguf(converted)):
        comparison = compare_metadata(release, expected)
        require_only_names(comparison)
        assert len(comparison.equal) >= 24
    making = {finding.key: finding.grade for finding in compare_making(release, named)}
    assert making == dict.fromkeys(("quantize.imatrix.file", "quantize.imatrix.dataset"), Grade.HARMLESS)
