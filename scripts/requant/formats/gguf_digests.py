"""One digest for each metadata value of a GGUF file, so that two headers can be compared where only one is at hand."""

import hashlib
from collections.abc import Iterator

import numpy as np

from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, Header


def key_digests(header: Header) -> dict[str, str]:
    """The SHA-256 of every value by its key, sorted: of its type (4 bytes) and itself, as the file holds them.

    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, ``gguf_metadata_kv_t`` from ``value_type`` on.
    """
    return {key: _digest(header.metadata[key]) for key in sorted(header.metadata)}


def _digest(value: Field) -> str:
    found = hashlib.sha256(_number(value.type, 4))
    for piece in _encoded(value):
        found.update(piece)
    return found.hexdigest()


def _encoded(value: Field) -> Iterator[bytes]:
    """A value as it follows its type in a file."""
    content = value.value
    if value.type.dtype is not None:
        yield np.array(content, value.type.dtype).tobytes()
    elif value.type is ValueType.STRING:
        yield _string(content)
    else:
        assert value.item is not None
        assert isinstance(content, list | np.ndarray)
        yield _number(value.item, 4) + _number(len(content), 8)
        if isinstance(content, np.ndarray):
            yield content.astype(value.item.dtype, copy=False).tobytes()
        elif value.item is ValueType.STRING:
            yield b"".join(map(_string, content))
        else:
            for item in content:
                assert isinstance(item, Field)
                yield from _encoded(item)


def _string(content: object) -> bytes:
    assert isinstance(content, str | bytes)
    data = content.encode() if isinstance(content, str) else content
    return _number(len(data), 8) + data


def _number(value: int, size: int) -> bytes:
    return int(value).to_bytes(size, "little")
