"""Laws of requant.ground.digests: a file has its name only when it is whole, and a wrong file is told apart in words."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.ground.digests import (
    CHUNK,
    Digest,
    Known,
    check_file,
    digest_bytes,
    digest_file,
    named_when_whole,
    open_partial,
    publish,
    write_bytes,
)
from requant.ground.errors import DiskError, PinnedBytesError, sentence
from support.files import blob_id, known_bytes, names


@given(st.binary(max_size=300), st.sampled_from([0, CHUNK - 1, CHUNK, CHUNK + 1]))
def test_a_file_has_the_digest_of_its_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, more: int) -> None:
    path = tmp_path_factory.mktemp("digest") / "file"
    data += bytes(more)
    path.write_bytes(data)
    assert digest_file(path) == digest_bytes(data) == Digest(len(data), hashlib.sha256(data).hexdigest())
    assert check_file(path, known_bytes(data)) == digest_bytes(data)


def test_a_disk_that_fails_to_read_is_named() -> None:
    """The system gives no name where a read fails, as it does in the memory of a process at address 0."""
    with pytest.raises(OSError, match="Input/output error") as error:
        digest_file(Path("/proc/self/mem"))
    assert str(sentence(error.value)).startswith("/proc/self/mem cannot be read or written (Input/output error)")


def test_git_agrees_on_the_blob_id(tmp_path: Path) -> None:
    """The empty blob has the same id in every repository."""
    (tmp_path / "empty").touch()
    check_file(tmp_path / "empty", Known(git_blob="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"))


RIGHT = b"these are the bytes"
WRONG = {
    "truncated": (RIGHT[:-1], known_bytes(RIGHT), "model has 18 bytes, expected 19: it is truncated or another file"),
    "longer": (RIGHT * 1000, known_bytes(RIGHT), "model has 19,000 bytes, expected 19"),
    "same length, wrong bytes": (
        RIGHT[::-1],
        known_bytes(RIGHT),
        f"model has SHA-256 {hashlib.sha256(RIGHT[::-1]).hexdigest()}, expected {hashlib.sha256(RIGHT).hexdigest()}",
    ),
    "wrong git blob": (
        RIGHT[::-1],
        Known(len(RIGHT), git_blob=blob_id(RIGHT)),
        f"model has git blob id {blob_id(RIGHT[::-1])}, expected {blob_id(RIGHT)}: these are not the pinned bytes",
    ),
    "size only": (RIGHT[:-1], Known(len(RIGHT)), "model has 18 bytes, expected 19"),
}


@pytest.mark.parametrize(("data", "known", "words"), WRONG.values(), ids=list(WRONG))
def test_wrong_files_are_told_apart(tmp_path: Path, data: bytes, known: Known, words: str) -> None:
    path = tmp_path / "part"
    path.write_bytes(data)
    with pytest.raises(PinnedBytesError) as error:
        check_file(path, known, "model")
    assert words in str(error.value)
    assert path.read_bytes() == data


def test_only_a_digest_proves_content() -> None:
    assert not Known(size=5).proves_content
    assert Known(sha256="0" * 64).proves_content
    assert Known(git_blob="0" * 40).proves_content


def test_a_whole_file_takes_the_name(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "file"
    with named_when_whole(final) as temporary:
        assert temporary.parent.parent == final.parent, "a rename is atomic on one disk only"
        temporary.write_bytes(b"new")
        assert not final.exists()
    assert final.read_bytes() == b"new"
    assert names(final.parent) == ["file"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), PinnedBytesError("refused")], ids=repr)
@pytest.mark.parametrize("old", [b"old", None], ids=["over an old file", "for the first time"])
def test_an_error_in_the_middle(tmp_path: Path, error: BaseException, old: bytes | None) -> None:
    final = tmp_path / "file"
    if old is not None:
        final.write_bytes(old)

    def write() -> None:
        with named_when_whole(final) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert names(tmp_path) == (["file"] if old is not None else [])
    assert old is None or final.read_bytes() == old


def test_the_rest_of_a_killed_run_is_not_used(tmp_path: Path) -> None:
    final = tmp_path / "file"
    with named_when_whole(final) as temporary:
        pass_name = temporary
        temporary.write_bytes(b"first")
    pass_name.parent.mkdir()
    pass_name.write_bytes(b"left by a killed run")
    with named_when_whole(final) as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"second")
    assert names(tmp_path) == ["file"]
    assert final.read_bytes() == b"second"


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileNotFoundError), named_when_whole(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b"old"


def test_publish_and_write_bytes(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x")
    publish(tmp_path / "part", tmp_path / "a" / "b" / "final")
    assert (tmp_path / "a" / "b" / "final").read_bytes() == b"x"
    write_bytes(tmp_path / "c" / "small", b"y")
    assert (tmp_path / "c" / "small").read_bytes() == b"y"
    assert names(tmp_path) == ["a", "c"]


# Links that somebody else has laid.


def test_nothing_is_written_through_a_link_to_a_temporary_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for there in (lambda part: part.symlink_to(victim), lambda part: part.symlink_to(tmp_path), Path.touch):
        there(tmp_path / ".out.part")
        write_bytes(tmp_path / "out", b"ours")
    write_bytes(tmp_path / "out", b"ours")
    assert (victim.read_bytes(), (tmp_path / "out").read_bytes()) == (b"precious", b"ours")
    assert not (tmp_path / "out").is_symlink()


def test_a_link_that_comes_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits for the moment between removing and making; then nothing is made."""
    (tmp_path / "elsewhere").mkdir()
    mkdir = Path.mkdir

    def laid(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if path.name == ".out.part":
            path.symlink_to(tmp_path / "elsewhere")
        mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", laid)
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "out", b"ours")
    assert names(tmp_path / "elsewhere") == []


def test_where_is_written_nobody_else_can_lay_anything(tmp_path: Path) -> None:
    with named_when_whole(tmp_path / "out") as temporary:
        assert (temporary.parent.stat().st_mode & 0o777, temporary.parent.parent) == (0o700, tmp_path)
        temporary.write_bytes(b"x")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_name_that_is_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    write_bytes(tmp_path / "out", b"ours")
    assert ((tmp_path / "victim").read_bytes(), (tmp_path / "out").read_bytes()) == (b"precious", b"ours")


@pytest.mark.parametrize(("anew", "content"), [(False, b"beginend"), (True, b"end")])
def test_a_partial_file_goes_on_or_begins_anew(tmp_path: Path, anew: bool, content: bytes) -> None:
    path = tmp_path / "deep" / "part"
    for data in (b"begin", b"end"):
        with open_partial(path, anew=anew) as file:
            file.write(data)
    assert path.read_bytes() == content


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_partial_file_is_no_link(tmp_path: Path, anew: bool, dangling: bool) -> None:
    victim, link = tmp_path / "victim", tmp_path / "part"
    if not dangling:
        victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with pytest.raises(DiskError, match=r"part is a link, and nothing is written through links: remove it$"):
        open_partial(link, anew=anew)
    assert victim.exists() != dangling
    assert dangling or victim.read_bytes() == b"precious"
