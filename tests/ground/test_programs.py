"""requant.ground.programs with real processes: a fixed world, a lock that outlives a killed run, and failures in one sentence."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import requant
from requant.ground.errors import ToolError
from requant.ground.programs import capture, clean_environment, work_folder

PRINT_WORLD = (
    "import json, os; print(json.dumps(sorted(os.environ))); print(os.getcwd()); print(os.environ.get('LC_ALL'))"
)
LIBRARY = str(Path(requant.__file__).parents[1])


def test_tools_see_a_fixed_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_SECRET_SWITCH", "1")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1/")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1")
    output = tmp_path / "log"
    with work_folder(tmp_path / "work") as work:
        work.run([sys.executable, "-c", PRINT_WORLD], output, env={"GIVEN": "1"})
    names, folder, locale = output.read_text().splitlines()
    assert set(eval(names)) <= {*clean_environment({"GIVEN": "1"}), "LC_CTYPE"}
    assert "GIVEN" in names
    assert not any(name in names for name in ("SECRET", "PYTHONPATH", "LD_PRELOAD", "PIP_", "PROXY"))
    assert Path(folder) == tmp_path / "work"
    assert locale == "C.UTF-8"


def test_the_network_needs_more_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1/")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1")
    assert {"PIP_INDEX_URL", "https_proxy"} <= clean_environment({}, network=True).keys()
    assert not {"PIP_INDEX_URL", "https_proxy"} & clean_environment({}).keys()


def test_the_folder_is_empty_before_and_gone_after(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "work"
    (path / "old").mkdir(parents=True)
    with work_folder(path) as work:
        assert list(work.path.iterdir()) == []
        (work.path / "new").write_text("x")
    assert not path.exists()


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "kept"])
def test_the_folder_after_an_error(tmp_path: Path, *, keep: bool) -> None:
    def fail() -> None:
        with work_folder(tmp_path / "work", keep=keep) as work:
            (work.path / "half").write_text("x")
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "work" / "half").exists() == keep


def test_links_have_fixed_names(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("x")
    with work_folder(tmp_path / "work") as work:
        work.link(tmp_path / "weights", "model/model.gguf")
        work.run(["cat", "model/model.gguf"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "x\n"
    assert (tmp_path / "weights").exists()


def test_lines_as_they_come(tmp_path: Path) -> None:
    """Progress bars end their lines in a carriage return; bytes that are no text do not stop anything."""
    lines: list[str] = []

    def watch(line: str) -> bool:
        lines.append(line)
        return line.endswith("%")

    with work_folder(tmp_path / "work") as work:
        work.run(["printf", r"one\n10%%\r20%%\r\n\n\377two"], tmp_path / "log", watch=watch)
        work.run(["printf", "three"], tmp_path / "log")
    assert lines == ["one", "10%", "20%", "\ufffdtwo"]
    assert (tmp_path / "log").read_text() == "one\n\ufffdtwo\nthree\n", "the log is appended to, without progress"


def test_a_line_is_seen_before_the_tool_ends(tmp_path: Path) -> None:
    """And a watcher that raises stops the tool: it is dead when the error comes out."""
    processes: list[int] = []

    def watch(line: str) -> None:
        processes.append(int(line))
        raise ToolError("not finite")

    begin = time.monotonic()
    with pytest.raises(ToolError, match="not finite"), work_folder(tmp_path / "work") as work:
        work.run(["sh", "-c", "echo $$; exec sleep 30"], tmp_path / "log", watch=watch)
    assert time.monotonic() - begin < 10
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)


def test_a_tool_reads_no_input(tmp_path: Path) -> None:
    with work_folder(tmp_path / "work") as work:
        work.run(["cat"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == ""


FAILURES = {
    "a status": (["sh", "-c", "echo said; exit 7"], "sh ended with status 7: said; its log is "),
    "an illegal instruction": (
        ["sh", "-c", "kill -ILL $$"],
        "sh or a library of its was built for another processor: ",
    ),
    "a signal": (["sh", "-c", "kill -9 $$"], "sh ended with status -9; its log is "),
    "a missing program": (
        ["/absent/llama-quantize"],
        "/absent/llama-quantize cannot be started (No such file or directory): install it or build it again",
    ),
    "no program": (["/etc/passwd"], "/etc/passwd cannot be started (Permission denied): install it or build it again"),
}


@pytest.mark.parametrize(("command", "words"), FAILURES.values(), ids=list(FAILURES))
def test_failures(tmp_path: Path, command: list[str], words: str) -> None:
    with pytest.raises(ToolError) as error, work_folder(tmp_path / "work") as work:
        work.run(command, tmp_path / "log")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_a_failure_explained(tmp_path: Path) -> None:
    """Only the last lines are looked at, so a log of gigabytes costs no memory."""
    seen: list[str] = []

    def explain(said: str) -> str | None:
        seen.append(said)
        return "the disk is full: make room" if "No space" in said else None

    script = "for i in $(seq 100); do echo line $i; done; echo No space left; exit 1"
    with pytest.raises(ToolError, match=r"^the disk is full: make room$"), work_folder(tmp_path / "work") as work:
        work.run(["sh", "-c", script], tmp_path / "log", explain=explain)
    assert len(seen[0].splitlines()) == 40
    assert len((tmp_path / "log").read_text().splitlines()) == 101


def test_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN", "1")
    assert (
        capture(["sh", "-c", 'echo " $HIDDEN$GIVEN"; pwd; echo noise >&2'], tmp_path, {"GIVEN": "2"})
        == f" 2\n{tmp_path}"
    )
    with pytest.raises(ToolError, match=r"^sh -c echo one >&2; echo two >&2; false failed: two$"):
        capture(["sh", "-c", "echo one >&2; echo two >&2; false"], tmp_path)
    with pytest.raises(ToolError, match=r"^false failed: no output$"):
        capture(["false"], tmp_path)
    with pytest.raises(ToolError, match=r"^absent cannot be started \(No such file or directory\): install it$"):
        capture(["absent"], tmp_path)


# ---- the lock

HOLD = """
import sys
from pathlib import Path
from requant.ground.programs import work_folder
with work_folder(Path(sys.argv[1])) as work:
    work.run(["sh", "-c", "echo started > started; exec sleep 1.5"], Path(sys.argv[1] + ".log"))
"""


def is_locked(path: Path) -> bool:
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_rerun_waits_for_the_orphan_of_a_killed_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "work"
    environment = {**os.environ, "PYTHONPATH": LIBRARY}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], env=environment) as first:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (path / "started").exists():
            time.sleep(0.01)
        began = time.monotonic()
        first.send_signal(signal.SIGKILL)
    assert is_locked(tmp_path / ".work.lock"), "the run is dead, its tool is not"
    with caplog.at_level("INFO"), work_folder(path) as work:
        waited = time.monotonic() - began
        assert list(work.path.iterdir()) == [], "what the orphan left is gone"
    assert waited > 0.5
    assert f"waiting for another run that still works at {path}" in caplog.text
    assert not path.exists()
    assert not is_locked(tmp_path / ".work.lock")


def test_the_peak_memory_of_a_tool(tmp_path: Path) -> None:
    def peak(size: int) -> int:
        with work_folder(tmp_path / "work") as work:
            return work.run([sys.executable, "-c", f"x = bytearray({size}); print(len(x))"], tmp_path / "log")

    assert 190 << 20 < peak(200 << 20) - peak(1) < 210 << 20
