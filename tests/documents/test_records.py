"""requant.documents.records: a record that anything was changed in is no record, one of an earlier version is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from requant.documents.records import VERSION, file_entry, read_record, require_recorded, write_record
from requant.ground.canonical import canonical
from requant.ground.digests import digest_file
from requant.ground.errors import StaleError

DOCUMENT = {"file": {"name": "x", "size": 3, "sha256": "ab" * 32}, "tensors": [{"name": "a", "shape": [2, 3]}]}


def test_a_record_is_what_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", DOCUMENT)
    assert read_record(tmp_path / "a.json") == DOCUMENT
    write_record(tmp_path / "b.json", json.loads((tmp_path / "a.json").read_text()))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes(), "the seal is no part of a document"


def test_any_changed_byte_is_seen(tmp_path: Path) -> None:
    """Most make no JSON any more; none makes another record."""
    path = tmp_path / "a.json"
    write_record(path, DOCUMENT)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        with suppress(StaleError):
            assert read_record(path) == DOCUMENT, at


def test_records_without_a_seal(tmp_path: Path) -> None:
    """Those that earlier versions wrote."""
    (tmp_path / "a.json").write_bytes(canonical({**DOCUMENT, "record": VERSION}))
    assert read_record(tmp_path / "a.json") == DOCUMENT


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    entry = file_entry("x", digest_file(tmp_path / "x"))
    assert require_recorded(tmp_path / "x", entry, tmp_path / "x.json") == digest_file(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"abd")
    with pytest.raises(
        StaleError, match=r"x is not the file that its record describes: remove .*x\.json and run again"
    ):
        require_recorded(tmp_path / "x", entry, tmp_path / "x.json")
