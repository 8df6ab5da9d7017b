"""Rebuild the texts to calibrate and evaluate on: defined by their bytes, never by how they were joined.

They come from two places: rows of a data set on a hub, and text files of a proven source tree.

The WikiText rule (https://huggingface.co/datasets/Salesforce/wikitext, configurations ``*-raw-v1``): a row
is a line that kept its newline, and a line of the original ``wiki.*.raw`` that holds only a blank (``" \\n"``)
has become an empty row. Putting the blanks back restores the original files byte for byte; joining
with ``""``, ``"\\n"`` or ``"\\n\\n"``, as is often done, gives three other texts.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from requant.documents.pins import CorpusPin, TextPin
from requant.documents.records import file_entry, read_record, require_recorded, write_record
from requant.ground.digests import Digest, Known, check_file, digest_file, named_when_whole
from requant.ground.errors import FormatError, PinnedBytesError, RecipeError, StaleError
from requant.places.pages import HUGGING_FACE

logger = logging.getLogger(__name__)
BLANK_LINE = " \n"
RECORD = "corpus.json"
"""What lies beside the texts of a corpus and says what they are."""


def fetch_corpus(pin: CorpusPin, texts: Mapping[str, TextPin], tree: Path, out: Path, record: Path) -> None:
    """Rebuild the texts of a corpus into ``out``, byte for byte; ``texts`` maps roles to pinned texts.

    Raises:
        SourceError, PinnedBytesError: when the data set cannot be had or its files or texts are not the pinned ones.
        ToolError: when the package that reads data sets is not installed.
    """
    entries = {}
    for role, text in texts.items():
        if pin.repo is None:
            digest = write_tree_text(tree, text.paths, out / text.name, text.expected)
        else:
            HUGGING_FACE.require_endpoint()
            from requant.places.hub import dataset_rows

            assert pin.config and pin.revision and text.split
            rows = dataset_rows(pin.repo, pin.config, pin.revision, pin.files, text.split)
            digest = write_raw_text(rows, out / text.name, text.expected)
        logger.info("%s is the pinned text, %s bytes", text.name, f"{digest.size:,}")
        entries[role] = file_entry(text.name, digest)
    write_record(record, {**pin.as_input(texts), "texts": entries})


def text_digest(text: Path) -> Digest:
    """The digest of a text to calibrate or evaluate on, which must be the one that its record tells of, if it has one.

    Raises:
        StaleError: when it is another.
    """
    record = text.with_name(RECORD)
    if not record.exists():
        return digest_file(text)
    entry = next((entry for entry in read_record(record)["texts"].values() if entry["name"] == text.name), None)
    if entry is None:
        raise StaleError(f"{record} does not tell of {text.name}: remove it and run again")
    return require_recorded(text, entry, record)


def raw_text(rows: Iterable[str]) -> Iterator[bytes]:
    """Yield the UTF-8 bytes of every row, a blank line for an empty one."""
    for row in rows:
        yield (row or BLANK_LINE).encode()


def write_raw_text(rows: Iterable[str], out: Path, expected: Known) -> Digest:
    """Write data set rows as raw text to ``out`` and return its digest; memory holds one row at a time.

    Raises:
        PinnedBytesError: if the text is not the expected one; ``out`` is then left as it was.
    """
    return _write_checked(raw_text(rows), out, expected, "the rows are not those of the pin, or their order is not")


def tree_files(tree: Path, patterns: Sequence[str]) -> list[str]:
    """List the files of ``tree`` that match any of ``patterns``: POSIX paths relative to it, by codepoint, once each.

    Patterns are those of ``Path.glob``, relative to the tree: ``*`` stays in one folder, ``**`` spans any number.

    Raises:
        RecipeError: if a pattern could leave the tree, or matches no file.
        FormatError: if a match is a symbolic link or is reached through one.
    """
    found: set[str] = set()
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        # A pattern that ends in ** matches folders only up to Python 3.12, and files too from 3.13 on.
        if not parts or parts[0] == "/" or ".." in parts or parts[-1] == "**":
            raise RecipeError(f"the pattern {pattern!r} may leave the source tree: write e.g. docs/*.md")
        matches = [path.relative_to(tree) for path in tree.glob(pattern) if not path.is_dir() or path.is_symlink()]
        if not matches:
            raise RecipeError(f"the pattern {pattern!r} matches no file of the source tree: correct or remove it")
        for path in matches:
            _check_inside(tree, path)
            found.add(path.as_posix())
    if not found:
        raise RecipeError("the text has no patterns: name at least one, e.g. docs/*.md")
    return sorted(found)


def write_tree_text(tree: Path, patterns: Sequence[str], out: Path, expected: Known) -> Digest:
    """Write the files ``tree_files`` lists as one text to ``out`` and return its digest.

    Each file ends with exactly one newline, and one blank line stands between two files; nothing else changes.

    Raises:
        RecipeError, FormatError: as ``tree_files`` does; FormatError also if a file is not UTF-8.
        PinnedBytesError: if the text is not the expected one; ``out`` is then left as it was.
    """
    files = tree_files(tree, patterns)
    return _write_checked(_tree_text(tree, files), out, expected, "the patterns or the source tree have changed")


def _check_inside(tree: Path, path: Path) -> None:
    for part in (path, *path.parents):
        if (tree / part).is_symlink() and part != Path():
            raise FormatError(f"{part.as_posix()} in the source tree is a symbolic link: only its own files are read")
    if not (tree / path).is_file():
        raise FormatError(f"{path.as_posix()} in the source tree is not a regular file: no text can be read from it")


def _tree_text(tree: Path, files: Sequence[str]) -> Iterator[bytes]:
    for index, name in enumerate(files):
        data = (tree / name).read_bytes()
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{name} in the source tree is not UTF-8 text: {error}") from error
        if index:
            yield b"\n"
        yield data.rstrip(b"\r\n") + b"\n"


def _write_checked(pieces: Iterable[bytes], out: Path, expected: Known, cause: str) -> Digest:
    sha256 = hashlib.sha256()
    size = 0
    with named_when_whole(out) as temporary:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                sha256.update(piece)
                size += len(piece)
        found = Digest(size, sha256.hexdigest())
        if expected.size not in (None, size) or expected.sha256 not in (None, found.sha256):
            raise PinnedBytesError(
                f"{out.name} has {size:,} bytes and SHA-256 {found.sha256}, expected {_described(expected)}: {cause}"
            )
        if expected.git_blob is not None:
            # A blob id begins with the size, so it cannot be had while writing.
            check_file(temporary, expected, out.name)
    return found


def _described(expected: Known) -> str:
    parts = []
    if expected.size is not None:
        parts.append(f"{expected.size:,} bytes")
    if expected.sha256 is not None:
        parts.append(f"SHA-256 {expected.sha256}")
    return " and ".join(parts)
