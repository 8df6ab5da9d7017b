"""Every command of the card that starts a server or talks to one, typed as it stands there; others as far as can be here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.cards import blocks, halves, render
from support.checkout import TOOLCHAINS
from support.command import installed
from support.hub import LoopbackHub
from support.served import BRIEF, free_port, gone, running, serving, wait_until_healthy
from support.workplace import QUANT, TOOLCHAIN, Workplace

BUILT = TOOLCHAINS / TOOLCHAIN
SHOWN_PORT = "http://127.0.0.1:8080"
RECORDER = """#!/bin/sh
echo "${0##*/} $*" >> "$RECORD"
"""


@pytest.fixture(scope="module")
def card(demo: Workplace) -> str:
    manifest = json.loads((demo.release / "manifest.json").read_text())
    return render(manifest)


@pytest.fixture
def download(demo: Workplace, tmp_path: Path) -> Path:
    """A folder that holds what the card's download leaves, beside an inference backend for llama.cpp's programs."""
    folder = tmp_path / demo.results.name
    folder.mkdir()
    for path in (demo.release / QUANT, demo.release / "SHA256SUMS", BUILT / "native" / "libggml-cpu.so"):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With the pinned llama.cpp on the PATH, and programs that note how they were called in place of others."""
    known = installed(tmp_path / "bin")
    for name in ("ollama", "lms"):
        (tmp_path / "bin" / name).write_text(RECORDER)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{BUILT / 'strict' / 'bin'}:{known['PATH']}"
    return {**known, "PATH": path, "RECORD": str(tmp_path / "record"), "HF_HOME": str(tmp_path / "home"), BRIEF: "16"}


def section(card: str, *headings: str) -> list[str]:
    """The blocks under a heading, which both languages have alike but for the question."""
    chinese, english = (blocks(half, heading) for half, heading in zip(halves(card), headings, strict=True))
    assert len(chinese) == len(english) > 0
    assert [re.sub('"content": ".*"', "", block) for block in chinese] == [
        re.sub('"content": ".*"', "", block) for block in english
    ]
    return english


def asking(card: str) -> Iterator[str]:
    """Every question that it puts, in both languages."""
    for half in halves(card):
        yield from (
            block for block in re.findall(r"^```bash\n(.*?)^```", half, re.MULTILINE | re.DOTALL) if "curl" in block
        )


def test_it_is_checked_served_and_asked(card: str, download: Path, environment: dict[str, str]) -> None:
    [_, check, serve, _] = section(card, "本地运行", "Run it locally")
    port = free_port()
    script = f"{check}exec {serve.rstrip()} --port {port} > served.log 2>&1"
    questions = [*asking(card)]
    assert len(questions) == 4 and sum("enable_thinking" in question for question in questions) == 2
    with running(["bash", "-ec", script], download.parent, environment) as process:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        with ThreadPoolExecutor(4) as pool:
            typed = [question.replace(SHOWN_PORT, f"http://127.0.0.1:{port}") for question in questions]
            said = [*pool.map(lambda block: subprocess.check_output(["bash", "-ec", block], text=True), typed)]
    assert all(json.loads(each)["choices"][0]["message"]["content"] for each in said)


def test_llama_cpp_fetches_it_by_itself(
    card: str, download: Path, environment: dict[str, str], hub: LoopbackHub
) -> None:
    """And would not under the name that releases once had. llama-cli takes the same options, and is not built here."""
    fetched = section(card, "其他运行方式", "Other ways to run it")[0]
    command, other = fetched.replace("\\\n", "").splitlines()
    options = re.search(r"-hf (\S+):Q4_K_M", command)
    assert options is not None and other == f"llama-cli {options[0]}"
    hub.add_model(options[1], download)
    known, port = {**environment, "HF_ENDPOINT": hub.url}, free_port()
    typed = f"exec {command} --port {port} > served.log 2>&1"
    with running(["bash", "-ec", typed], download, known) as process:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
    (download / QUANT).rename(download / QUANT.replace(".gguf", "-imatrix.gguf"))
    hub.add_model("some/Once-GGUF", download)
    nameless = f"llama-server -hf some/Once-GGUF:Q4_K_M --port {port}"
    done = subprocess.run(
        ["bash", "-ec", nameless], cwd=download, env=known, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and "no GGUF files found" in done.stdout + done.stderr


def test_requant_serves_it(card: str, download: Path, demo: Workplace, tmp_path: Path) -> None:
    [command] = section(card, "其他运行方式", "Other ways to run it")[1].splitlines()
    assert command == '.venv/bin/requant serve "$RELEASE"'
    with serving(download, cwd=demo.folder, temporary=tmp_path) as service:
        assert "as SHA256SUMS beside it says" in service.fact("checked")
        assert service.end(signal.SIGINT) == (0, "stopped\n")
        assert gone(service.url, 0)


def test_ollama_and_lm_studio(card: str, download: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Neither is here; what they are told is looked at."""
    _, _, ollama, studio = section(card, "其他运行方式", "Other ways to run it")
    subprocess.run(["bash", "-ec", ollama], cwd=download.parent, env=environment, check=True)
    subprocess.run(["bash", "-ec", studio], cwd=download.parent, env=environment, check=True)
    source, context = (line.split(None, 1) for line in (tmp_path / "Modelfile").read_text().splitlines())
    assert source[0] == "FROM" and (tmp_path / source[1]).samefile(download / QUANT)
    assert (download.parent / download.name / QUANT).is_file()
    assert context == ["PARAMETER", "num_ctx 1024"]
    name = download.name
    calls = [f"ollama create {name} -f Modelfile", f"ollama run {name}", f"lms import --copy {name}/{QUANT}"]
    assert (tmp_path / "record").read_text().splitlines() == calls
