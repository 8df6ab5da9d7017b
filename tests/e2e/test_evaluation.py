"""What the demo measures of itself: real tools on real files; and what is wrong with the inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from requant.documents.evaluation import read_evaluation
from requant.documents.file_names import EVALUATION
from requant.documents.records import Product, write_record
from requant.evaluation.fidelity.predictions import Means, measure_baseline, measure_quant
from requant.ground.digests import digest_file
from requant.ground.errors import DiskError, FormatError, StaleError
from requant.ground.programs import Run
from requant.pipeline.settings import Fidelity
from requant.release.verify import verify_release
from requant.toolchain.instrument import Instrument
from support.checkout import TOOLCHAINS
from support.endpoint.suites import lines
from support.workplace import TOOLCHAIN, Workplace

BUILT = TOOLCHAINS / TOOLCHAIN
NATIVE = BUILT / "native" / "build.json"
SERVER = BUILT / "strict" / "bin" / "llama-server.json"
SHORT: dict[str, Any] = {"arithmetic": "native", "chunks": 4, "context": 64}


@pytest.fixture(scope="module")
def measured(demo: Workplace) -> dict[str, Any]:
    return read_evaluation(demo.release / EVALUATION)


def test_fidelity(measured: dict[str, Any], demo: Workplace) -> None:
    fidelity = measured["fidelity"]
    assert [(quant["type"], quant["imatrix"]) for quant in fidelity["quants"]] == [("Q4_K_M", True), ("Q4_K_M", False)]
    # A random model predicts every token alike, so its perplexity is about the size of the vocabulary.
    assert 100_000 < float(fidelity["baseline"]["perplexity"]["value"]) < 250_000
    for quant in fidelity["quants"]:
        apart = quant["divergence"]
        assert 0 < float(apart["mean"]["value"]) < 0.1
        assert float(apart["quantiles"]["min"]) <= float(apart["quantiles"]["q50"]) <= float(apart["quantiles"]["max"])
        assert 0 < float(apart["same_top"]["value"]) <= 100
    protocol = fidelity["protocol"]
    assert (protocol["chunks"], protocol["scored"]) == (4, 4 * 255)
    assert protocol["text"]["sha256"] == digest_file(demo.results / "corpus" / "docs.test.txt").sha256


def test_what_is_big_is_gone(measured: dict[str, Any], demo: Workplace) -> None:
    assert not (demo.results / "evaluation" / "logits.bin").exists()
    assert not list(demo.results.glob("quants/*-plain.gguf"))


def test_speed(measured: dict[str, Any], demo: Workplace) -> None:
    base, quant = measured["speed"]["models"]
    assert (base["label"], quant["label"]) == ("BF16", "Q4_K_M")
    assert quant["file"]["sha256"] == digest_file(demo.release / quant["file"]["name"]).sha256
    for model in (base, quant):
        assert len(model["prompt"]["rounds"]) == len(model["decode"]["rounds"]) == 3
        assert all(float(model[key]["mean"]) > 0 for key in ("prompt", "decode"))
        # The file is mapped into memory as a whole.
        assert model["peak_memory"] > model["file"]["size"]
        assert all(float(rate) > 0 for rate in model["served"]["streams"].values())
    assert float(quant["ratio"]["decode"]["median"]) > 0


def test_every_quantized_tensor_has_its_error(measured: dict[str, Any]) -> None:
    [quant] = measured["tensors"]
    assert len(quant["tensors"]) == 29
    for tensor in quant["tensors"]:
        most = 0.03 if tensor["type"] == "Q6_K" else 0.12
        assert 0 < float(tensor["plain"]) < most, tensor
        assert (tensor["weighted"] is None) == (tensor["name"] == "token_embd.weight")
        # What the importance matrix is for.
        assert tensor["weighted"] is None or float(tensor["weighted"]) < float(tensor["plain"])


def test_forced_answers_pass(measured: dict[str, Any], demo: Workplace) -> None:
    """A random model under a grammar: server, template, reader and verifiers work together."""
    [suite] = measured["behaviour"]["suites"]
    assert (suite["name"], suite["of"], suite["harness"]) == ("forced", 5, None)
    for model, label in zip(suite["models"], ("BF16", "Q4_K_M"), strict=True):
        assert (model["label"], model["passed"], set(model["outcomes"].values())) == (label, 5, {"passed"})
    assert suite["models"][1]["pair"] == {"both": 5, "lost": 0, "won": 0, "p": "1.0000"}
    [answers] = (demo.results / "evaluation" / "behaviour" / "Q4_K_M").glob("forced-*.jsonl")
    called = {line["id"]: line["response"]["choices"][0] for line in lines(answers)[1:]}
    assert called["nested-call"]["finish_reason"] == "tool_calls"
    assert json.loads(called["chinese-call"]["message"]["tool_calls"][0]["function"]["arguments"])["city"] == "北京"


def test_the_card_shows_it_and_the_release_agrees(measured: dict[str, Any], demo: Workplace) -> None:
    card = (demo.release / "README.md").read_text()
    assert card.count(measured["speed"]["models"][1]["decode"]["mean"]) >= 2
    assert verify_release(demo.release).verdict == "agrees"


# What can be wrong.


def means(text: Path, folder: Path, **settings: Any) -> Means:
    tool = BUILT / "strict" / "bin" / "llama-perplexity.json"
    instrument = Instrument.open(tool, NATIVE, Run(2, folder / "log"))
    return Means(text, instrument, Fidelity.of({**SHORT, **settings}))


def kept_in(folder: Path) -> Product:
    return Product(folder / "logits.bin", folder / "BF16.json")


@pytest.fixture
def model(measured: dict[str, Any], demo: Workplace) -> Product:
    folder = demo.results / "bf16" / "converted"
    return Product(folder / "Tiny-Qwen3.gguf", folder / "model.json")


def test_no_room_for_the_logits(demo: Workplace, model: Product, tmp_path: Path) -> None:
    text = demo.results / "corpus" / "docs.test.txt"
    with pytest.raises(DiskError, match=r"the file of logits of 99,999,999 chunks needs .* TB"):
        measure_baseline(model, means(text, tmp_path, chunks=99_999_999), kept_in(tmp_path))
    assert not kept_in(tmp_path).file.exists()


def test_a_text_that_is_too_short(model: Product, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    for words, chunks in ((300, 20), (5, 1)):
        text.write_text("Something to read. " * words)
        with pytest.raises(
            FormatError, match=f"short\\.txt is shorter than {chunks} chunks of 64 tokens: name a longer"
        ):
            measure_baseline(model, means(text, tmp_path, chunks=chunks), kept_in(tmp_path))
    assert not kept_in(tmp_path).file.exists() and not kept_in(tmp_path).record.exists()


def test_logits_of_another_model_or_damaged_ones(demo: Workplace, model: Product, tmp_path: Path) -> None:
    how, logits = means(demo.results / "corpus" / "docs.test.txt", tmp_path), kept_in(tmp_path)
    measure_baseline(model, how, logits)
    quant = Product(demo.release / "Tiny-Qwen3-Q4_K_M.gguf", demo.results / "quants" / "Q4_K_M.json")
    measure_quant(quant, logits, how, True, tmp_path / "quant.json")
    document = json.loads(logits.record.read_text())
    del document["record"]
    write_record(logits.record, {**document, "model": {**document["model"], "sha256": "0" * 64}})
    with pytest.raises(StaleError, match="was computed from another model than"):
        measure_quant(quant, logits, how, True, tmp_path / "other.json")
    write_record(logits.record, document)
    with logits.file.open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    with pytest.raises(StaleError, match="is not the file that its record describes"):
        measure_quant(quant, logits, how, True, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()
