"""requant.pipeline.describe: one pass gives the digest of a file and of each tensor, and finds what is no number."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ggml import GGMLType
from requant.ground.digests import CHUNK
from requant.ground.errors import FormatError
from requant.pipeline.describe import describe, require_finite
from support.gguf_files import bf16, gguf_bytes, tensor, write_model


def test_tensors_in_any_order_with_gaps_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    data = bytearray(192)
    data[128:140], data[32:64] = b"a" * 12, b"b" * 32
    path.write_bytes(gguf_bytes([], [tensor("late", [3], 0, 128), tensor("early", [4, 2], 0, 32)], bytes(data[:160])))
    records = describe(path).tensors
    assert [record.name for record in records] == ["late", "early"]
    assert records[0].sha256 == hashlib.sha256(b"a" * 12).hexdigest()
    assert records[1].sha256 == hashlib.sha256(b"b" * 32).hexdigest()


@pytest.mark.parametrize("where", [0, 31, 100, 156, 159])
def test_describe_refuses_hidden_bytes(tmp_path: Path, where: int) -> None:
    data = bytearray(160)
    data[where] = 1
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes([], [tensor("late", [3], 0, 128), tensor("early", [4, 2], 0, 32)], bytes(data)))
    with pytest.raises(FormatError, match=r"^x\.gguf has bytes other than zero in its padding"):
        describe(path)


def test_describe_digests_file_and_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tensors = {"long": (rng.random((577, 1001), np.float32), None), "short": (np.ones(3, np.float16), None)}
    assert tensors["long"][0].nbytes > 2 * CHUNK, "the file is read in pieces"
    tensors["quant"] = (rng.integers(0, 256, (5, 144 * 7), np.uint8), GGMLType.Q4_K)
    path = write_model(tmp_path / "x.gguf", tensors)
    data = path.read_bytes()
    steps: list[int] = []
    description = describe(path, steps.append)
    assert sum(steps) == len(data) == description.digest.size
    assert description.digest.sha256 == hashlib.sha256(data).hexdigest()
    assert description.non_finite == {}
    for record, info in zip(description.tensors, description.header.tensors, strict=True):
        raw = data[info.offset : info.offset + info.nbytes]
        assert raw == tensors[record.name][0].tobytes()
        assert (record.name, record.type, record.shape, record.nbytes) == (
            info.name,
            info.type,
            info.shape,
            info.nbytes,
        )
        assert record.sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.F64], ids=lambda kind: kind.name)
def test_the_first_non_finite_row_is_found(tmp_path: Path, kind: GGMLType, bad: float) -> None:
    # Subnormal and largest numbers must not be taken for infinity.
    values = np.full((3, 4, 1000), 6e-8)
    values[0, 0, :2] = -6.5e4, 0.0
    dtype = {GGMLType.F32: np.float32, GGMLType.F16: np.float16, GGMLType.F64: np.float64}.get(kind)

    def encode(values: np.ndarray) -> tuple[np.ndarray, GGMLType | None]:
        return (values.astype(dtype), None) if dtype else (bf16(values), GGMLType.BF16)

    tainted = np.tile(values, (1, 100, 1))
    tainted[1, 127, 999] = tainted[2, 0, 0] = bad
    start = values.copy()
    start[0, 0, 0] = bad
    tensors = {"good": encode(values), "tainted": encode(tainted), "start": encode(start)}
    assert tensors["tainted"][0].nbytes * 528 // 1200 > CHUNK, "it lies in a later piece"
    description = describe(write_model(tmp_path / "x.gguf", tensors))
    assert description.non_finite == {"tainted": 527, "start": 0}
    message = r"^the weights: tensor 'tainted' holds NaN or infinity, first in row 527 and so do 1 more of its tensors"
    with pytest.raises(FormatError, match=message):
        require_finite(description, "the weights")


def test_quantized_and_integer_tensors_are_not_checked(tmp_path: Path) -> None:
    ones = np.full((2, 144), 255, np.uint8)
    path = write_model(tmp_path / "x.gguf", {"q": (ones, GGMLType.Q4_K), "i": (np.full(4, -1, np.int32), None)})
    require_finite(describe(path), "the weights")
