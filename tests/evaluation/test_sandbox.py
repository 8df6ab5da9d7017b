"""requant.evaluation.behaviour.sandbox: attempts to stay, to take everything, and to pass without passing.

Those to get out are in ``test_jail``.
"""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import requant
from requant.evaluation.behaviour import jail, sandbox
from requant.evaluation.behaviour.sandbox import Result, run
from requant.ground.errors import UnsupportedError
from support.jails import BODY, attempt, jailed, wait_for

pytestmark = pytest.mark.usefixtures("jails")


def test_what_is_right_passes() -> None:
    result = run("def double(x):\n    print('hello')\n    return 2 * x", "assert double(2) == 4")
    assert result == Result(True, "the tests passed", "hello\n")


def test_the_usual_works() -> None:
    program = """
    from __future__ import annotations
    import collections, dataclasses, decimal, functools, hashlib, heapq, itertools, json, math, random, re, tempfile, unittest
    from multiprocessing.dummy import Pool
    @dataclasses.dataclass
    class Point:
        x: int = 1
        more: list[int] = dataclasses.field(default_factory=list)
    if __name__ == "__main__":
        raise SystemExit("a demonstration")
    """
    tests = """
assert Point(2).x == 2
import json, re, tempfile, threading
with tempfile.TemporaryFile() as file:
    file.write(b"x")
thread = threading.Thread(target=print)
thread.start()
thread.join()
assert re.sub("a", "b", "aa") == "bb"
"""
    result = run(textwrap.dedent(program), tests)
    assert result.passed, result


# Taking everything.


# What only the clock ends, and what may be its last words.
ENDLESS = [
    ("while True: pass", "it did not end within 1 seconds|signal 9"),
    ("time.sleep(1000)", "it did not end within 1 seconds"),
    ("import signal\nfor number in range(1, 64):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass", "it did not end within 1 seconds|signal 9"),
    ("while True:\n    try: os.fork()\n    except OSError: pass", "it did not end within 1 seconds"),
    ("while True: threading.Thread(target=time.sleep, args=(1000,)).start()", "can't start new thread|did not end"),
    ("sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "signal 11|MemoryError|RecursionError|did not end"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "words"), ENDLESS)
def test_the_clock_ends_it(program: str, words: str) -> None:
    begin = time.monotonic()
    result = run(BODY + program, "", seconds=1)
    assert not result.passed
    assert any(part in result.reason for part in words.split("|")), result.reason
    assert time.monotonic() - begin < 1 + sandbox.GRACE, "the keeper ended it, not we"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("data = bytearray(1 << 30)", "MemoryError"),
        ("data = []\nwhile True: data.append(bytearray(1 << 20))", "MemoryError"),
        ("data = 'x' * (1 << 40)", "MemoryError"),
        ("while True: print('x' * 1000)", "it wrote more than 65,536 bytes"),
        ("while True: os.write(2, b'x' * 1000)", "it wrote more than 65,536 bytes"),
        ("open('large', 'wb').write(bytes(1 << 24))", "File too large"),
        ("for index in range(9): open(str(index), 'wb').write(bytes(1 << 22))", "No space left on device"),
        ("for index in range(5000): open(str(index), 'w')", "No space left on device"),
        ("data = [os.open('/dev/null', 0) for _ in range(1000)]", "Too many open files"),
        ("input()", "EOFError"),
    ],
)
def test_greed_is_limited(program: str, words: str) -> None:
    result = run(BODY + program, "")
    assert not result.passed
    assert words in result.reason
    assert len(result.output) <= sandbox.OUTPUT


def test_few_processes_at_a_time() -> None:
    program = """
    made = 0
    try:
        while made < 100:
            if os.fork() == 0:
                time.sleep(100)
            made += 1
    except OSError:
        pass
    print(made)
    """
    result = attempt(program)
    assert 1 <= int(result.output) <= sandbox.PROCESSES, result


# Staying, and killing.


@pytest.mark.parametrize(
    "program",
    [
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)",
        "if os.fork() == 0:\n    os.setsid()\n    [os.close(number) for number in range(5)]\n    time.sleep(1000)",
        "if os.fork() == 0:\n    while True: os.fork() or os._exit(0)",
    ],
)
def test_daemons_end_with_the_program(program: str) -> None:
    begin = time.monotonic()
    attempt(program)
    assert time.monotonic() - begin < 8
    assert not wait_for(lambda: not jailed(), 3)


@pytest.mark.parametrize("line", ["os.kill(1, 9)", "os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "os.killpg(0, 9)"])
def test_nobody_outside_can_be_killed(line: str) -> None:
    result = attempt(f"try:\n    {line}\nexcept OSError:\n    pass", "assert False, 'the tests ran'")
    assert not result.passed
    assert "the tests ran" in result.reason or "signal 9" in result.reason


def test_everything_ends_with_the_caller() -> None:
    command = (
        "from pathlib import Path; from requant.evaluation.behaviour import sandbox\n"
        f"sandbox.JAIL = Path({str(sandbox.JAIL)!r})\n"
        f"sandbox.run({BODY + 'time.sleep(1000)'!r}, '', seconds=60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(requant.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-"], env=environment, stdin=subprocess.PIPE, text=True) as caller:
        assert caller.stdin is not None
        caller.stdin.write(command)
        caller.stdin.close()
        running = wait_for(lambda: any("ModuleType" in line for line in jailed()), 20)
        caller.kill()
    assert len(running) == 4, "launcher, builder, keeper and program"
    assert not wait_for(lambda: not jailed(), 5)


# Passing without passing.

CHEATS = {
    "end well": "sys.exit(0)",
    "end at once": "os._exit(0)",
    "end by exception": "raise SystemExit",
    "end later": "def f(): sys.exit(0)",
    "end later at once": "def f(): os._exit(0)",
    "replace exit": "sys.exit = os._exit = lambda *_: None",
    "replace assertions": "import builtins\nbuiltins.AssertionError = type('Quiet', (BaseException,), {})",
    "replace the compiler": "import builtins\nbuiltins.compile = builtins.exec = lambda *_: None",
    "replace what writes": "os.write = print\nos.read = lambda *_: b''",
    "catch all": "sys.excepthook = lambda *_: os._exit(0)",
    "at exit": "import atexit\natexit.register(os._exit, 0)",
    "close everything": "os.closerange(0, 100)",
    "guess": "os.write(4, b'0' * 32)\nos._exit(0)",
    "write much": "os.write(4, bytes(4096))",
    "claim": "print('the tests passed', flush=True)\nos.write(1, b'{\"passed\": true}\\n')",
    "be another module": "sys.modules['tests'] = sys.modules['answer'] = None",
    "replace comparison": "import builtins\nbuiltins.isinstance = builtins.type = lambda *_: True",
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(name: str) -> None:
    tests = "f() if 'f' in globals() else None\nassert type(1) is str, 'the tests ran'"
    result = run(BODY + CHEATS[name], tests, seconds=3)
    assert not result.passed, result


def test_the_tests_have_their_own_builtins() -> None:
    cheat = "import builtins\nbuiltins.len = builtins.abs = builtins.all = lambda *_: 7\ndef f(): return [1, 2]"
    assert run(cheat, "assert len(f()) == 2 and abs(-3) == 3 and all([])").passed


def test_the_token_is_new_each_time_and_nowhere_to_be_seen_before() -> None:
    program = """
    frame, seen = sys._getframe(), []
    while frame:
        seen += [repr(value) for value in [*frame.f_locals.values(), *frame.f_globals.values()]]
        frame = frame.f_back
    print(any('assert secret' in text for text in seen))
    """
    result = run(BODY + textwrap.dedent(program), "assert 'assert secret'")
    assert (result.passed, result.output) == (True, "False\n")


# The rest.


def test_reasons_are_one_printable_line() -> None:
    result = run("raise ValueError('\\x1b[2J' + 'x' * 1000 + '\\u202e')", "")
    assert result.reason.isprintable() and len(result.reason) <= 200
    assert run("x = '\ud800'", "").passed
    assert run("print('before')\nraise ValueError('why')", "").reason == "ValueError: why"
    assert run("raise KeyError", "").reason == "KeyError"
    assert run("x" * (sandbox.MAX_SOURCE + 1), "").reason == "the program has more than 1,048,576 characters"


def test_long_programs_and_tests() -> None:
    long = "x = 0\n" + "x += 1\n" * 100_000
    assert run(long, long + "assert x == 100_000").passed


def test_many_at_a_time() -> None:
    with ThreadPoolExecutor(8) as pool:
        results = [*pool.map(lambda number: run(f"x = {number}", f"assert x == {number}"), range(16))]
    assert all(result.passed for result in results), results


def test_where_there_is_no_isolation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is run; the jail is the real one, and only the system call that it needs is refused."""
    broken = tmp_path / "jail.py"
    text = Path(jail.__file__).read_text()
    broken.write_text(text.replace("libc.unshare(NEW_NAMESPACES)", "libc.unshare(1)"))
    monkeypatch.setattr(sandbox, "JAIL", broken)
    with pytest.raises(
        UnsupportedError, match=r"there is no new namespaces \(Invalid argument\): allow unprivileged user"
    ):
        run("print('run')", "")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsupportedError, match="on Linux"):
        run("", "")
