"""requant.toolchain.quantizers: each arithmetic has a fingerprint, and a variant or a module that computes so."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from requant.documents.pins import TABLE, ToolchainPin, read_pins
from requant.formats.ggml import Arithmetic
from requant.ground.errors import DiskError, FormatError, RequantError, SourceError, ToolError
from requant.ground.locks import in_turn
from requant.toolchain import quantizers
from requant.toolchain.quantizers import FINGERPRINTS, SMALL, kept_tree, lacking, open_lanes, open_quantizer, toolchains
from requant.toolchain.variants import variant
from requant.toolchain.wasm_library import WasmLibrary
from support.clocks import until
from support.upstream import Upstream, git

FIRST, OLDER = read_pins(TABLE, "the pin table").toolchains.values()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing was built; gives the folder that is its PATH, where nothing lies."""
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "path"


def programs(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).symlink_to("/bin/true")


def test_every_arithmetic_can_be_built_and_proven() -> None:
    assert set(FINGERPRINTS) == set(Arithmetic)
    assert len(set(FINGERPRINTS.values())) == len(Arithmetic), "or nobody could tell them apart"
    for arithmetic in Arithmetic:
        assert variant(arithmetic.value).name == arithmetic
        assert arithmetic.other is not arithmetic is arithmetic.other.other


def test_without_a_compiler_the_module_is_strict(bare: Path) -> None:
    """However much there is to do; and nothing is fetched or written for it."""
    for work in (None, 0, 100 * SMALL):
        assert isinstance(open_quantizer(Arithmetic.STRICT, FIRST, work), WasmLibrary)
    assert lacking(Arithmetic.STRICT, FIRST) is None
    assert not (bare.parent / "cache").exists()


MISSING = {
    "nothing": ((), "no C compiler (gcc) is on the PATH: install one (Debian: apt install g++)"),
    "another compiler": (("git", "cc", "c++", "clang"), "no C compiler (gcc) is on the PATH"),
    "a compiler alone": (("gcc", "g++"), "no git is on the PATH, which proves llama.cpp's source: install it"),
}


@pytest.mark.parametrize(("names", "words"), MISSING.values(), ids=list(MISSING))
def test_fused_needs_gcc(bare: Path, names: tuple[str, ...], words: str) -> None:
    programs(bare, *names)
    why = lacking(Arithmetic.FUSED, FIRST)
    assert why is not None
    assert words in why
    with pytest.raises(ToolError) as error:
        open_quantizer(Arithmetic.FUSED, FIRST)
    assert str(error.value) == why
    assert not (bare.parent / "cache").exists(), "a source was fetched in vain"


def test_the_module_stands_for_its_own_llama_cpp_alone(bare: Path) -> None:
    assert "no C compiler (cc, gcc, clang)" in (lacking(Arithmetic.STRICT, OLDER) or "")
    with pytest.raises(ToolError, match="no C compiler"):
        open_quantizer(Arithmetic.STRICT, OLDER)


def test_a_compiler_is_for_much_work(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building takes half a minute: little is derived by the module before that is over."""
    programs(bare, "git", "gcc", "g++", "cc", "c++")
    built = []
    monkeypatch.setattr(quantizers, "_build", lambda *arguments: built.append(arguments))
    assert isinstance(open_quantizer(Arithmetic.STRICT, FIRST, SMALL), WasmLibrary)
    assert not built
    for work in (None, SMALL + 1):
        with pytest.raises(OSError, match=r"build\.json"):  # which the build would have written
            open_quantizer(Arithmetic.STRICT, FIRST, work)
    assert len(built) == 2
    assert lacking(Arithmetic.STRICT, OLDER) is None


@pytest.mark.parametrize("error", [SourceError, FormatError, DiskError, ToolError])
def test_where_no_source_can_be_had_the_module_goes_on(
    bare: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[RequantError]
) -> None:
    """It is asked for once; a llama.cpp that the module is not of cannot be had then."""
    asked = []

    def refuse(pin: ToolchainPin, *_: Path) -> None:
        asked.append(pin)
        raise error("the package index cannot be reached: try again")

    programs(bare, "git", "gcc", "g++", "cc", "c++")
    monkeypatch.setattr(quantizers, "fetch_toolchain", refuse)
    opener = cache(lambda arithmetic: open_quantizer(arithmetic, FIRST, SMALL + 1))
    assert open_lanes(FIRST, SMALL + 1, opener) is None
    assert isinstance(opener(Arithmetic.STRICT), WasmLibrary)
    assert asked == [FIRST]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "going on with the WebAssembly module, more slowly: the package index cannot be reached: try again"
    ]
    with pytest.raises(error, match="the package index"):
        open_quantizer(Arithmetic.STRICT, OLDER)


def test_a_module_that_computes_otherwise_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FINGERPRINTS, Arithmetic.STRICT, "0" * 64)
    with pytest.raises(ToolError, match=r"quantizer\.wasm does not compute in the strict arithmetic"):
        open_quantizer(Arithmetic.STRICT, FIRST)


def test_a_processor_without_fused_instructions(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arithmetic: Arithmetic) -> None:
        raise ToolError("this processor lacks AVX2 or FMA")

    monkeypatch.setattr(quantizers, "require_processor", refuse)
    assert lacking(Arithmetic.FUSED, FIRST) == "this processor lacks AVX2 or FMA"


def test_elsewhere_than_on_linux_nothing_is_built(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(bare, "git", "gcc", "g++", "cc", "c++")
    monkeypatch.setattr("sys.platform", "darwin")
    assert (lacking(Arithmetic.FUSED, FIRST) or "").startswith("fused is built on Linux only")


def test_two_first_audits_fetch_one_tree(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waited for the other finds the tree made, and takes it not away from who compiles it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pin = replace(upstream.pin, checkout=str(upstream.folder))
    git(upstream.folder, "checkout", "--quiet", "--detach", pin.commit)
    with caplog.at_level("INFO"), ThreadPoolExecutor(2) as pool:
        with in_turn(toolchains() / pin.name / "unpack"):
            both = [pool.submit(lambda: kept_tree(pin).stat().st_ino) for _ in range(2)]
            until(lambda: caplog.text.count("waiting for another run") == 2)
        one, other = (each.result() for each in both)
    assert one == other == (toolchains() / pin.name / "source").stat().st_ino
    assert caplog.text.count("fetching llama.cpp") == 1
