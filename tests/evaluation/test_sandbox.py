"""requant.evaluation.behaviour.sandbox: attempts to get out, to stay, to take everything, and to pass without passing."""

import ast
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import requant
from requant.evaluation.behaviour import jail, sandbox
from requant.evaluation.behaviour.sandbox import Result, require_isolation, run
from requant.ground.errors import UnsupportedError
from support.checkout import ROOT

MARK = f"requant-jail-{os.getpid()}"
BODY = "import ctypes, os, socket, subprocess, sys, threading, time\n"


@pytest.fixture(scope="module", autouse=True)
def isolation() -> None:
    try:
        require_isolation()
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def nothing_stays(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When all is over, none of our processes is left. The jail gets a name of its own: others may run jails too."""
    real = sandbox.JAIL
    sandbox.JAIL = tmp_path_factory.mktemp(MARK) / "jail.py"
    sandbox.JAIL.write_text(real.read_text().replace('RUNNER = """\n', f'RUNNER = """\n# {MARK}\n'))
    yield
    assert not wait_for(lambda: not jailed(), 20)
    sandbox.JAIL = real


def jailed() -> set[str]:
    """Those of our processes that are in a jail, or build one: their ids and command lines."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            line = path.read_text(errors="replace")
            if MARK in line and path.parent.name != str(os.getpid()):
                found.add(f"{path.parent.name} {line}")
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> set[str]:
    """Wait until the condition holds, and give what is in a jail then."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return jailed()


def attempt(program: str, tests: str = "", seconds: int = 3) -> Result:
    return run(BODY + textwrap.dedent(program), tests, seconds=seconds)


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


# Getting out.

FORBIDDEN = {
    "read the project": "open({root!r} + '/README.md')",
    "list the project": "os.listdir({root!r})",
    "read the home folder": "os.listdir({home!r} + '/.ssh')",
    "read passwords": "open('/etc/passwd')",
    "read processes": "open('/proc/self/environ')",
    "read kernel settings": "os.listdir('/sys')",
    "climb": "open('/tmp/../../../..' + {root!r} + '/README.md')",
    "write outside": "open('/written', 'w')",
    "write beside the library": "open(os.path.dirname(os.__file__) + '/written.py', 'w')",
    "write to the system": "open('/usr/lib/written', 'w')",
    "make a folder in the root": "os.mkdir('/made')",
    "make a device": "os.mknod('/tmp/sda', 0o60660, os.makedev(8, 0))",
    "connect to this machine": "socket.create_connection(('127.0.0.1', {port}), 1)",
    "connect by IPv6": "socket.create_connection(('::1', {port}), 1)",
    "connect to the world": "socket.create_connection(('192.0.2.1', 80), 1)",
    "resolve a name": "socket.getaddrinfo('example.org', 80)",
    "speak raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "speak UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + {abstract!r})",
    "run a shell": "subprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "become root": "os.setuid({other})",
    "change the root": "os.chroot('/tmp')",
    "mount": "die(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None))",
    "make the library writable": "die(libc.mount(None, b'/usr/lib', None, 0x1020, None))",
    "unmount": "die(libc.umount2(b'/usr/lib', 2))",
    "new namespaces": "die(libc.unshare(0x10000000 | 0x00020000))",
    "a namespace for the network": "die(libc.unshare(0x40000000))",
    "trace the keeper": "die(libc.ptrace(16, 1, None, None))",
    "read the keeper": "die(libc.process_vm_readv(1, vector, 1, vector, 1, 0))",
    "seize the keeper": "die(libc.ptrace(0x4206, 1, None, None))",
    "name the machine": "socket.sethostname('mine')",
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "more rights": "__import__('resource').setrlimit(7, (4096, 4096))",
    "a higher priority": "os.nice(-5)",
}  # fmt: skip
NOBODY = 65534
AS_USER = """
import dataclasses, json, sys
from requant.evaluation.behaviour.sandbox import run
found = {name: dataclasses.astuple(run(program, "")) for name, program in json.load(sys.stdin).items()}
print(json.dumps(found))
"""
DIE = """
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(room), 8)
def die(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


@pytest.fixture(scope="module")
def bait() -> Iterator[dict[str, object]]:
    """What would be there to be had: open ports, a home folder."""
    abstract = f"requant-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{abstract}")
        local.listen()
        yield {
            "root": str(ROOT),
            "home": str(Path.home()),
            "port": server.getsockname()[1],
            "abstract": abstract,
            "other": 0 if os.getuid() == 0 else os.getuid(),
        }


def forbidden(name: str, bait: dict[str, object]) -> str:
    return (
        BODY
        + DIE
        + f"try:\n    {FORBIDDEN[name].format(**bait)}\nexcept OSError as error:\n    print('REFUSED', error)"
    )


def is_refused(result: Result) -> bool:
    return "REFUSED" in result.output or (not result.passed and "Error" in result.reason)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_there_is_no_way_out(name: str, bait: dict[str, object]) -> None:
    result = run(forbidden(name, bait), "")
    assert is_refused(result), result
    assert not Path("/written").exists() and not Path("/made").exists()


def test_what_is_seen() -> None:
    program = """
    print(sorted(os.listdir('/')), os.listdir('/tmp'), os.getcwd(), sorted(os.listdir('/dev')), sorted(os.environ))
    print(os.getpid(), os.getppid(), [number for number in range(256) if is_open(number)])
    with open('/tmp/mine', 'w') as file:
        file.write('x')
    """
    define = "def is_open(number):\n    try:\n        return bool(os.fstat(number))\n    except OSError:\n        return False\n"
    result = run(BODY + define + textwrap.dedent(program), "")
    first, second = result.output.splitlines()
    assert first.endswith("['null', 'random', 'urandom', 'zero'] ['HOME', 'LANG', 'PATH', 'PYTHONHASHSEED', 'TMPDIR']")
    assert " [] /tmp " in first
    assert not any(f"'{name}'" in first for name in ("old", "etc", "proc", "sys", "run", "var", "work"))
    assert second == "2 1 [0, 1, 2, 3, 4]"


def test_all_but_tmp_is_read_only() -> None:
    """The flags of the mounts, since root's programs run as nobody, who could not write to most of it anyway."""
    program = """
    def flags(path):
        return os.statvfs(path).f_flag & (os.ST_RDONLY | os.ST_NOSUID | 4)
    print({path: flags(path) for path in ('/', '/usr/lib', os.path.dirname(os.__file__), os.path.realpath(sys.executable))})
    print(flags('/tmp'))
    """
    seen, tmp = attempt(program).output.splitlines()
    assert {*ast.literal_eval(seen).values()} == {7}, "read-only, no set-user-id programs, no devices"
    assert tmp == "6"


def test_rights_are_gone() -> None:
    program = """
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(header, data) == 0
    print([*data], ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), os.getgroups() if os.getuid() else '')
    """
    result = attempt(program)
    assert result.output.startswith("[0, 0, 0, 0, 0, 0] 1"), result


def test_runs_do_not_meet() -> None:
    assert attempt("open('/tmp/left', 'w').write('x')").passed
    assert attempt("assert not os.listdir('/tmp')").passed


# Taking everything.


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("while True: pass", "it did not end within 2 seconds|signal 9"),
        ("time.sleep(1000)", "it did not end within 2 seconds"),
        ("import signal\nfor number in range(1, 64):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass", "it did not end within 2 seconds|signal 9"),
        ("while True:\n    try: os.fork()\n    except OSError: pass", "it did not end within 2 seconds"),
        ("while True: threading.Thread(target=time.sleep, args=(1000,)).start()", "can't start new thread|did not end"),
        ("data = bytearray(1 << 30)", "MemoryError"),
        ("data = []\nwhile True: data.append(bytearray(1 << 20))", "MemoryError"),
        ("data = 'x' * (1 << 40)", "MemoryError"),
        ("while True: print('x' * 1000)", "it wrote more than 65,536 bytes"),
        ("while True: os.write(2, b'x' * 1000)", "it wrote more than 65,536 bytes"),
        ("open('large', 'wb').write(bytes(1 << 24))", "File too large"),
        ("for index in range(9): open(str(index), 'wb').write(bytes(1 << 22))", "No space left on device"),
        ("for index in range(5000): open(str(index), 'w')", "No space left on device"),
        ("data = [os.open('/dev/null', 0) for _ in range(1000)]", "Too many open files"),
        ("sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "signal 11|MemoryError|RecursionError|did not end"),
        ("input()", "EOFError"),
    ],
)  # fmt: skip
def test_greed_is_limited(program: str, words: str) -> None:
    begin = time.monotonic()
    result = run(BODY + program, "", seconds=2)
    assert not result.passed
    assert any(part in result.reason for part in words.split("|")), result.reason
    assert len(result.output) <= sandbox.OUTPUT
    assert time.monotonic() - begin < 8


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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a Python that everybody can read")
def test_an_ordinary_user(bait: dict[str, object]) -> None:
    """The walls stand for a user without any rights too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        rooms = ("ground/errors.py", "evaluation/behaviour/sandbox.py", "evaluation/behaviour/jail.py")
        for path in ("__init__.py", *rooms):
            (folder / "requant" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "scripts" / "requant" / path, folder / "requant" / path)
        (folder / "mine").touch()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.chown(path, NOBODY, NOBODY)
        own = {**bait, "root": str(folder), "other": NOBODY + 1}
        attempts = {name: forbidden(name, own) for name in FORBIDDEN}
        attempts |= {
            "passes": "",
            "reads its own": f"open({str(folder / 'mine')!r})",
            "sees the old root": "import os; os.listdir('/old')",
        }
        question = json.dumps(attempts)
        done = subprocess.run(
            ["/usr/bin/python3", "-B", "-c", AS_USER],
            env={"PYTHONPATH": name},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            input=question,
            capture_output=True,
            text=True,
            check=False,
        )
    results = {name: Result(*found) for name, found in json.loads(done.stdout).items()}
    assert results.pop("passes").passed
    assert [name for name, result in results.items() if not is_refused(result)] == []
