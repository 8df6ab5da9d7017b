"""requant.formats.gguf: reads what the gguf package writes, and refuses everything else in one sentence."""

import contextlib
import hashlib
import io
import struct
import time
import tracemalloc
from pathlib import Path

import gguf as upstream
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requant.formats import gguf
from requant.formats.ggml import GGMLType, ValueType
from requant.formats.gguf import Field, read_header
from requant.ground.errors import FormatError
from requant.pipeline import describe as describing
from requant.pipeline.describe import describe, require_finite
from support.gguf_files import array, gguf_bytes, pair, string, tensor

SCALARS = {
    ValueType.UINT8: 255,
    ValueType.INT8: -128,
    ValueType.UINT16: 65535,
    ValueType.INT16: -32768,
    ValueType.UINT32: 2**32 - 1,
    ValueType.INT32: -(2**31),
    ValueType.FLOAT32: 0.5,
    ValueType.BOOL: True,
    ValueType.UINT64: 2**64 - 1,
    ValueType.INT64: -(2**63),
    ValueType.FLOAT64: 0.1,
}
QUANTIZED = [GGMLType.Q4_K, GGMLType.Q6_K, GGMLType.Q8_0, GGMLType.IQ4_XS, GGMLType.MXFP4]


def parse(data: bytes) -> gguf.Header:
    return read_header(io.BytesIO(data), "x.gguf")


def write_model(path: Path, tensors: dict[str, tuple[np.ndarray, GGMLType | None]], alignment: int = 0) -> Path:
    writer = upstream.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=None if kind is None else upstream.GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bf16(values: np.ndarray) -> np.ndarray:
    """Cut float32 to BF16, as the raw bytes GGUFWriter wants."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = upstream.GGUFWriter(path, "llama")
    writer.add_array("tokens", ["<s>", "ß", "日本"])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_bool("flag", val=True)
    writer.add_tensor("a.weight", np.arange(9, dtype=np.float32).reshape(3, 3))
    writer.add_tensor("b.weight", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_types_have_the_sizes_of_the_gguf_package() -> None:
    ours = {int(kind): (kind.name, kind.block_size, kind.type_size) for kind in GGMLType}
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in upstream.GGML_QUANT_SIZES.items()}
    # Newer llama.cpp than the package: ggml-common.h has QK2_0 64 and a block of one half and 16 bytes.
    assert ours == {42: ("Q2_0", 64, 18)} | theirs
    assert {int(kind): kind.name for kind in ValueType} == {int(kind): kind.name for kind in upstream.GGUFValueType}


@pytest.mark.parametrize("kind", SCALARS, ids=lambda kind: kind.name)
def test_scalars_and_arrays_come_back(tmp_path: Path, kind: ValueType) -> None:
    theirs = upstream.GGUFValueType(kind)
    writer = upstream.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_key_value("one", SCALARS[kind], theirs)
    writer.add_key_value("many", [SCALARS[kind]] * 3, upstream.GGUFValueType.ARRAY, theirs)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    metadata = read_header(tmp_path / "x.gguf").metadata
    assert list(metadata) == ["general.architecture", "one", "many"]
    assert metadata["general.architecture"] == Field(ValueType.STRING, "llama")
    assert metadata["one"] == Field(kind, SCALARS[kind])
    assert type(metadata["one"].value) is type(SCALARS[kind])
    assert (metadata["many"].type, metadata["many"].item) == (ValueType.ARRAY, kind)
    assert metadata["many"].value.tolist() == [SCALARS[kind]] * 3


def test_strings_and_nested_arrays_come_back(small: bytes) -> None:
    metadata = parse(small).metadata
    assert metadata["tokens"] == Field(ValueType.ARRAY, ["<s>", "ß", "日本"], ValueType.STRING)
    assert metadata["nested"].item is ValueType.ARRAY
    assert [inner.value.tolist() for inner in metadata["nested"].value] == [[1, 2], [3]]
    assert [inner.item for inner in metadata["nested"].value] == [ValueType.INT32] * 2


def test_strings_cut_inside_a_character_stay_bytes() -> None:
    header = parse(
        gguf_bytes([pair("a", 8, string(b"\xe6\x97")), pair("b", 9, array(8, 2, string(b"\xff") + string("é")))])
    )
    assert header.metadata["a"].value == b"\xe6\x97"
    assert header.metadata["b"].value == [b"\xff", "é"]


@pytest.mark.parametrize("alignment", [0, 8, 4096])
def test_tensors_come_back(tmp_path: Path, alignment: int) -> None:
    rng = np.random.default_rng(1)
    tensors = {"f32": (rng.random((3, 5), np.float32), None), "f16": (np.ones(7, np.float16), None)}
    tensors["bf16"] = (bf16(rng.random((2, 3, 4))), GGMLType.BF16)
    for kind in QUANTIZED:
        nbytes = 512 // kind.block_size * kind.type_size
        tensors[kind.name] = (rng.integers(0, 256, (2, 3, nbytes), np.uint8), kind)
    path = write_model(tmp_path / "x.gguf", tensors, alignment)
    header = read_header(path)
    assert (header.version, header.alignment, header.size) == (3, alignment or 32, path.stat().st_size)
    assert header.data_offset % header.alignment == 0
    expected = upstream.GGUFReader(path).tensors
    assert [(t.name, t.shape, int(t.type), t.offset, t.nbytes) for t in header.tensors] == [
        (str(t.name), tuple(t.shape.tolist()), int(t.tensor_type), int(t.data_offset), int(t.n_bytes)) for t in expected
    ]
    assert header.tensors[-1].shape == (512, 3, 2)


def test_version_2_and_any_seekable_file(small: bytes, tmp_path: Path) -> None:
    assert parse(small[:4] + struct.pack("<I", 2) + small[8:]).version == 2
    path = tmp_path / "small.gguf"
    path.write_bytes(small)
    with path.open("rb") as file:
        file.seek(17)
        assert read_header(file) == read_header(path) == parse(small)


def test_only_the_header_is_read() -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            # Give less than asked for, as sockets do.
            data = super().read(min(size, 1000) if size and size > 0 else size)
            self.total += len(data)
            return data

    tokens = pair("tokens", 9, array(8, 100_000, string("ab") * 100_000))
    data = gguf_bytes([tokens], [tensor("a", [1 << 20])], bytes(1 << 22))
    file = Counting(data)
    assert len(read_header(file).metadata["tokens"].value) == 100_000
    assert file.total <= len(data) - (1 << 22) + gguf.READ_AHEAD


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


def test_truncation_at_every_byte(small: bytes) -> None:
    parse(small)
    for length in range(len(small)):
        with pytest.raises(FormatError, match=r"^x\.gguf [^\n]+: [^\n]+$"):
            parse(small[:length])


GOOD = tensor("a", [8])
HOSTILE = {
    "empty": (b"", "ends inside the first 4 bytes"),
    "magic": (gguf_bytes(magic=b"GGML"), "is not a GGUF file"),
    "swapped magic": (gguf_bytes(magic=b"FUGG"), "byte-swapped"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file"),
    "version 0": (gguf_bytes(version=0), "is GGUF version 0"),
    "version 1": (gguf_bytes(version=1), "is GGUF version 1"),
    "version 4": (gguf_bytes(version=4), "is GGUF version 4"),
    "2**63 tensors": (gguf_bytes(counts=(2**63, 0)), "claims 9,223,372,036,854,775,808 tensors"),
    "2**63 keys": (gguf_bytes(counts=(0, 2**63)), "claims 9,223,372,036,854,775,808 metadata keys"),
    "more tensors than bytes": (gguf_bytes(counts=(1000, 0)), "claims 1,000 tensors but has only"),
    "more keys than bytes": (gguf_bytes(counts=(0, 1000)), "claims 1,000 metadata keys but has only"),
    "missing tensor": (gguf_bytes([], [GOOD], bytes(32), counts=(2, 0)), "has tensor 1 named b''"),
    "key too long": (gguf_bytes([pair("k" * 65536, 0, b"\0")]), "65,536 bytes in metadata key 0"),
    "key of 2**64-1": (gguf_bytes([struct.pack("<Q", 2**64 - 1) + bytes(9)]), "bytes in metadata key 0"),
    "key empty": (gguf_bytes([pair("", 0, b"\0")]), "must be printable ASCII"),
    "key not ASCII": (gguf_bytes([pair("ä", 0, b"\0")]), "must be printable ASCII"),
    "key with escape": (gguf_bytes([pair("a\x1b[2J", 0, b"\0")]), "must be printable ASCII"),
    "key twice": (gguf_bytes([pair("k", 0, b"\0"), pair("k", 0, b"\1")]), "has metadata key 'k' twice"),
    "value type": (gguf_bytes([pair("k", 13, bytes(99))]), "unknown value type 13"),
    "item type": (gguf_bytes([pair("k", 9, array(99, 0, b""))]), "unknown value type 99"),
    "bool of 2": (gguf_bytes([pair("k", 7, b"\2")]), "neither 0 nor 1"),
    "bools of 2": (gguf_bytes([pair("k", 9, array(7, 3, b"\0\1\2"))]), "neither 0 nor 1"),
    "string of 2**63": (gguf_bytes([pair("k", 8, struct.pack("<Q", 2**63))]), "in the value of 'k'"),
    "string past the end": (gguf_bytes([pair("k", 8, struct.pack("<Q", 1000))]), "ends inside the value of 'k'"),
    "array of 2**63": (gguf_bytes([pair("k", 9, array(4, 2**63, b""))]), "elements in the value of 'k'"),
    "array past the end": (gguf_bytes([pair("k", 9, array(12, 100, b""))]), "claims 100 elements"),
    "strings past the end": (gguf_bytes([pair("k", 9, array(8, 100, b""))]), "claims 100 elements"),
    "nested too deep": (gguf_bytes([pair("k", 9, array(9, 1, b"") * 40)]), "nested more than 4 deep"),
    "nested 2**40 wide": (gguf_bytes([pair("k", 9, array(9, 2**40, b""))]), "elements in the value of 'k'"),
    "alignment 0": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 0))]), "general.alignment 0"),
    "alignment 4": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 4))]), "power of two"),
    "alignment 24": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 24))]), "power of two"),
    "alignment 2**31": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 2**31))]), "power of two"),
    "alignment text": (gguf_bytes([pair("general.alignment", 8, string("32"))]), "type STRING"),
    "alignment u64": (gguf_bytes([pair("general.alignment", 10, struct.pack("<Q", 32))]), "type UINT64"),
    "tensor name empty": (gguf_bytes([], [tensor("", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name cut": (gguf_bytes([], [tensor(b"a\xe6", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name with NUL": (gguf_bytes([], [tensor("a\0b", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name too long": (gguf_bytes([], [tensor("a" * 65, [8])], bytes(32)), "65 bytes in the name of tensor 0"),
    "tensor twice": (gguf_bytes([], [GOOD, tensor("a", [8], 0, 32)], bytes(64)), "two tensors named 'a'"),
    "no dimensions": (gguf_bytes([], [tensor("a", []) + bytes(8)], bytes(32)), "0 dimensions"),
    "five dimensions": (gguf_bytes([], [tensor("a", [1] * 5)], bytes(32)), "5 dimensions"),
    "2**32-1 dimensions": (gguf_bytes([], [string("a") + b"\xff" * 32], bytes(32)), "4,294,967,295 dimensions"),
    "zero columns": (gguf_bytes([], [tensor("a", [0, 8])], bytes(32)), "impossible shape"),
    "zero rows": (gguf_bytes([], [tensor("a", [8, 0])], bytes(32)), "impossible shape"),
    "elements overflow": (gguf_bytes([], [tensor("a", [2**32, 2**31])], bytes(32)), "impossible shape"),
    "elements wrap to 1": (gguf_bytes([], [tensor("a", [2**63 + 1, 2])], bytes(32)), "impossible shape"),
    "bytes overflow": (gguf_bytes([], [tensor("a", [2**61])], bytes(32)), "impossible shape"),
    "unknown type": (gguf_bytes([], [tensor("a", [8], 99)], bytes(32)), "unknown type 99"),
    "removed type": (gguf_bytes([], [tensor("a", [32], 4)], bytes(32)), "unknown type 4"),
    "type 2**32-1": (gguf_bytes([], [tensor("a", [8], 2**32 - 1)], bytes(32)), "unknown type 4,294,967,295"),
    "part of a block": (gguf_bytes([], [tensor("a", [128, 2], 12)], bytes(144)), "rows of 128, not a multiple of Q4_K"),
    "misaligned": (gguf_bytes([], [tensor("a", [8], 0, 16)], bytes(64)), "not a multiple of its alignment"),
    "past the end": (gguf_bytes([], [tensor("a", [9])], bytes(32)), "'a' ends at byte"),
    "offset 2**64-32": (gguf_bytes([], [tensor("a", [8], 0, 2**64 - 32)], bytes(32)), "'a' ends at byte"),
    "overlap": (gguf_bytes([], [tensor("a", [16]), tensor("b", [8], 0, 32)], bytes(64)), "inside the tensor before it"),
    "same place": (gguf_bytes([], [GOOD, tensor("b", [8])], bytes(32)), "inside the tensor before it"),
    "padding cut": (gguf_bytes([], [tensor("a", [9])], bytes(63)), "its last tensor with padding ends"),
    "trailing byte": (gguf_bytes([], [GOOD], bytes(33)), "its last tensor with padding ends"),
    "trailing bytes, no tensors": (gguf_bytes([], [], bytes(33)), "although it holds no tensors"),
    "hidden before the data": (gguf_bytes([], [GOOD + b"x"], bytes(32)), "other than zero in its padding"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_get_one_sentence(case: str) -> None:
    data, expected = HOSTILE[case]
    with pytest.raises(FormatError, match=expected) as caught:
        parse(data)
    message = str(caught.value)
    assert message.startswith("x.gguf ")
    assert message.isprintable()
    assert len(message) < 300


def test_bombs_are_refused_before_memory_is_spent() -> None:
    class Vast(io.BytesIO):
        """A short header in front of a terabyte of zeros."""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 1 << 40 if whence == io.SEEK_END else super().seek(offset, whence)

        def read(self, size: int | None = -1) -> bytes:
            return super().read(size).ljust(size or 0, b"\0")

    heads = [
        gguf_bytes([pair("k", 9, array(0, 1 << 39, b""))]),
        gguf_bytes([pair("k", 9, array(8, 1 << 36, b""))]),
        gguf_bytes([pair("k", 9, array(9, 1 << 36, b""))]),
        gguf_bytes([pair("k", 8, struct.pack("<Q", 1 << 39))]),
        gguf_bytes(counts=(1 << 34, 0)),
        gguf_bytes(counts=(0, 1 << 34)),
    ]
    tracemalloc.start()
    for head in heads:
        with pytest.raises(FormatError):
            read_header(Vast(head), "x.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_long_header_and_many_items_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gguf_bytes([pair("a", 9, array(8, 3, string("") * 3)), pair("b", 9, array(8, 3, string("") * 3))])
    parse(data)
    monkeypatch.setattr(gguf, "MAX_ITEMS", 5)
    with pytest.raises(FormatError, match="claims 3 elements in the value of 'b', more than the 2 allowed"):
        parse(data)
    monkeypatch.setattr(gguf, "READ_AHEAD", 1)
    monkeypatch.setattr(gguf, "MAX_HEADER", 16)
    with pytest.raises(FormatError, match="has a header of more than 16 bytes"):
        parse(gguf_bytes())


@given(st.data())
@settings(max_examples=2000, deadline=2000, derandomize=True, database=None)
def test_flipped_bytes_give_a_header_or_a_format_error(small: bytes, data: st.DataObject) -> None:
    mutated = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(small) - 1))
        mutated[at : at + data.draw(st.sampled_from([0, 1, 1, 1, 8]))] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        header = parse(bytes(mutated))
    except FormatError:
        return
    assert all(tensor.offset + tensor.nbytes <= len(mutated) for tensor in header.tensors)


@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=1000, deadline=2000, derandomize=True, database=None)
def test_garbage_gives_a_header_or_a_format_error(garbage: bytes, tensors: int, keys: int) -> None:
    for head in (b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)):
        with contextlib.suppress(FormatError):
            parse(head + garbage)


def test_fields_with_other_types_or_bits_differ() -> None:
    numbers = np.array([1, 2], "<u4")
    assert Field(ValueType.FLOAT64, float("nan")) == Field(ValueType.FLOAT64, float("nan"))
    assert Field(ValueType.UINT32, 1) != Field(ValueType.UINT64, 1)
    assert Field(ValueType.ARRAY, numbers, ValueType.UINT32) == Field(ValueType.ARRAY, numbers.copy(), ValueType.UINT32)
    assert Field(ValueType.ARRAY, numbers, ValueType.UINT32) != Field(ValueType.ARRAY, numbers[:1], ValueType.UINT32)


def test_describe_digests_file_and_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "CHUNK", 4096)
    rng = np.random.default_rng(2)
    tensors = {"long": (rng.random((37, 101), np.float32), None), "short": (np.ones(3, np.float16), None)}
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
def test_the_first_non_finite_row_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: GGMLType, bad: float
) -> None:
    monkeypatch.setattr(describing, "CHUNK", 1024)
    # Subnormal and largest numbers must not be taken for infinity.
    values = np.full((3, 50, 40), 6e-8)
    values[0, 0, :2] = -6.5e4, 0.0
    dtype = {GGMLType.F32: np.float32, GGMLType.F16: np.float16, GGMLType.F64: np.float64}.get(kind)

    def encode(values: np.ndarray) -> tuple[np.ndarray, GGMLType | None]:
        return (values.astype(dtype), None) if dtype else (bf16(values), GGMLType.BF16)

    tainted = values.copy()
    tainted[1, 27, 39] = tainted[2, 0, 0] = bad
    start = values.copy()
    start[0, 0, 0] = bad
    tensors = {"good": encode(values), "tainted": encode(tainted), "start": encode(start)}
    description = describe(write_model(tmp_path / "x.gguf", tensors))
    assert description.non_finite == {"tainted": 77, "start": 0}
    message = r"^the weights: tensor 'tainted' holds NaN or infinity, first in row 77 and so do 1 more of its tensors"
    with pytest.raises(FormatError, match=message):
        require_finite(description, "the weights")


def test_quantized_and_integer_tensors_are_not_checked(tmp_path: Path) -> None:
    ones = np.full((2, 144), 255, np.uint8)
    path = write_model(tmp_path / "x.gguf", {"q": (ones, GGMLType.Q4_K), "i": (np.full(4, -1, np.int32), None)})
    require_finite(describe(path), "the weights")


def test_a_vocabulary_is_parsed_quickly() -> None:
    data = gguf_bytes([pair("tokens", 9, array(8, 150_000, string("token") * 150_000))])
    start = time.process_time()
    parse(data)
    assert time.process_time() - start < 2
