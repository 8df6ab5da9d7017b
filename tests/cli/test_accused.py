"""An honest file is never accused because a cache of ours is stale, or because a mirror serves other bytes."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from requant.cli.main import main
from requant.documents.pins import TABLE, read_pins
from requant.documents.records import write_record
from requant.ground.exit_codes import ExitCode
from support.gguf_files import gguf_bytes, pair, string, tensor

PIN = next(iter(read_pins(TABLE).toolchains.values()))
MODEL = pair("general.architecture", 8, string("qwen3"))
WEIGHT, Q8_0 = "blk.0.attn_q.weight", 8


def quant(path: Path, value: int) -> Path:
    """One block of Q8_0: a scale of 1, and one value for all 32 weights."""
    data = np.float16(1).tobytes() + np.full(32, value, np.int8).tobytes()
    path.write_bytes(gguf_bytes([MODEL], [tensor(WEIGHT, [32], Q8_0)], data.ljust(64, b"\0")))
    return path


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """By verb, what makes it derive or dequantize a block."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    a, b, weights = quant(tmp_path / "a.gguf", 3), quant(tmp_path / "b.gguf", 4), tmp_path / "weights.gguf"
    weights.write_bytes(gguf_bytes([MODEL], [tensor(WEIGHT, [32])], np.full(32, 3, "<f4").tobytes()))
    return {"audit": ["audit", str(a), "--source", str(weights), "--full"], "diff": ["diff", str(a), str(b)]}


def ended(arguments: list[str]) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("verb", ["audit", "diff"])
def test_a_library_of_ours_that_was_changed(tmp_path: Path, arguments: dict[str, list[str]], verb: str) -> None:
    folder = tmp_path / "cache" / "requant" / "toolchains" / PIN.name / "library" / "strict"
    folder.mkdir(parents=True)
    (folder / "libggml-base.so").write_bytes(b"changed")
    binaries = {"libggml-base.so": {"size": 4, "sha256": "0" * 64}}
    write_record(folder / "build.json", {"variant": "strict", "binaries": binaries})
    code, said = ended(arguments[verb])
    assert code == ExitCode.UNCHECKED
    assert said == (
        f"error: {folder / 'libggml-base.so'} is not the file that was built: remove {folder / 'build.json'} and run again"
    )


def test_a_mirror_with_other_bytes(
    tmp_path: Path, arguments: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused arithmetic is built from source; what ``diff`` needs lies in the package."""
    assert PIN.sdist is not None
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    name = f"{PIN.sdist.project.replace('-', '_')}-{PIN.sdist.version}.tar.gz"
    (mirror / name).write_bytes(b"other bytes")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(mirror))
    code, said = ended(arguments["audit"])
    assert code == ExitCode.UNCHECKED
    assert said.startswith(
        f"error: the index's {PIN.sdist.project}=={PIN.sdist.version} does not have the pinned SHA-256 "
    )
