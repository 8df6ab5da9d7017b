"""requant.evaluation.behaviour.jail: the walls around a program, and every way out of them that was thought of."""

import ast
import json
import os
import shutil
import socket
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from requant.evaluation.behaviour.sandbox import Result, run
from support.checkout import ROOT
from support.jails import BODY, attempt

pytestmark = pytest.mark.usefixtures("jails")

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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a Python that everybody can read")
def test_an_ordinary_user(bait: dict[str, object]) -> None:
    """The walls stand for a user without any rights too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        rooms = (
            "ground/errors.py",
            "ground/text.py",
            "evaluation/behaviour/sandbox.py",
            "evaluation/behaviour/jail.py",
        )
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
