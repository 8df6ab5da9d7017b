"""requant.formats.gguf_digests: a value's digest is that of the file's own bytes, whoever wrote them."""

import hashlib
import struct
from pathlib import Path

import pytest

from requant.formats.ggml import ValueType
from requant.formats.gguf_digests import key_digests
from support.gguf_files import array, gguf_bytes, pair, parse, string

PAYLOADS: dict[str, tuple[ValueType, bytes]] = {
    "a small number": (ValueType.UINT8, b"\7"),
    "a negative number": (ValueType.INT64, struct.pack("<q", -5)),
    "a float": (ValueType.FLOAT32, struct.pack("<f", 1e-6)),
    "a quiet NaN": (ValueType.FLOAT32, bytes.fromhex("0000c07f")),
    "a double": (ValueType.FLOAT64, struct.pack("<d", 0.1)),
    "a truth": (ValueType.BOOL, b"\1"),
    "no text": (ValueType.STRING, string("")),
    "a text": (ValueType.STRING, string("日本\n")),
    "a text that is none": (ValueType.STRING, string(b"\xff\xfe")),
    "no numbers": (ValueType.ARRAY, array(ValueType.INT32, 0, b"")),
    "numbers": (ValueType.ARRAY, array(ValueType.UINT16, 3, struct.pack("<3H", 1, 2, 65535))),
    "texts": (ValueType.ARRAY, array(ValueType.STRING, 2, string("a") + string(b"\xff"))),
    "numbers in lists": (
        ValueType.ARRAY,
        array(ValueType.ARRAY, 2, array(ValueType.INT8, 1, b"\xff") + array(ValueType.STRING, 1, string("x"))),
    ),
}


@pytest.mark.parametrize(("kind", "payload"), PAYLOADS.values(), ids=PAYLOADS)
def test_the_digest_is_that_of_the_files_bytes(kind: ValueType, payload: bytes) -> None:
    header = parse(gguf_bytes([pair("b", kind, payload), pair("a", kind, payload)]))
    wanted = hashlib.sha256(struct.pack("<I", kind) + payload).hexdigest()
    assert key_digests(header) == {"a": wanted, "b": wanted}
    assert [*key_digests(header)] == ["a", "b"]


def test_types_tell_values_apart(tmp_path: Path) -> None:
    header = parse(gguf_bytes([pair("a", ValueType.UINT8, b"\1"), pair("b", ValueType.BOOL, b"\1")]))
    assert len({*key_digests(header).values()}) == 2
