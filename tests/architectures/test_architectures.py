"""Opt-in (make test-architectures): small models of many architectures, made, converted and quantized by upstream's tools.

Every tensor must be exact, or be one of those that the case says cannot be told; a changed byte in any tensor must be
found. What came out is written to docs/architectures.md, where all cases ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.audit.named_weights import open_weights
from requant.audit.upstream import Upstream, mentions_next
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.layout import FAMILIES
from requant.formats.gguf import read_header
from requant.quantization.verdict import Verdict
from support.architectures import CASES
from support.asked import Made, altered, make, require_same_layout
from support.checkout import ROOT
from support.hollow import require_same_mixes, write_empty_imatrix, write_like
from support.quants import audited
from support.workplace import Workplace

DOCUMENT = ROOT / "docs" / "architectures.md"
BEGIN, END = "<!-- begin architectures -->\n", "<!-- end architectures -->"
HEAD = "| model | `architectures` | tensors | exact | changes found | metadata |\n|---|---|---|---|---|---|\n"


@pytest.fixture(scope="module")
def made(demo: Workplace, upstream_converter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return make(tmp_path_factory.mktemp("models"), upstream_converter, CASES)


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, str]]:
    found: dict[str, str] = {}
    yield found
    if found.keys() == CASES.keys():
        before, rest = DOCUMENT.read_text().split(BEGIN)
        lines = "".join(f"{found[name]}\n" for name in CASES)
        DOCUMENT.write_text(f"{before}{BEGIN}{HEAD}{lines}{END}{rest.split(END)[1]}")


@pytest.mark.parametrize("name", CASES)
def test_an_architecture(
    made: dict[str, Made], rows: dict[str, str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    model, case = made[name], CASES[name]
    assert model.refused is None, model.refused
    header = read_header(model.quant)
    weights = open_weights(str(model.folder), upstream=Upstream(mtp=mentions_next(header)))
    with weights.place:
        honest = audited(model.quant, weights.tensors, {})
        changed = audited(altered(model.quant, tmp_path / "changed.gguf", weights.tensors), weights.tensors, {})
    untold = [each for each in honest.tensors if each.verdict is Verdict.UNCHECKED]
    assert {pattern(each) for each in untold} == {*case.untold}, untold
    assert honest.missing == ()
    assert {each.verdict for each in honest.tensors} <= {Verdict.EXACT, Verdict.UNCHECKED}
    found = Counter(each.verdict for each in changed.tensors)
    assert found == {
        Verdict.MISMATCH: len(header.tensors) - len(untold),
        **({Verdict.UNCHECKED: len(untold)} if untold else {}),
    }
    findings = compare_metadata(header, weights.expected).findings if weights.expected else ()
    grades = {finding.grade for finding in findings}
    if case.architecture in FAMILIES:
        require_same_layout(model.folder)
    else:
        assert weights.expected is not None, weights.unknown
        assert grades <= {Grade.HARMLESS}, findings
    exact = len(header.tensors) - len(untold)
    said = "by requant itself" if case.architecture in FAMILIES else "equal"
    rows[name] = (
        f"| {name} | `{case.architecture}` | {len(header.tensors)} | {exact} | {found[Verdict.MISMATCH]} | {said} |"
    )


@pytest.mark.parametrize("times", [1, 8], ids=["odd rows", "whole blocks"])
@pytest.mark.parametrize("name", CASES)
def test_the_mixes_of_an_architecture(made: dict[str, Made], tmp_path: Path, name: str, times: int) -> None:
    """Every file type, with and without an importance matrix: the type of each tensor is what llama-quantize would choose."""
    model = made[name]
    assert model.refused is None, model.refused
    hollow = write_like(tmp_path / "model.gguf", Path(f"{model.folder}.gguf"), times)
    require_same_mixes(hollow, write_empty_imatrix(tmp_path / "imatrix.gguf"))


def pattern(audit: TensorAudit) -> str:
    return ".".join("#" if part.isdecimal() else part for part in audit.tensor.name.split("."))
