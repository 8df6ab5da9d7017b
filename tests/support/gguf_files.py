"""Building GGUF files byte by byte, also such as no honest writer makes."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFWriter


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


def write_imatrix(
    path: Path,
    entries: dict[str, np.ndarray],
    datasets: Sequence[str] = ("calibration.txt",),
    chunks: int = 2,
    chunk_size: int = 8,
) -> Path:
    """Write an importance matrix as llama-imatrix does; ``entries`` maps whole tensor names to float arrays."""
    writer = GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", list(datasets))
    writer.add_uint32("imatrix.chunk_count", chunks)
    writer.add_uint32("imatrix.chunk_size", chunk_size)
    for name, values in entries.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
