"""requant.release.service without llama.cpp: what is served, what is refused, and a server that never gets ready."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.documents.file_names import MANIFEST, SUMS
from requant.documents.pins import TABLE, read_pins
from requant.documents.records import write_record
from requant.ground.digests import digest_file
from requant.ground.errors import FormatError, MismatchError, PlaceError, ToolError
from requant.ground.exit_codes import ExitCode
from requant.pipeline import layout
from requant.release.service import LONGEST_UNASKED, build_command, check_model, serve_model
from requant.toolchain.serving import SERVER
from support.command import run
from support.gguf_files import gguf_bytes, pair, string, tensor
from support.manifests import STRANGE
from support.served import ended, started
from support.small_release import IMATRIX, QUANT, resum

[TOOLCHAIN, *_] = read_pins(TABLE, "the pin table").toolchains.values()


def test_a_release_is_checked_by_both_its_papers(release: Path) -> None:
    model = check_model(release)
    assert (model.file, model.name) == (release / QUANT, QUANT.removesuffix(".gguf"))
    assert (
        f"SHA-256 {digest_file(release / QUANT).sha256}, as {SUMS} and {MANIFEST} beside it say" in model.sentences[0]
    )
    assert (model.context, model.toolchain) == (4096, TOOLCHAIN)
    assert check_model(release / QUANT, 512).context == 512


def without(name: str) -> Callable[[Path], None]:
    return lambda release: (release / name).unlink()


def spoiled(name: str) -> Callable[[Path], None]:
    def spoil(release: Path) -> None:
        data = (release / name).read_bytes()
        (release / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return spoil


def strange(text: str) -> Callable[[Path], None]:
    def change(release: Path) -> None:
        (release / SUMS).unlink()
        (release / MANIFEST).write_text(text)

    return change


def strange_and_summed(release: Path) -> None:
    (release / MANIFEST).write_text(STRANGE["of a schema"])
    resum(release)


PAPERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "without sums": (without(SUMS), f"as {MANIFEST} beside it says"),
    "without a manifest": (without(MANIFEST), f"as {SUMS} beside it says"),
    **{
        f"with somebody else's manifest, {how}": (strange(text), "named by no paper here")
        for how, text in STRANGE.items()
    },
    "with somebody else's manifest in the sums": (strange_and_summed, f"as {SUMS} beside it says"),
}


@pytest.mark.parametrize(("change", "said"), PAPERS.values(), ids=PAPERS)
def test_what_its_papers_say_of_it(release: Path, change: Callable[[Path], None], said: str) -> None:
    change(release)
    assert check_model(release).sentences[0].endswith(said)


def two_models(release: Path) -> None:
    shutil.copyfile(release / QUANT, release / "other.gguf")


def only_a_matrix(release: Path) -> None:
    (release / QUANT).unlink()


def lost_part(release: Path) -> None:
    (release / QUANT).rename(release / "model-00001-of-00002.gguf")


def strange_manifest(release: Path) -> None:
    (release / MANIFEST).write_text(STRANGE["of an app"])


REFUSED: dict[str, tuple[Callable[[Path], None], str, type[Exception], str]] = {
    "other bytes": (spoiled(QUANT), ".", MismatchError, f"{QUANT} has SHA-256 .*, {SUMS} says .*: get the file again"),
    "other bytes by the manifest": (lambda r: (without(SUMS)(r), spoiled(QUANT)(r))[0], ".", MismatchError, f"{MANIFEST} says"),
    "another manifest": (spoiled(MANIFEST), ".", FormatError, MANIFEST),
    "a manifest of other bytes": (strange_manifest, ".", MismatchError, f"{MANIFEST} has SHA-256 .*, {SUMS} says"),
    "two models": (two_models, ".", PlaceError, r"holds 2 models \(Tiny-.*, other.gguf\): name one, such as "),
    "no model": (only_a_matrix, ".", PlaceError, "holds no GGUF of a model"),
    "an importance matrix": (lambda _: None, IMATRIX, FormatError, "is no language model by its general.type"),
    "another file": (lambda _: None, "README.md", FormatError, "is not a GGUF file"),
    "nothing": (lambda _: None, "nothing.gguf", PlaceError, "does not exist: name the folder of a release, or a GGUF"),
    "a lost part": (lost_part, "model-00001-of-00002.gguf", FormatError, "model-00001-of-00002.gguf"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "named", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(
    release: Path, change: Callable[[Path], None], named: str, error: type[Exception], words: str
) -> None:
    change(release)
    with pytest.raises(error, match=words):
        check_model(release / named)


@pytest.mark.parametrize(("length", "context"), [(2048, 2048), (1 << 20, LONGEST_UNASKED), (0, LONGEST_UNASKED)])
def test_the_context_of_a_file_without_a_card(tmp_path: Path, length: int, context: int) -> None:
    keys = [
        pair("general.architecture", 8, string("qwen3")),
        pair("qwen3.context_length", 4, length.to_bytes(4, "little")),
    ]
    (tmp_path / "my model.gguf").write_bytes(gguf_bytes(keys, [tensor("token_embd.weight", [8, 4])], bytes(128)))
    model = check_model(tmp_path / "my model.gguf")
    assert (model.context, model.name) == (context, "my-model")


# The server.


def test_where_it_is_not_built(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("requant.release.service.ROOT", tmp_path)
    with pytest.raises(ToolError, match=f"is not built: type this .*{build_command(TOOLCHAIN.name)}$"):
        serve_model(release, None, 0, print)


def build(folder: Path, script: str) -> None:
    """Put a program in llama-server's place."""
    tool, backend = (
        folder / path for path in (layout.tool(TOOLCHAIN.name, SERVER), layout.backend(TOOLCHAIN.name, "native"))
    )
    for record, name, said in ((tool, SERVER, {}), (backend, "libggml-cpu.so", {"variant": "native"})):
        record.parent.mkdir(parents=True)
        program = record.with_name(name)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        digest = digest_file(program)
        write_record(record, {"commit": TOOLCHAIN.commit, "binaries": {name: vars(digest)}, **said})


def test_a_server_that_ends_says_why(release: Path, tmp_path: Path) -> None:
    build(
        tmp_path, 'echo "error loading model: no such tensor"; echo "main: exiting due to model loading error"; exit 1'
    )
    code, out, err = run("serve", release, "--port", "0", cwd=tmp_path)
    assert (code, out) == (ExitCode.UNCHECKED, "")
    assert "llama-server ended before it served anything: error loading model: no such tensor; its log is " in err
    log = Path(err.rpartition("its log is ")[2].strip())
    assert "exiting due to" in log.read_text()
    shutil.rmtree(log.parent)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_while_it_loads_it_is_interrupted(release: Path, tmp_path: Path, number: int) -> None:
    build(
        tmp_path,
        f'echo $$ > {shlex.quote(str(tmp_path / "pid"))}; exec {shlex.quote(sys.executable)} -c "import time; time.sleep(60)"',
    )
    (tmp_path / "temporary").mkdir()
    with started("serve", release, "--port", "0", cwd=tmp_path, temporary=tmp_path / "temporary") as process:
        while not (tmp_path / "pid").exists() or not (pid := (tmp_path / "pid").read_text().strip()):
            time.sleep(0.01)
            assert process.poll() is None, process.communicate()[0]
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (ExitCode.INTERRUPTED, "interrupted\n")
    assert ended(int(pid))
    assert [*(tmp_path / "temporary").iterdir()] == []
