"""requant diff --quantize, with stand-ins for llama-quantize; tests/e2e/test_compare.py has the real one."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from requant.cli.main import main
from requant.documents.records import write_record
from requant.ground.digests import digest_file
from support.gguf_files import gguf_bytes, tensor, write_imatrix

WEIGHTS = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight")
# These take the importance matrix itself, or the model, for the quant; $1 to $5 are what the real tool gets.
COPY = '#!/bin/sh\ntest "$1 $3" = "--imatrix model.gguf" && cp "$2" "$4" && echo "[ 1/ 1] $5"\n'
OTHER_TENSORS = '#!/bin/sh\ntest -e A.gguf && cp model.gguf "$4" || cp "$2" "$4"\n'
FAIL = "#!/bin/sh\necho llama_model_quantize: failed to quantize: it is odd\necho bye\nexit 1\n"


def imatrix(path: Path, first: float = 2) -> Path:
    entries = {}
    for name in WEIGHTS:
        entries |= {f"{name}.in_sum2": np.array([first, 1, 3], np.float32), f"{name}.counts": np.ones(1, np.float32)}
        first = 2
    return write_imatrix(path, entries)


def build(folder: Path, script: str = COPY, **changes: Any) -> Path:
    """Write a program and its build record."""
    folder.mkdir(exist_ok=True)
    program = folder / "llama-quantize"
    program.write_text(script)
    program.chmod(0o755)
    digest = digest_file(program)
    binaries = {program.name: {"size": digest.size, "sha256": digest.sha256}}
    record = folder / "llama-quantize.json"
    write_record(record, {"variant": "strict", "commit": "0" * 40, "binaries": binaries, **changes})
    return record


def quantized_model(path: Path) -> None:
    """A model whose second weight is one block of Q8_0: 32 numbers in 34 bytes."""
    infos = [tensor(WEIGHTS[0], [8]), tensor(WEIGHTS[1], [32], 8, 32)]
    path.write_bytes(gguf_bytes((), infos, bytes(96)))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that a comparison needs, and the folder ``here`` to run it in."""
    imatrix(tmp_path / "a.gguf")
    build(tmp_path / "bin")
    # What is in the tensors does not matter to the stand-ins.
    write_imatrix(tmp_path / "model.gguf", {name: np.ones(4, np.float32) for name in WEIGHTS})
    (tmp_path / "here 这里").mkdir()
    monkeypatch.chdir(tmp_path / "here 这里")
    return tmp_path


def run(files: Path, b: str = "a.gguf", kind: str = "Q4_K_M") -> Result:
    record = files / "bin" / "llama-quantize.json"
    options = ["--quantize", files / "model.gguf", "--type", kind, "--tool", record, "--json", files / "report.json"]
    return CliRunner().invoke(main, ["diff", *map(str, (files / "a.gguf", files / b, *options))])


def test_bytes_that_differ_are_counted(files: Path) -> None:
    # As float32, 2.0 and 258.0 differ in two bytes.
    imatrix(files / "b.gguf", 258)
    done = run(files, "b.gguf")
    assert done.exit_code == 1, done.stderr
    quant = json.loads((files / "report.json").read_bytes())["imatrix"]["quant"]
    assert (quant["model"], quant["type"], quant["commit"]) == ("model.gguf", "Q4_K_M", "0" * 40)
    assert [
        (row["name"], row["type"], row["differing"], row["bytes"]) for row in (*quant["tensors"], quant["total"])
    ] == [
        (f"{WEIGHTS[0]}.in_sum2", "F32", 2, 12),
        (f"{WEIGHTS[0]}.counts", "F32", 0, 4),
        (f"{WEIGHTS[1]}.in_sum2", "F32", 0, 12),
        (f"{WEIGHTS[1]}.counts", "F32", 0, 4),
        ("total", "Q4_K_M", 2, 32),
    ]
    head, first, *_, total = done.stdout.split("\n\n")[1].splitlines()
    assert head.startswith("model.gguf as Q4_K_M ")
    assert first.split() == [f"{WEIGHTS[0]}.in_sum2", "F32", "2", "12", "16.7", "%"]
    assert total.split() == ["total", "Q4_K_M", "2", "32", "6.25", "%"]


def test_equal_files_make_equal_quants_and_nothing_is_left(files: Path) -> None:
    done = run(files)
    assert done.exit_code == 0
    assert done.stdout.split("\n\n")[1].splitlines()[-1].split() == ["total", "Q4_K_M", "0", "32", "0", "%"]
    assert not [*Path.cwd().iterdir()]


ANOTHER_RECORD = "--tool: {tool} is not the build record of a strict llama-quantize: name results/toolchains/"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no model": (
        lambda files: (files / "model.gguf").unlink(),
        "--quantize: {files}/model.gguf cannot be read (No such file or directory): check the path",
    ),
    "another model": (
        lambda files: write_imatrix(files / "model.gguf", {WEIGHTS[0]: np.ones(4, np.float32)}),
        f"--quantize: model.gguf has no tensor {WEIGHTS[1]!r}, which A and B measured: name the model they come from",
    ),
    "quantized model": (
        lambda files: quantized_model(files / "model.gguf"),
        f"--quantize: model.gguf holds {WEIGHTS[1]!r} as Q8_0, it is quantized: name the BF16 GGUF",
    ),
    "no record": (
        lambda files: (files / "bin" / "llama-quantize.json").unlink(),
        "--tool: {tool} cannot be read (No such file or directory): check the path",
    ),
    "no JSON": (
        lambda files: (files / "bin" / "llama-quantize.json").write_text("{"),
        ANOTHER_RECORD,
    ),
    "another variant": (
        lambda files: build(files / "bin", variant="native"),
        ANOTHER_RECORD,
    ),
    "another program": (
        lambda files: build(files / "bin", binaries={"llama-imatrix": {"size": 0, "sha256": ""}}),
        ANOTHER_RECORD,
    ),
}
FAILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "failure": (
        lambda files: build(files / "bin", FAIL),
        "llama-quantize failed (llama_model_quantize: failed to quantize: it is odd): check --quantize and --type",
    ),
    "silent failure": (
        lambda files: build(files / "bin", "#!/bin/sh\nexit 3\n"),
        "llama-quantize failed (it said nothing): check --quantize and --type",
    ),
    "full disk": (
        lambda files: build(files / "bin", "#!/bin/sh\necho No space left on device\nexit 1\n"),
        "llama-quantize could not write its output: the disk is full, make room and run again",
    ),
    "other tensors": (
        lambda files: build(files / "bin", OTHER_TENSORS),
        "llama-quantize gave the two quants other tensors or types: their bytes cannot be compared",
    ),
}


@pytest.mark.parametrize(
    ("change", "sentence", "code"),
    [(*case, code) for cases, code in ((BAD, 2), (FAILED, 3)) for case in cases.values()],
    ids=[*BAD, *FAILED],
)
def test_what_cannot_be_quantized(files: Path, change: Callable[[Path], object], sentence: str, code: int) -> None:
    change(files)
    done = run(files)
    assert done.exit_code == code
    assert_one_error(
        done, sentence.replace("{tool}", f"{files}/bin/llama-quantize.json").replace("{files}", str(files))
    )
    assert not [*Path.cwd().iterdir()]
    assert not (files / "report.json").exists()


def test_a_changed_program_is_not_run(files: Path) -> None:
    (files / "bin" / "llama-quantize").write_text("#!/bin/sh\n")
    done = run(files)
    assert done.exit_code == 3
    assert_one_error(done, f"{files}/bin/llama-quantize is not the file that was built: remove ")


def test_an_unknown_type_is_named(files: Path) -> None:
    done = run(files, kind="q4_k_m")
    assert done.exit_code == 2
    assert_one_error(done, "--type 'q4_k_m' is not a quantization type; write one of Q2_K, ")
    assert done.stderr.endswith(" (did you mean Q4_K_M?)\n")


def test_room_is_looked_for_first(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    build(files / "bin", FAIL)
    done = run(files)
    assert done.exit_code == 3
    assert_one_error(done, "a pair of Q4_K_M files needs 67.1 MB on the disk of ")


def test_a_folder_that_cannot_be_written(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/proc"))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1 << 40))
    done = run(files)
    assert done.exit_code == 3
    assert_one_error(done, "/proc cannot be written (")


def assert_one_error(done: Result, sentence: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [error[: len(sentence) + 7] for error in errors] == [f"error: {sentence}"]
    assert "Traceback" not in done.stderr
