"""requant verify of a folder that holds a split model: all parts are there and belong together, or it is said."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.documents.file_names import SUMS
from requant.documents.sums import sums_text
from requant.release.verify import verify_release
from support.gguf_files import write_small
from support.splits import split

NAMES = [f"M-0000{number}-of-00002.gguf" for number in (1, 2)]


def parts(folder: Path, name: str = "M") -> list[Path]:
    return split(write_small(folder.parent / f"{name}.gguf"), folder, [1, 1], name)


CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "nothing": (lambda _: None, []),
    "a part less": (lambda folder: (folder / NAMES[1]).unlink(), [(NAMES[0], f"1 is missing ({NAMES[1]})")]),
    "one part twice": (
        lambda folder: shutil.copy(folder / NAMES[0], folder / NAMES[1]),
        [(NAMES[0], f"{NAMES[1]} has split.no 0, expected 1: it is no part of {NAMES[0]}")],
    ),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=list(CHANGES))
def test_parts(tmp_path: Path, change: Callable[[Path], object], found: list[tuple[str, str]]) -> None:
    """Though every digest is that of ``SHA256SUMS``."""
    folder = tmp_path / "release"
    parts(folder)
    change(folder)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / SUMS).write_text(sums_text(sums))
    said = verify_release(folder).findings
    assert [(finding.where, words in finding.actual) for finding, (_, words) in zip(said, found, strict=True)] == [
        (where, True) for where, _ in found
    ]
