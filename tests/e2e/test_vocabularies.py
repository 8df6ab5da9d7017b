"""requant.conversion beside the pinned converter and its own libraries: vocabularies of pieces, special tokens, pooling."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.conversion.metadata import expected_metadata
from requant.conversion.special_tokens import UnknownProcessorError, read_special
from requant.formats.gguf import Header, read_header
from requant.formats.sentencepiece import Kind, read_pieces
from support.checkout import ROOT, TOOLCHAINS
from support.vocabularies import CONFIG, VOCABULARIES, files
from support.workplace import TOOLCHAIN, Workplace

TREE = TOOLCHAINS / TOOLCHAIN / "source"
SUPPORT = ROOT / "tests" / "support"
DESCRIBES = {"general.name", "general.size_label", "general.basename", "general.finetune", "general.file_type"}
TRAIN = """
import sys
from sentencepiece import SentencePieceTrainer
SentencePieceTrainer.train(
    input=sys.argv[1], model_prefix="tokenizer", vocab_size=600, model_type="bpe", byte_fallback=True,
    user_defined_symbols=["<mine>"], control_symbols=["<ours>"], character_coverage=0.99, minloglevel=2,
)
"""
LOAD = """
import json, sys
from sentencepiece import SentencePieceProcessor
model = SentencePieceProcessor(model_file=sys.argv[1])
kinds = ("IsUnknown", "IsControl", "IsUnused", "IsByte")
print(json.dumps([[model.IdToPiece(i), model.GetScore(i), [getattr(model, k)(i) for k in kinds]] for i in range(len(model))]))
"""


@pytest.fixture(scope="module")
def trained(upstream_converter: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model that SentencePiece itself made of a page of ours."""
    folder = tmp_path_factory.mktemp("trained")
    command = [upstream_converter, "-c", TRAIN, ROOT / "docs" / "verdicts.md"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "tokenizer.model").read_bytes()


@pytest.fixture(scope="module")
def checkpoints(trained: bytes) -> Mapping[str, Mapping[str, bytes]]:
    config = {**CONFIG, "vocab_size": 640}
    return {**VOCABULARIES, "trained": files(tokenizer__model=trained, config__json=config)}


@pytest.fixture(scope="module")
def headers(
    checkpoints: Mapping[str, Mapping[str, bytes]], upstream_converter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Header]:
    """What the real converter writes for each, all in one process, as importing it takes seconds."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "out").mkdir()
    for name, contents in checkpoints.items():
        (folder / name).mkdir()
        for file, data in contents.items():
            (folder / name / file).write_bytes(data)
    places = [folder / name for name in checkpoints]
    command = [upstream_converter, SUPPORT / "converter_headers.py", TREE, folder / "out", *places]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    refused = [path.read_text() for path in (folder / "out").glob("*.refused")]
    assert not refused, refused[0]
    return {name: read_header(folder / "out" / f"{name}.gguf") for name in checkpoints}


def test_every_vocabulary_is_what_the_converter_writes(
    headers: Mapping[str, Header], checkpoints: Mapping[str, Mapping[str, bytes]]
) -> None:
    for name, header in headers.items():
        expected = expected_metadata(checkpoints[name])
        assert not expected.unknown, name
        assert not any(expected.unsure.values()), name
        found = {finding.key: finding.grade for finding in compare_metadata(header, expected).findings}
        assert found == dict.fromkeys(found.keys() & DESCRIBES, Grade.HARMLESS), name
        assert {"tokenizer.ggml.scores", "tokenizer.ggml.pre"} <= header.metadata.keys(), name


def test_pieces_are_those_that_sentencepiece_reads(trained: bytes, upstream_converter: Path, tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(trained)
    command = [upstream_converter, "-c", LOAD, tmp_path / "x.model"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    kinds = (Kind.UNKNOWN, Kind.CONTROL, Kind.UNUSED, Kind.BYTE)
    ours = [[text, score, [kind is each for each in kinds]] for text, score, kind in read_pieces(trained, "x.model")]
    assert ours == json.loads(done.stdout)
    assert len({kind for _, _, kind in read_pieces(trained, "x.model")}) == 5


TOKENS = ("<s>", "</s>", "<sep>", "<cls>", "<x>")


def template(random: random.Random) -> list[dict[str, Any]]:
    """A template for one or two texts, mostly such as there are."""
    token = lambda: {"SpecialToken": {"id": random.choice(TOKENS)}}  # noqa: E731
    text = lambda name: {"Sequence": {"id": name}}  # noqa: E731
    between = [token() for _ in range(random.randrange(3))]
    whole = [token(), text("A"), *between, *random.choice(([], [text("B")])), token()]
    return whole[random.randrange(2) : len(whole) - random.randrange(2)]


def case(random: random.Random) -> dict[str, Any]:
    """Small files that name special tokens here and there."""
    single = lambda: {"type": "TemplateProcessing", "single": template(random), "pair": template(random)}  # noqa: E731
    roberta = {"type": "RobertaProcessing", "cls": ["<cls>", 3], "sep": ["<sep>", 2]}
    step = lambda: random.choice((single(), single(), {"type": "ByteLevel"}, roberta, {"type": "BertProcessing"}))  # noqa: E731
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, step()]}
    ids = {token: random.randrange(12) for token in random.sample(TOKENS, 4)}
    tokenizer = {
        "added_tokens": [{"id": number, "content": token} for token, number in ids.items()],
        "post_processor": random.choice((None, step(), sequence, {"type": "Sequence", "processors": None})),
    }
    settings: dict[str, Any] = {}
    for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot"):
        token = random.choice(TOKENS)
        settings[f"{kind}_token"] = random.choice((None, token, {"content": token}, {"content": 1}, ""))
        settings[f"add_{kind}_token"] = random.choice((True, False, None, "yes"))
    settings = {key: value for key, value in settings.items() if random.randrange(3)}
    config = {f"{kind}_token_id": random.choice((None, 1, 20, [1, 2])) for kind in ("bos", "eos", "pad", "eot")}
    contents = {"tokenizer.json": tokenizer, "tokenizer_config.json": settings, "config.json": config}
    if not random.randrange(5):
        del contents[random.choice(("tokenizer.json", "tokenizer_config.json"))]
    return {"files": contents, "n_vocab": random.choice((None, 10))}


def test_special_tokens_are_those_of_gguf_py(demo: Workplace, tmp_path: Path) -> None:
    rng = random.Random(7)
    cases = [case(rng) for _ in range(1000)]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, SUPPORT / "special_vocab.py", "cases.json", "answers.json"]
    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(TREE / "gguf-py")})
    answers = json.loads((tmp_path / "answers.json").read_text())
    for each, answer in zip(cases, answers, strict=True):
        contents = [each["files"].get(name) for name in ("tokenizer.json", "tokenizer_config.json", "config.json")]
        try:
            found = read_special(*contents, size=each["n_vocab"])
        except UnknownProcessorError:
            assert answer is None, each
            continue
        assert answer == {"ids": found.ids, "added": found.added}, each
    assert 20 < answers.count(None) < 500
    assert "eot" in {kind for answer in answers if answer for kind in answer["ids"]}
