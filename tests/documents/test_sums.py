"""requant.documents.sums: what is written is what is read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.documents.file_names import SUMS
from requant.documents.sums import LONGEST_NAME, read_sums, sums_text

LETTERS = st.characters(codec="utf-8", exclude_characters="/").filter(str.isprintable)
NAMES = st.text(LETTERS, min_size=1, max_size=LONGEST_NAME // 4).filter(lambda name: name not in (".", ".."))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sums")


@given(sums=st.dictionaries(NAMES, DIGESTS, min_size=1, max_size=4))
def test_what_is_written_is_read(folder: Path, sums: dict[str, str]) -> None:
    (folder / SUMS).write_bytes(sums_text(sums).encode())
    found = read_sums(folder)
    assert (found, [*found]) == (sums, [*sums])
    assert sums_text(found).encode() == (folder / SUMS).read_bytes()
