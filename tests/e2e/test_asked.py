"""Layouts by asking upstream's converter: its own conversions, quantized by llama-quantize, are exact; a changed row is found."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.audit.named_weights import open_weights
from requant.audit.upstream import Upstream
from requant.formats.gguf import read_header
from requant.ground.errors import UnsupportedError
from requant.quantization.verdict import Verdict
from support.asked import Made, altered, make, require_same_layout
from support.command import Audit
from support.quants import audited
from support.workplace import Workplace

FAIR = ("Gemma 3", "DeepSeek-V3, FP8", "gpt-oss, MXFP4")
"""Computed norms and a SentencePiece vocabulary; stacked experts and a transposed part, with scales; blocks that are
copied. All: make test-architectures."""


@pytest.fixture(scope="module")
def made(demo: Workplace, upstream_converter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return make(tmp_path_factory.mktemp("asked"), upstream_converter, [*FAIR, "Qwen3-MoE", "Llama", "Llama, AWQ"])


@pytest.mark.parametrize("name", FAIR)
def test_conversions_are_exact_and_changes_are_found(
    made: dict[str, Made], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    model = made[name]
    assert model.refused is None
    header = read_header(model.quant)
    weights = open_weights(str(model.folder), upstream=Upstream.like(header))
    with weights.place:
        honest = audited(model.quant, weights.tensors, {})
        changed = audited(altered(model.quant, tmp_path / "changed.gguf", weights.tensors), weights.tensors, {})
    assert weights.expected
    assert (Counter(each.verdict for each in honest.tensors), honest.missing) == (
        {Verdict.EXACT: len(header.tensors)},
        (),
    )
    assert {each.verdict for each in changed.tensors} == {Verdict.MISMATCH}
    findings = compare_metadata(header, weights.expected).findings
    assert {finding.grade for finding in findings} <= {Grade.HARMLESS}, findings


def test_the_command(made: dict[str, Made], audit: Audit, tmp_path: Path) -> None:
    """Without an environment it says how to get one, and accuses nobody."""
    model = made["Qwen3-MoE"]
    code, said, report = audit(model.quant, "--source", model.folder, "--full")
    words = {question: answer["status"] for question, answer in report["answers"].items()}
    assert (code, words) == (
        0,
        {"weights": "exact", "recipe": "stock", "metadata": "equal", "coverage": "full"},
    ), said
    code, said, _ = audit(model.quant, "--source", model.folder, XDG_CACHE_HOME=str(tmp_path))
    assert (code, "give --converter" in said) == (3, True), said


def test_weights_in_a_form_that_upstream_does_not_read_are_one_sentence(made: dict[str, Made], audit: Audit) -> None:
    code, said, _ = audit(made["Llama"].quant, "--source", made["Llama, AWQ"].folder)
    assert (code, "can say nothing of this model: NotImplementedError: Quant method" in said) == (3, True), said


def test_what_is_known_is_what_upstream_says(
    made: dict[str, Made], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llama's order of rows; the other three families: make test-architectures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    require_same_layout(made["Llama"].folder)


def test_files_that_lead_nowhere_are_one_sentence(
    made: dict[str, Made], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of the model's own is not run, and an architecture that upstream does not have is said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = Path(shutil.copytree(made["Qwen3-MoE"].folder, tmp_path / "model"))
    mark = tmp_path / "ran"
    (folder / "configuration_own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    own = {
        "auto_map": {"AutoConfig": "configuration_own.Own"},
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
    }
    (folder / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(UnsupportedError, match="does not convert a OwnForCausalLM"):
        open_weights(str(folder))
    assert not mark.exists()
