"""A law of requant diff: with A and B exchanged it says the same, mirrored."""

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requant.difference.diff import as_document, diff
from requant.ground.canonical import canonical
from support.gguf_files import array, gguf_bytes, pair, string, tensor, write_imatrix
from support.small_release import QUANT, write_release

Document = dict[str, Any]
SHAPES = ((4,), (2, 2), (3,))
VALUES = st.sampled_from([
    (8, string("x")), (8, string("x\ny\nz")), (8, string("x\ny\nw")), (8, string("a" * 200)), (8, string("a" * 199 + "b")),
    (4, bytes(4)), (4, b"\1\0\0\0"), (6, struct.pack("<f", np.nan)), (7, b"\1"),
    (9, array(4, 2, bytes(8))), (9, array(4, 2, bytes(7) + b"\1")), (9, array(4, 1, bytes(4))),
    (9, array(8, 2, string("a") + string("b"))), (9, array(8, 2, string("a") + string("c"))), (9, array(8, 1, string("a"))),
])  # fmt: skip
PAIRS = st.dictionaries(st.sampled_from(["a.b", "a.c", "general.name"]), VALUES)
TENSORS = st.dictionaries(
    st.sampled_from(["one", "two", "three"]),
    st.tuples(st.sampled_from([0, 1]), st.sampled_from(SHAPES), st.integers(0, 2)),
)
HEADS = st.fixed_dictionaries({"version": st.sampled_from([2, 3]), "pairs": PAIRS, "tensors": TENSORS})


def write(path: Path, version: int, pairs: Mapping[str, tuple[int, bytes]], tensors: Mapping[str, Any]) -> Path:
    """A small GGUF file of F32 (0) and F16 (1) tensors, whose weights are all the same number."""
    infos, data = [], b""
    for name, (kind, shape, number) in tensors.items():
        infos.append(tensor(name, shape, kind, len(data)))
        values = np.full(shape, number, ("<f4", "<f2")[kind]).tobytes()
        data += values + bytes(-len(values) % 32)
    encoded = [pair(key, kind, payload) for key, (kind, payload) in pairs.items()]
    path.write_bytes(gguf_bytes(encoded, infos, data, version=version))
    return path


def no_quantizer() -> Any:
    raise AssertionError("no quantized tensor differs")


def found(a: Path, b: Path) -> Document:
    return json.loads(canonical(as_document(diff(a, b, no_quantizer))))  # type: ignore[no-any-return]


SWAPPED = {"a": "b", "b": "a", "A": "B", "B": "A"}


def mirrored(value: Any) -> Any:
    """A document with A and B exchanged."""
    if isinstance(value, dict):
        found = {SWAPPED.get(key, key): mirrored(item) for key, item in value.items()}
        return found | ({"types": value["types"][::-1]} if "types" in value else {})
    return [mirrored(item) for item in value] if isinstance(value, list) else value


def unordered(value: Any) -> Any:
    """A document in which the order of entries, which follows A, counts for nothing."""
    if isinstance(value, dict):
        return {key: item if key in ("types", "shape") else unordered(item) for key, item in value.items()}
    return sorted(map(unordered, value), key=canonical) if isinstance(value, list) else value


@given(HEADS, HEADS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_files(tmp_path: Path, one: Document, other: Document) -> None:
    a, b = write(tmp_path / "a", **one), write(tmp_path / "b", **other)
    there, back = found(a, b), found(b, a)
    assert unordered(back) == unordered(mirrored(there))
    assert there["same"] is (a.read_bytes() == b.read_bytes())


def test_two_releases(tmp_path: Path) -> None:
    a = write_release(tmp_path / "a")
    b = Path(shutil.copytree(a, tmp_path / "b"))
    data = bytearray((b / QUANT).read_bytes())
    data[-300] ^= 1
    (b / QUANT).write_bytes(data)
    squares, counts = np.arange(64, dtype=np.float32).reshape(1, 64), np.full((1, 1), 51200, np.float32)
    entries = {"blk.0.attn_q.weight.in_sum2": squares, "blk.0.attn_q.weight.counts": counts}
    write_imatrix(b / "imatrix.gguf", entries, ["docs.train.txt"], 100, 512)
    (b / "README.md").unlink()
    manifest = json.loads((b / "manifest.json").read_text())
    manifest["variants"]["native"] = manifest["variants"].pop("portable")
    (b / "manifest.json").write_bytes(canonical(manifest))
    there = found(a, b)
    assert {file["name"] for file in there["files"]} == {QUANT, "imatrix.gguf", "README.md", "manifest.json"}
    assert unordered(found(b, a)) == unordered(mirrored(there))
