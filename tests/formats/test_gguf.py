"""requant.formats.gguf: reads what the gguf package writes. What it refuses is in ``test_gguf_refusals``."""

import io
import struct
import time
from pathlib import Path

import gguf as upstream
import numpy as np
import pytest

from requant.formats import gguf
from requant.formats.ggml import REMOVED, GGMLType, ValueType
from requant.formats.gguf import Field, read_header
from support.gguf_files import array, bf16, gguf_bytes, pair, parse, string, tensor, write_model

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


def test_strings_and_nested_arrays_come_back(small_gguf: bytes) -> None:
    metadata = parse(small_gguf).metadata
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


def test_a_type_that_llama_cpp_does_not_have_reaches_to_the_next_tensor() -> None:
    """In whatever order they stand; one type is always the same object, whichever file it comes from."""
    infos = [tensor("c", [64, 3], 144, 128), tensor("a", [8], 32, 0), tensor("b", [8], 0, 96), tensor("d", [8], 4, 192)]
    found = {
        each.name: (each.type.name, each.offset, each.nbytes)
        for each in parse(gguf_bytes([], infos, bytes(256))).tensors
    }
    start = found["a"][1]
    assert found == {
        "c": ("TYPE_144", start + 128, 64),
        "a": ("Q4_0_4_8", start, 96),
        "b": ("F32", start + 96, 32),
        "d": ("Q4_2", start + 192, 64),
    }
    assert GGMLType.of(144) is GGMLType.of(144) != GGMLType.of(145)
    assert (int(GGMLType.of(144)), GGMLType.of(144) in {GGMLType.Q4_K}, GGMLType.of(12)) == (144, False, GGMLType.Q4_K)
    assert not {GGMLType.of(number) for number in REMOVED} & set(GGMLType)


def test_version_2_and_any_seekable_file(small_gguf: bytes, tmp_path: Path) -> None:
    assert parse(small_gguf[:4] + struct.pack("<I", 2) + small_gguf[8:]).version == 2
    path = tmp_path / "small.gguf"
    path.write_bytes(small_gguf)
    with path.open("rb") as file:
        file.seek(17)
        assert read_header(file) == read_header(path) == parse(small_gguf)


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


def test_fields_with_other_types_or_bits_differ() -> None:
    numbers = np.array([1, 2], "<u4")
    assert Field(ValueType.FLOAT64, float("nan")) == Field(ValueType.FLOAT64, float("nan"))
    assert Field(ValueType.UINT32, 1) != Field(ValueType.UINT64, 1)
    assert Field(ValueType.ARRAY, numbers, ValueType.UINT32) == Field(ValueType.ARRAY, numbers.copy(), ValueType.UINT32)
    assert Field(ValueType.ARRAY, numbers, ValueType.UINT32) != Field(ValueType.ARRAY, numbers[:1], ValueType.UINT32)


def test_a_vocabulary_is_parsed_quickly() -> None:
    data = gguf_bytes([pair("tokens", 9, array(8, 150_000, string("token") * 150_000))])
    start = time.process_time()
    parse(data)
    assert time.process_time() - start < 2
