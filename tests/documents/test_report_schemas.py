"""Every report has the form that its schema describes, key by key: what the functions write passes, nothing else does."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from requant.audit import question as asking
from requant.audit import report as audit_report
from requant.audit.recipe import imatrix as imatrix_report
from requant.audit.survey import asking as surveying
from requant.audit.survey import listed, table
from requant.difference import diff as difference
from requant.difference import imatrices
from requant.difference.imatrix_effect import QuantComparison, TensorBytes
from requant.difference.imatrix_effect import as_document as effect_document
from requant.documents.results import write_results
from requant.documents.schemas import fault
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Known
from requant.ground.errors import SourceError
from requant.places.destinations.destination import Change, Fate, Held
from requant.release import publish, published, rebuild_verdict, verify_verdict
from requant.release.verify import verify_release
from support.gguf_files import write_imatrix, write_model
from support.small_release import QUANT, TENSORS, resum, write_release

Document = dict[str, Any]


def matrix(path: Path, scale: float = 1, chunks: int = 100) -> Path:
    """An importance matrix of the small release's one weight."""
    squares = scale * np.arange(1, 65, dtype=np.float32).reshape(1, 64)
    entries = {"blk.0.attn_q.weight.in_sum2": squares, "blk.0.attn_q.weight.counts": np.full((1, 1), 51200, np.float32)}
    return write_imatrix(path, entries, ["docs.train.txt"], chunks, 512)


def audits(folder: Path) -> Iterator[Document]:
    """Of a file in which nothing can be derived, so that nothing must be built: as a whole, and by a sample."""
    weights = {name: (np.ones((4, 256), np.float32), None) for name in ("a.weight", "b.weight", "c.weight")}
    quant = {
        "a.weight": (np.ones((4, 512), np.float32), None),
        "b.weight": (np.ones((4, 256), np.int8), None),
        "x.weight": (np.ones((4, 256), np.float32), None),
    }
    source, subject = write_model(folder / "weights.gguf", weights), write_model(folder / "quant.gguf", quant)
    for rows in (None, 4):
        found = asking.audit(asking.Question(str(subject), str(source), rows=rows))
        assert isinstance(found, asking.Report)
        yield audit_report.as_document(found)


def surveys(folder: Path) -> Iterator[Document]:
    """Of one quant that can be read and one that cannot, in every way of asking."""
    weights = {"a.weight": (np.ones((4, 256), np.float32), None)}
    subject = write_model(folder / "quant.gguf", weights)
    entries = [listed.Entry(1, str(subject), str(subject)), listed.Entry(3, "./nothing.gguf")]
    for asked in (
        asking.Question("", rows=4, seed=1),
        asking.Question("", rows=None, trust_subject=True, allowed=frozenset({"x"})),
    ):
        rows = surveying.survey(entries, asked, folder / "found")
        yield table.as_document(rows, asked, datetime(2026, 11, 28, tzinfo=UTC), 1.5)


def imatrix_audits(folder: Path) -> Iterator[Document]:
    source = write_model(folder / "weights.gguf", {name: (values, None) for name, values in TENSORS.items()})
    for chunks in (100, 99):
        subject = matrix(folder / "imatrix.gguf", chunks=chunks)
        found = asking.audit(asking.Question(str(subject), str(source)))
        assert isinstance(found, imatrix_report.ImatrixReport)
        yield imatrix_report.as_document(found)


def verifications(folder: Path) -> Iterator[Document]:
    release = write_release(folder / "release")
    yield verify_verdict.as_document(verify_release(release))
    (release / "more").touch()
    (release / "README.md").write_text("another card")
    resum(release)
    yield verify_verdict.as_document(verify_release(release))
    (release / "manifest.json").write_text("{}")
    yield verify_verdict.as_document(verify_release(release))


def comparisons(folder: Path) -> Iterator[Document]:
    found = imatrices.compare(matrix(folder / "a.gguf"), matrix(folder / "b.gguf", 1.5, 99))
    yield imatrices.as_document(found)
    quant = QuantComparison("Tiny.gguf", "Q4_K_M", "c" * 40, (TensorBytes("blk.0.attn_q.weight", "Q4_K", 144, 7),))
    yield {**imatrices.as_document(found), "quant": effect_document(quant)}


def different(folder: Path) -> tuple[Path, Path]:
    """Two releases that differ in everything that a report can tell."""
    a = write_release(folder / "a")
    b = Path(shutil.copytree(a, folder / "b"))
    data = bytearray((b / QUANT).read_bytes())
    data[-300] ^= 1
    (b / QUANT).write_bytes(data)
    matrix(b / "imatrix.gguf", 2)
    (a / "damaged.gguf").write_bytes(b"GGUF")
    (b / "damaged.gguf").write_bytes(b"GGML")
    (b / "README.md").unlink()
    manifest = json.loads((b / "manifest.json").read_text())
    manifest["imatrix"]["arithmetic"] = "native"
    (b / "manifest.json").write_bytes(canonical(manifest))
    return a, b


def no_quantizer() -> Any:
    raise AssertionError("no quantized tensor differs")


def differences(folder: Path) -> Iterator[Document]:
    a, b = different(folder)
    yield difference.as_document(difference.diff(a, b, no_quantizer))
    yield difference.as_document(difference.diff(a, a, no_quantizer))
    one = write_model(folder / "one.gguf", {"x": (np.array([1, 2], "<f4"), None), "y": (np.ones(3, "<f4"), None)}, 64)
    other = write_model(folder / "other.gguf", {"x": (np.array([np.nan, 2], "<f2"), None)})
    yield difference.as_document(difference.diff(one, other, no_quantizer))
    yield difference.as_document(difference.diff(matrix(folder / "x.gguf"), matrix(folder / "y.gguf", 2), no_quantizer))
    answers = [folder / "answers.jsonl", folder / "other.jsonl"]
    for path, outcome in zip(answers, ("passed", "failed"), strict=True):
        write_results({"suite": "s"}, [{"id": "q", "outcome": outcome}], path)
    yield difference.as_document(difference.diff(*answers, no_quantizer))


def rebuilds(folder: Path) -> Iterator[Document]:
    a, b = different(folder)
    for arithmetic, sides in (("native", (a, b)), ("portable", (a, b)), ("portable", (a, a))):
        found = difference.diff(*sides, no_quantizer)
        yield rebuild_verdict.as_document(rebuild_verdict.judge("Tiny-Qwen3", arithmetic, found))


class Hub(NamedTuple):
    """Who a destination is, as far as reports say it."""

    hub: str = "huggingface"
    repo: str = "somebody/Tiny"
    endpoint: str = "https://hub.example"


def publications(folder: Path) -> Iterator[Document]:
    """As it was left well, halfway, and unknown."""
    release = publish.contents(verify_release(write_release(folder / "release")))
    there = {name: Known(digest.size, sha256=digest.sha256) for name, digest in release.files.items()}
    there["README.md"] = Known(3, git_blob="0" * 40)
    files = [{**there, "old.gguf": Known(7)}, {}]
    held = [Held(True, "main", "c" * 40, files[0]), Held(False, None, None, files[1])]
    fates = [Change(name, Fate.SAME) for name in release.files], [Change("old.gguf", Fate.KEPT)]
    whole, empty = (publish.Plan(Hub(), now, tuple(each)) for now, each in zip(held, fates, strict=True))
    for left in (publish.Publication(whole, whole, None), publish.Publication(empty, None, SourceError("it broke"))):
        published.write_record(folder / "published.json", release, [left])
    yield json.loads((folder / "published.json").read_bytes())


REPORTS: dict[str, Callable[[Path], Iterator[Document]]] = {
    "audit": audits,
    "imatrix-audit": imatrix_audits,
    "survey": surveys,
    "verify": verifications,
    "compare": comparisons,
    "diff": differences,
    "rebuild": rebuilds,
    "published": publications,
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    """Reports of every kind, as they are read again."""
    made = {name: [*make(tmp_path_factory.mktemp(name))] for name, make in REPORTS.items()}
    return {name: [parse(canonical(each), name) for each in found] for name, found in made.items()}


VERSIONS = {"audit": "v2"}


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_written_has_the_form(documents: dict[str, list[Document]], name: str) -> None:
    for document in documents[name]:
        assert fault(document, name, "the report") is None
        assert document["schema"] == f"requant/{name}/{VERSIONS.get(name, 'v1')}"


INSIDE = {"gguf", "imatrix", "problem"}
OPTIONAL = {"compare": {"quant"}, "diff": INSIDE, "rebuild": INSIDE}


@pytest.mark.parametrize("name", REPORTS)
def test_no_key_more_and_none_less(documents: dict[str, list[Document]], name: str) -> None:
    for document in copy.deepcopy(documents[name]):
        for place, mapping in mappings(document):
            mapping["nobody knows this"] = 1
            assert fault(document, name, "the report"), place
            del mapping["nobody knows this"]
            for key in mapping.keys() - OPTIONAL.get(name, set()):
                value = mapping.pop(key)
                assert fault(document, name, "the report"), f"{place}.{key}"
                mapping[key] = value


def mappings(document: Any, place: str = "") -> Iterator[tuple[str, Document]]:
    """Every mapping in a document, with its place."""
    if isinstance(document, dict):
        yield place, document
        for key, value in document.items():
            yield from mappings(value, f"{place}.{key}")
    for number, item in enumerate(document if isinstance(document, list) else ()):
        yield from mappings(item, f"{place}[{number}]")
