"""Shell completion, in a real bash at a terminal: what people are told to type is typed, and then Tab."""

import os
import pty
import subprocess
import threading
from pathlib import Path

import pytest

from requant.cli.main import GROUPS
from support.command import installed, run

SETUP = 'eval "$(requant completion bash)"'
PROMPT = "what next? "
TO_THE_START, TO_THE_END, AWAY = "\x01", "\x05", "\x15"


def terminal(tmp_path: Path, *keys: str) -> str:
    """What a bash says in which this is typed, once it reads keys one by one."""
    environment, folder = installed(tmp_path / "bin"), tmp_path / "folder"
    folder.mkdir()
    (folder / "release").mkdir()
    (folder / "model-Q4_K_M.gguf").touch()
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        env={**environment, "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": "", "PS1": PROMPT}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    limit = threading.Timer(60, shell.kill)
    limit.start()
    until(ours, PROMPT)
    os.write(ours, f"{SETUP}\n".encode())
    until(ours, PROMPT)
    os.write(ours, f"{''.join(keys)}\nexit\n".encode())
    said = until(ours, None)
    os.close(ours)
    shell.wait()
    limit.cancel()
    return said


def until(descriptor: int, words: str | None) -> str:
    """Read until it says ``words``, or to the end."""
    said = b""
    while words is None or words.encode() not in said:
        try:
            said += os.read(descriptor, 1 << 16)
        except OSError:
            # How Linux says that the other side has closed.
            assert words is None, said
            break
    return said.decode(errors="replace")


COMPLETED = {
    "requant ver": "requant verify",
    "requant diff mod": "requant diff model-Q4_K_M.gguf",
    "requant verify rel": "requant verify release/",
    "requant audit mod": "requant audit model-Q4_K_M.gguf",
    "requant diff --qu": "requant diff --quantize",
    "requant attest --method s": "requant attest --method sigstore",
    "requant sho": "requant sho",
}


@pytest.mark.parametrize("typed", COMPLETED)
def test_a_line_is_completed(tmp_path: Path, typed: str) -> None:
    said = terminal(tmp_path, typed, "\t", TO_THE_START, "echo completed: ", TO_THE_END)
    assert f"\ncompleted: {COMPLETED[typed]}\r\n" in said, said


def test_all_verbs_are_offered(tmp_path: Path) -> None:
    said = terminal(tmp_path, "requant ", "\t\t", AWAY)
    verbs = [str(verb.name) for verbs in GROUPS.values() for verb in verbs]
    assert {*verbs} <= {*said.split()}, said
    assert "show" not in said and "compare" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert f"_REQUANT_COMPLETE={shell}_complete" in out
