"""Quants of a model with experts, and split ones, that the real llama-quantize made: exact, and a changed row is found."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.audit.question import Question
from requant.audit.question import audit as carry_out
from requant.audit.recipe.imatrix import ImatrixReport
from requant.audit.report import as_document
from requant.conversion.weights import rounded
from requant.difference.diff import diff
from requant.difference.ggufs import GGUFDiff
from requant.documents.file_names import SUMS
from requant.documents.sums import sums_text
from requant.formats.ggml import Arithmetic, GGMLType
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import importance, read_imatrix
from requant.release.verify import verify_release
from support import experts
from support.checkout import shared_cache
from support.command import Audit
from support.gguf_files import tensor
from support.hollow import TOOL
from support.hub import LoopbackHub
from support.quants import contents, kept, replaced
from support.splits import Splitter, split
from support.workplace import QUANT, Workplace

MADE = {"weights": "exact", "recipe": "stock", "metadata": "equal", "coverage": "full"}
EXPERTS = "blk.1.ffn_down_exps.weight"


def quantize(work: Path, source: Path, out: str, mix: str, *options: str) -> Path:
    command = [str(TOOL), "--imatrix", "imatrix.gguf", *options, str(source), out, mix, "1"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return work / out


@dataclass(frozen=True)
class Scene:
    """Weights in all three types, their importance matrix and a quant of the BF16 ones, in one folder."""

    folder: Path
    weights: dict[GGMLType, Path]
    quant: Path


@pytest.fixture(scope="module")
def scene(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("experts")
    (folder / "weights").mkdir()
    kinds = (GGMLType.BF16, GGMLType.F16, GGMLType.F32)
    made = {kind: experts.write(folder / "weights" / f"Small-{kind.name}.gguf", kind) for kind in kinds}
    experts.write_matrix(folder / "imatrix.gguf")
    return Scene(folder, made, quantize(folder, made[GGMLType.BF16], "Small-Q4_K_M.gguf", "Q4_K_M"))


@pytest.fixture(autouse=True)
def cached(demo: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache()))


def audited(subject: Path, weights: Path, **options: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Exit code, the four answers in a word each, and the whole document of an audit, full unless ``rows`` are given."""
    report = carry_out(Question(str(subject), str(weights), **{"rows": None, **options}))
    assert not isinstance(report, ImatrixReport)
    document = as_document(report)
    return document["exit_code"], {each.question: each.word for each in report.answers}, document


@pytest.mark.parametrize(
    ("kind", "mix"), [(GGMLType.BF16, "Q2_K"), (GGMLType.F16, "Q3_K_S"), (GGMLType.F32, "Q5_0")], ids=str
)
def test_of_any_unquantized_file(scene: Scene, tmp_path: Path, kind: GGMLType, mix: str) -> None:
    """Without a word about the architecture: importances are each expert's, and 1 where it saw no token."""
    shutil.copy(scene.folder / "imatrix.gguf", tmp_path)
    quant = quantize(tmp_path, scene.weights[kind], f"Small-{mix}.gguf", mix)
    code, words, found = audited(quant, scene.weights[kind])
    assert (code, words, found["counts"]["exact"]) == (0, MADE, 26), found["headline"]
    assert (found["rows"], found["rows_in_all"], found["imatrix"] is None) == (8_008, 8_008, False)
    code, words, _ = audited(quant, scene.weights[kind], rows=40, seed=1)
    assert (code, words) == (0, MADE | {"coverage": "sample"})


def test_through_a_conversion(scene: Scene) -> None:
    """The router stayed in F32 when all else was rounded to BF16."""
    code, words, found = audited(scene.quant, scene.weights[GGMLType.F32])
    assert (code, words, found["source"]["rounded_through"]) == (0, MADE, "BF16"), found["headline"]


def another_row(quant: Path, name: str, expert: int, row: int) -> bytes:
    """The bytes of a tensor, one row of one expert made honestly of slightly other weights."""
    kind, shape, data = contents(quant)[name]
    rows = np.frombuffer(data, np.uint8).reshape(shape[2], shape[1], -1).copy()
    weights = rounded(experts.weights()[name][expert, row] * np.float32(1.01), GGMLType.BF16)
    by = importance(read_imatrix(quant.parent / "imatrix.gguf").entries[name])[expert]
    rows[expert, row] = kept(Arithmetic.STRICT).quantize(kind, weights[None], by)
    return rows.tobytes()


@pytest.mark.parametrize("expert", [0, experts.UNSEEN])
def test_one_row_of_one_expert(scene: Scene, tmp_path: Path, expert: int) -> None:
    shutil.copy(scene.folder / "imatrix.gguf", tmp_path)
    row = expert * experts.HIDDEN + 77
    changed = replaced(
        scene.quant, tmp_path / "Small-Q4_K_M.gguf", {EXPERTS: another_row(scene.quant, EXPERTS, expert, 77)}
    )
    code, words, found = audited(changed, scene.weights[GGMLType.BF16])
    assert (code, words) == (1, MADE | {"weights": "mismatch"}), found["headline"]
    [odd] = [each for each in found["tensors"] if each["verdict"] != "exact"]
    assert (odd["name"], odd["verdict"], odd["examples"][0]["row"]) == (EXPERTS, "mismatch", row)


def test_importances_of_another_expert(scene: Scene, tmp_path: Path) -> None:
    """Each expert's columns count as its own tokens used them, not as those of its neighbour."""
    kind, shape, _ = contents(scene.quant)[EXPERTS]
    by = importance(read_imatrix(scene.folder / "imatrix.gguf").entries[EXPERTS])
    weights, strict = rounded(experts.weights()[EXPERTS], GGMLType.BF16), kept(Arithmetic.STRICT)
    data = b"".join(strict.quantize(kind, weights[each], by[each ^ 1]).tobytes() for each in range(shape[2]))
    changed = replaced(scene.quant, tmp_path / "Small-Q4_K_M.gguf", {EXPERTS: data})
    matrix = str(scene.folder / "imatrix.gguf")
    code, words, found = audited(changed, scene.weights[GGMLType.BF16], imatrix=matrix)
    # They may be those of a matrix that is not at hand: not evidence, and never 0.
    assert (code, words["weights"], found["counts"]["exact"]) == (3, "consistent", 25), found["headline"]


# ---- split files

Split = Callable[[Scene, Splitter, Path], list[Path]]
EMPTY = "--no-tensor-first-split"
SPLITS: dict[str, Split] = {
    "by llama-quantize, the first part without tensors": lambda *given: kept_split(*given, "10", EMPTY),
    "by llama-quantize": lambda *given: kept_split(*given, "17"),
    "afterwards": lambda scene, splitter, folder: splitter.split(
        scene.quant, folder, "--split-max-tensors", "12", EMPTY
    ),
    "afterwards, by size": lambda scene, splitter, folder: splitter.split(
        scene.quant, folder, "--split-max-size", "1M"
    ),
}


def kept_split(scene: Scene, splitter: Splitter, folder: Path, most: str, *options: str) -> list[Path]:
    """Quantize split weights, part by part."""
    weights = scene.weights[GGMLType.BF16]
    parts = splitter.split(weights, folder / "weights", "--split-max-tensors", most, *options)
    shutil.copy(scene.folder / "imatrix.gguf", folder)
    quantize(folder, parts[0], "Small-Q4_K_M", "Q4_K_M", "--keep-split")
    shutil.rmtree(folder / "weights")
    return sorted(folder.glob("Small-*"))


@pytest.fixture(scope="module")
def source_parts(scene: Scene, splitter: Splitter, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    return splitter.split(scene.weights[GGMLType.BF16], folder, "--split-max-tensors", "10", EMPTY)


@pytest.mark.parametrize("made", SPLITS.values(), ids=list(SPLITS))
def test_split_on_both_sides(
    scene: Scene, splitter: Splitter, source_parts: list[Path], tmp_path: Path, made: Split
) -> None:
    """Named by a folder or by any part; every byte of every file is read."""
    (tmp_path / "quant").mkdir()
    parts = made(scene, splitter, tmp_path / "quant")
    assert len(parts) > 1
    matrix = str(scene.folder / "imatrix.gguf")
    for subject, weights in ((parts[0].parent, source_parts[0].parent), (parts[-1], source_parts[1])):
        code, words, found = audited(subject, weights, imatrix=matrix)
        assert (code, words, found["counts"]["exact"]) == (0, MADE, 26), found["headline"]
        assert found["subject"]["parts"] == [
            {"name": part.name, "size": part.stat().st_size, "sha256": digest(part), "recorded": {}} for part in parts
        ]
        assert (found["subject"]["name"], found["subject"]["sha256"]) == (parts[0].name, None)
    code, words, _ = audited(parts[-1], source_parts[-1], imatrix=matrix, rows=40, seed=2)
    assert (code, words) == (0, MADE | {"coverage": "sample"})


@pytest.mark.parametrize(("groups", "options"), [([0, 12, 12, 2], ["12", EMPTY]), ([10, 10, 6], ["10"])], ids=str)
def test_what_the_tests_split_themselves(
    scene: Scene, splitter: Splitter, tmp_path: Path, groups: list[int], options: list[str]
) -> None:
    """In other tests ``split`` stands for llama-gguf-split: every byte is the same."""
    ours = split(scene.quant, tmp_path / "ours", groups)
    theirs = splitter.split(scene.quant, tmp_path / "theirs", "--split-max-tensors", *options)
    assert [part.name for part in ours] == [part.name for part in theirs]
    assert [digest(part) for part in ours] == [digest(part) for part in theirs]


def test_parts_are_verified_and_compared(scene: Scene, splitter: Splitter, tmp_path: Path) -> None:
    """As the whole is, and as what llama-gguf-split joins again; a changed byte in a part is found by both."""
    parts = splitter.split(scene.quant, tmp_path / "release", "--split-max-tensors", "10")
    again = splitter.merge(parts[0], tmp_path / "again.gguf")
    for whole in (scene.quant, again):
        found = diff(parts[1], whole).found
        assert isinstance(found, GGUFDiff)
        assert (found.tensors, found.unmatched, found.equal) == ((), (), 26)
        assert {change.place for change in found.keys} <= {"split.no", "split.count", "split.tensors.count"}
    sums = sums_text({part.name: digest(part) for part in parts})
    (tmp_path / "release" / SUMS).write_text(sums)
    assert verify_release(tmp_path / "release").findings == ()
    [place] = [each for each in read_header(parts[2]).tensors if each.name == EXPERTS]
    data = bytearray(parts[2].read_bytes())
    data[place.offset + 5] ^= 1
    parts[2].write_bytes(data)
    [odd] = verify_release(tmp_path / "release").findings
    found = diff(parts[0], scene.quant).found
    assert isinstance(found, GGUFDiff)
    assert (odd.where, [change.name for change in found.tensors]) == (parts[2].name, [EXPERTS])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_split_release_passes(
    audit: Audit, splitter: Splitter, released: Path, generated: Path, tmp_path: Path
) -> None:
    """Of an architecture whose mix is known, nothing keeps 0 away, and whatever is written is no part of it."""
    parts = splitter.split(released / QUANT, tmp_path / "split", "--split-max-tensors", "26")
    shutil.copy(released / "imatrix.gguf", tmp_path / "split")
    code, said, report = audit(parts[1], "--source", generated, "--rows", "20")
    assert (code, len(report["subject"]["parts"])) == (0, 2), said
    code, said, _ = audit(parts[1], "--source", generated, "--markdown", parts[0])
    assert code == 2 and f"{parts[0]} is read by this command" in said.replace("\n", " ")


def test_both_sides_on_the_hub(
    audit: Audit, scene: Scene, splitter: Splitter, source_parts: list[Path], tmp_path: Path
) -> None:
    """Weights and quant each among others of its repository, named as a page or another program would name them."""
    quants = tmp_path / "quants"
    splitter.split(scene.quant, quants / "Q4_K_M", "--split-max-tensors", "13", stem="Small-Q4_K_M")
    for name in ("Small-Q8_0.gguf", "mmproj-F16.gguf"):
        shutil.copy(scene.quant, quants / name)
    shutil.copy(scene.folder / "imatrix.gguf", quants / "Small-imatrix.gguf")
    shutil.copytree(source_parts[0].parent, tmp_path / "weights" / "BF16")
    shutil.copy(scene.weights[GGMLType.F16], tmp_path / "weights")
    with LoopbackHub() as hub:
        hub.add_model("some/Small-GGUF", quants)
        commit = hub.add_model("some/Small", tmp_path / "weights").commit
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        source = f"hf://some/Small@{commit}/BF16/{source_parts[1].name}"
        code, said, report = audit("some/Small-GGUF:Q4_K_M", "--source", source, "--full", **env)
        assert (code, report["counts"]["exact"]) == (0, 26), said
        assert [part["sha256"] for part in report["subject"]["parts"]] == [
            part["recorded"]["the hub"] for part in report["subject"]["parts"]
        ]
        code, said, _ = audit(f"{hub.url}/some/Small-GGUF", "--source", source, **env)
        assert code == 2 and "holds 2 quants (Q4_K_M/Small-Q4_K_M-00001-of-00002.gguf, Small-Q8_0.gguf)" in said, said


def test_a_changed_row_in_a_later_part(scene: Scene, tmp_path: Path) -> None:
    data = another_row(scene.quant, EXPERTS, 3, 5)
    changed = replaced(scene.quant, tmp_path / "Small-Q4_K_M.gguf", {EXPERTS: data})
    parts = split(changed, tmp_path / "quant", [2, 12, 12])
    matrix = str(scene.folder / "imatrix.gguf")
    code, _, found = audited(parts[0].parent, scene.weights[GGMLType.BF16], imatrix=matrix)
    [odd] = [each for each in found["tensors"] if each["verdict"] != "exact"]
    assert (code, odd["name"], odd["examples"][0]["row"]) == (1, EXPERTS, 3 * experts.HIDDEN + 5)


def test_what_hides_between_the_tensors_of_a_later_part(scene: Scene, tmp_path: Path) -> None:
    parts = split(scene.quant, tmp_path / "quant", [2, 24])
    data = bytearray(parts[1].read_bytes())
    header: Header = read_header(parts[1])
    norms = [each for each in header.tensors if each.name.endswith("_k_norm.weight")]
    last = header.tensors[-1]
    # The one tensor that is cut so that something lies behind it.
    data += bytes(32)
    old = tensor(last.name, last.shape, int(last.type), last.offset - header.data_offset)
    new = tensor(last.name, last.shape, int(last.type), last.offset - header.data_offset + 32)
    start = last.offset
    data[start:] = b"hidden".ljust(32, b"\0") + data[start:-32]
    assert norms and data.count(old) == 1
    parts[1].write_bytes(bytes(data).replace(old, new))
    matrix = str(scene.folder / "imatrix.gguf")
    for options in ({}, {"rows": 40, "seed": 1}):
        code, words, found = audited(parts[0], scene.weights[GGMLType.BF16], imatrix=matrix, **options)
        assert (code, words["weights"], words["coverage"]) == (1, "exact", "hidden"), found["headline"]
        assert "6 bytes between the tensors are not zero" in found["headline"]


# ---- types that llama.cpp does not have


@pytest.mark.parametrize("number", [144, 31])
def test_a_type_of_a_fork_or_a_removed_one(scene: Scene, tmp_path: Path, number: int) -> None:
    """That tensor is named with its number, the rest is audited, and nothing is accused."""
    header, data = read_header(scene.quant), scene.quant.read_bytes()
    [place] = [each for each in header.tensors if each.name == EXPERTS]
    old, new = (
        tensor(EXPERTS, place.shape, kind, place.offset - header.data_offset) for kind in (int(place.type), number)
    )
    assert data.count(old) == 1
    foreign = tmp_path / "Small-Q4_K_M.gguf"
    foreign.write_bytes(data.replace(old, new))
    matrix = str(scene.folder / "imatrix.gguf")
    code, words, found = audited(foreign, scene.weights[GGMLType.BF16], imatrix=matrix)
    unchecked = {"weights": "unchecked", "recipe": "unchecked", "metadata": "equal", "coverage": "unchecked"}
    counts = {verdict: count for verdict, count in found["counts"].items() if count}
    assert (code, words, counts) == (3, unchecked, {"exact": 25, "unchecked": 1})
    [odd] = [each for each in found["tensors"] if each["verdict"] != "exact"]
    assert (odd["name"], odd["reason"]) == (
        EXPERTS,
        f"is of type {number}, which llama.cpp does not read: nobody knows where it ends",
    )
    assert f"where {EXPERTS} ends is not known" in found["headline"]
    assert found["subject"]["sha256"] == digest(foreign)
