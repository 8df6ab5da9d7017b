"""Building GGUF files byte by byte, also such as no honest writer makes."""

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from requant.formats.ggml import GGMLType
from requant.formats.gguf import Header, read_header

Array = np.ndarray[Any, Any]


def parse(data: bytes) -> Header:
    """Read the header of a file that messages call ``x.gguf``."""
    return read_header(io.BytesIO(data), "x.gguf")


def string(text: str | bytes) -> bytes:
    """Encode a GGUF string: its length and its bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    """Encode one metadata pair."""
    return string(key) + struct.pack("<I", kind) + payload


def array(item: int, count: int, payload: bytes) -> bytes:
    """Encode the payload of an array."""
    return struct.pack("<IQ", item, count) + payload


def tensor(name: str | bytes, shape: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """Encode one tensor info."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_bytes(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """Put a file together; ``counts`` are the numbers of tensors and pairs it claims, by default the true ones."""
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(pairs))))
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def write_model(path: Path, tensors: Mapping[str, tuple[Array, GGMLType | None]], alignment: int = 0) -> Path:
    """Let the gguf package write tensors; each is an array and its type, ``None`` where numpy's own says it."""
    writer = GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=None if kind is None else GGMLQuantizationType(kind))
    _write(writer)
    return path


def bf16(values: Array) -> Array:
    """Cut float32 to BF16, as the raw bytes GGUFWriter wants."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)


def write_small(path: Path) -> Path:
    """Let the gguf package write a file that holds a little of everything."""
    writer = GGUFWriter(path, "llama")
    writer.add_array("tokens", ["<s>", "ß", "日本"])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_bool("flag", val=True)
    writer.add_tensor("a.weight", np.arange(9, dtype=np.float32).reshape(3, 3))
    writer.add_tensor("b.weight", np.arange(5, dtype=np.float16))
    _write(writer)
    return path


def write_imatrix(
    path: Path,
    entries: dict[str, np.ndarray],
    datasets: Sequence[str] = ("calibration.txt",),
    chunks: int = 2,
    chunk_size: int = 8,
    base_model: str | None = None,
) -> Path:
    """Write an importance matrix as llama-imatrix does; ``entries`` maps whole tensor names to float arrays.

    ``base_model`` is the address of the weights, which llama-imatrix does not write.
    """
    writer = GGUFWriter(path, "")
    if base_model is not None:
        writer.add_base_model_count(1)
        writer.add_base_model_repo_url(0, base_model)
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", list(datasets))
    writer.add_uint32("imatrix.chunk_count", chunks)
    writer.add_uint32("imatrix.chunk_size", chunk_size)
    for name, values in entries.items():
        writer.add_tensor(name, values)
    _write(writer)
    return path


def legacy_imatrix(
    entries: Mapping[str, tuple[int, Array]], chunks: int | None = None, dataset: str | bytes | None = None
) -> bytes:
    """An importance matrix in the old format: of each weight the number that its values are divided by, and these.

    Without ``chunks`` it ends as the oldest files do; without ``dataset`` as some others.
    """

    def text(raw: str | bytes) -> bytes:
        data = raw.encode() if isinstance(raw, str) else raw
        return struct.pack("<i", len(data)) + data

    found = struct.pack("<i", len(entries))
    for name, (calls, values) in entries.items():
        found += text(name) + struct.pack("<ii", calls, values.size) + values.astype("<f4").tobytes()
    found += b"" if chunks is None else struct.pack("<i", chunks)
    return found + (b"" if dataset is None else text(dataset))


def _write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
