"""requant.toolchain.build without llama.cpp: what is missing is said, and a built file is used only while it is what was built."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.documents.records import write_record
from requant.ground.digests import digest_file
from requant.ground.errors import DiskError, StaleError, ToolError
from requant.ground.programs import Run
from requant.toolchain.build import _forget_emptied, build_backend, build_tool, open_built, own_program

COMMIT = "0" * 40


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CC", "CXX", "CUDACXX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def compilers(folder: Path, *names: str) -> str:
    """A folder with programs of these names."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to("/bin/true")
    return str(folder)


MISSING = {
    "no C compiler": ((), "no C compiler (cc, gcc, clang) is on the PATH: install one (Debian: apt install g++)"),
    "no C++ compiler": (("cc",), "no C++ compiler (c++, g++, clang++) is on the PATH: install one"),
}


@pytest.mark.parametrize(("names", "words"), MISSING.values(), ids=list(MISSING))
def test_no_compiler(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("PATH", compilers(tmp_path / "path", *names))
    folder = tmp_path / "results" / "bin"
    with pytest.raises(ToolError) as error:
        build_tool(source, "llama-quantize", folder, COMMIT, Run(1, tmp_path / "log"))
    assert words in str(error.value)
    assert not folder.exists()


def test_a_named_compiler_that_is_not_there(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc-99")
    with pytest.raises(ToolError, match=r"no C compiler \(gcc-99\) is on the PATH: .* or name it in CC"):
        build_tool(source, "llama-quantize", tmp_path / "bin", COMMIT, Run(1, tmp_path / "log"))


def test_no_cuda_compiler(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "nvcc" in name else found(name))
    monkeypatch.setenv("PATH", compilers(tmp_path / "path", "cc", "c++"))
    with pytest.raises(
        ToolError, match="variant cuda-sm121 needs nvcc 13: install the CUDA toolkit or name nvcc in CUD"
    ):
        build_backend(source, "cuda-sm121", tmp_path / "cuda", COMMIT, Run(1, tmp_path / "log"))
    assert not (tmp_path / "cuda" / "build.json").exists()


def test_no_room(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.toolchain.build.BUILD_SPACE", {"cpu": 10**21})
    with pytest.raises(DiskError, match="building strict needs "):
        build_tool(source, "llama-quantize", tmp_path / "bin", COMMIT, Run(1, tmp_path / "log"))


def test_a_source_that_does_not_configure(source: Path, tmp_path: Path) -> None:
    """The real cmake on an empty folder: its words go to the log, which the error names."""
    log = tmp_path / "log"
    with pytest.raises(ToolError) as error:
        build_backend(source, "native", tmp_path / "native", COMMIT, Run(1, log))
    found = rf"cmake ended with status 1: CMake Error: .*CMakeLists.txt.*; its log is {re.escape(str(log))}"
    assert re.fullmatch(found, str(error.value))
    assert "CMakeLists.txt" in log.read_text()
    assert not (tmp_path / "native" / "build.json").exists()


def test_what_a_power_cut_emptied_is_compiled_again(tmp_path: Path) -> None:
    """By ninja, which goes by times: an empty object as new as its source is a whole one to it, and to the linker."""
    (tmp_path / "one.c").write_text("int one(void) { return 1; }")
    (tmp_path / "main.c").write_text("int one(void); int main(void) { return one() - 1; }")
    out = tmp_path / "out"
    (out / "bin").mkdir(parents=True)
    (out / "build.ninja").write_text(
        "rule compile\n command = cc -c $in -o $out\nrule link\n command = cc $in -o $out\n"
        "build one.o: compile ../one.c\nbuild main.o: compile ../main.c\nbuild bin/main: link one.o main.o\n"
    )
    ninja = [own_program("ninja"), "-C", str(out)]
    subprocess.run(ninja, check=True, capture_output=True)
    for name in ("one.o", "bin/main"):
        found = (out / name).stat()
        os.truncate(out / name, 0)
        os.utime(out / name, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert "no work to do" in subprocess.run(ninja, check=True, capture_output=True, text=True).stdout
    _forget_emptied(out)
    subprocess.run(ninja, check=True, capture_output=True)
    assert subprocess.run([out / "bin" / "main"]).returncode == 0


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A build record with two files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    binaries = {}
    for name in ("llama-quantize", "libggml-base.so.0"):
        (folder / name).write_bytes(name.encode())
        digest = digest_file(folder / name)
        binaries[name] = {"size": digest.size, "sha256": digest.sha256}
    write_record(folder / "llama-quantize.json", {"variant": "strict", "binaries": binaries})
    return folder / "llama-quantize.json"


def test_what_was_built_is_opened(built: Path) -> None:
    found = open_built(built)
    assert found.folder == built.parent
    assert set(found.files) == {"llama-quantize", "libggml-base.so.0"}
    assert found.document["variant"] == "strict"


def break_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("absent")


ALTERED: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: path.write_bytes(b"evil"),
    "same size": lambda path: path.write_bytes(path.read_bytes()[::-1]),
    "missing": lambda path: path.unlink(),
    "a broken link": break_link,
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=list(ALTERED))
@pytest.mark.parametrize("name", ["llama-quantize", "libggml-base.so.0"])
def test_what_was_altered_is_not(built: Path, name: str, alter: Callable[[Path], object]) -> None:
    alter(built.parent / name)
    with pytest.raises(StaleError) as error:
        open_built(built)
    assert str(error.value) == f"{built.parent / name} is not the file that was built: remove {built} and run again"


def test_a_damaged_record(built: Path) -> None:
    built.write_bytes(b"{")
    with pytest.raises(
        StaleError, match=r"llama-quantize\.json is no record .* is not valid JSON .*: remove it and run"
    ):
        open_built(built)
