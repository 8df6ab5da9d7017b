"""Opt-in (make test-architectures): small models of many architectures, made, converted and quantized by upstream's tools.

Every tensor must be exact, or be one of those that the case says cannot be told; a changed byte in any tensor must be
found. What came out is written to docs/architectures.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.audit.named_weights import open_weights
from requant.audit.upstream import Upstream
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.layout import FAMILIES
from requant.formats.ggml import Floats
from requant.formats.gguf import read_header
from requant.formats.imatrix import importance, read_imatrix
from requant.ground.errors import UnsupportedError
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
def made(
    demo: Workplace, upstream_converter: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Made]:
    """Those that are to be looked at in this run."""
    here = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    chosen = {item.callspec.params["name"] for item in here}
    return make(tmp_path_factory.mktemp("models"), upstream_converter, [name for name in CASES if name in chosen])


@pytest.mark.parametrize("name", CASES)
def test_an_architecture(
    made: dict[str, Made], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    model, case = made[name], CASES[name]
    if case.refused:
        with pytest.raises(UnsupportedError) as error:
            open_weights(str(model.folder))
        said = str(error.value).split("model: ")[-1]
        assert case.refused in said
        write_row(name, "–", "–", "–", f"nothing can be said: {said}")
        return
    assert model.refused is None, model.refused
    header = read_header(model.quant)
    importances = matrix(model)
    weights = open_weights(str(model.folder), upstream=Upstream.like(header))
    with weights.place:
        honest = audited(model.quant, weights.tensors, importances)
        other = altered(model.quant, tmp_path / "changed.gguf", weights.tensors)
        changed = audited(other, weights.tensors, importances)
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
    known = case.architecture in FAMILIES and case.packed is None and not Upstream.like(header).ranks
    if known:
        require_same_layout(model.folder)
    else:
        assert weights.expected is not None, weights.unknown
        assert grades <= {Grade.HARMLESS}, findings
    exact = len(header.tensors) - len(untold)
    said = "by requant itself" if known else "equal"
    write_row(name, len(header.tensors), exact, found[Verdict.MISMATCH], said)


def write_row(name: str, *said: object) -> None:
    """Write what came out into the table; of cases that did not run, the rows stay."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    table, after = rest.split(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[2:]}
    rows[name] = f"| {' | '.join([name, f'`{CASES[name].architecture}`', *map(str, said)])} |"
    lines = "".join(f"{rows[each]}\n" for each in CASES if each in rows)
    DOCUMENT.write_text(f"{before}{BEGIN}{HEAD}{lines}{END}{after}")


def matrix(model: Made) -> dict[str, Floats]:
    """What llama-quantize multiplied with."""
    entries = read_imatrix(model.matrix).entries if model.matrix else {}
    return {name: importance(entry) for name, entry in entries.items()}


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
