"""Copies of a GGUF whose tensors are the same and whose metadata say something else."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, read_header
from support.gguf_files import array, gguf_bytes, pair, string, tensor


def relabelled(source: Path, out: Path, changes: Mapping[str, Field | None]) -> Path:
    """Write a copy in which the ``changes`` replace, add or (``None``) remove keys."""
    header = read_header(source)
    metadata = {**header.metadata, **changes}
    pairs = [pair(key, field.type, payload(field)) for key, field in metadata.items() if field is not None]
    tensors = [tensor(each.name, each.shape, each.type, each.offset - header.data_offset) for each in header.tensors]
    data = source.read_bytes()[header.data_offset :]
    out.write_bytes(gguf_bytes(pairs, tensors, data, alignment=header.alignment))
    return out


def payload(field: Field) -> bytes:
    """Encode a value as it stands in a file."""
    value = field.value
    if field.type is ValueType.STRING:
        assert isinstance(value, (str, bytes))
        return string(value)
    if field.type is not ValueType.ARRAY:
        return np.array(value, field.type.dtype).tobytes()
    assert field.item is not None and isinstance(value, (list, np.ndarray))
    if isinstance(value, np.ndarray):
        return array(field.item, len(value), value.tobytes())
    return array(field.item, len(value), b"".join(string(each) for each in value if isinstance(each, (str, bytes))))


def text(value: str) -> Field:
    """A text as a value."""
    return Field(ValueType.STRING, value)


def number(value: int) -> Field:
    """An unsigned number as a value."""
    return Field(ValueType.UINT32, value)


def half(value: float) -> Field:
    """A float32 as a value."""
    return Field(ValueType.FLOAT32, struct.unpack("<f", struct.pack("<f", value))[0])
