"""The program that builds the walls of ``sandbox``, which starts it as a process of its own.

It needs the standard library only, and is run as ``python -I -S jail.py REPORT`` with an order as JSON on standard
input. Four processes take part:

- the *launcher* stays outside, and gives the next one its user and group map;
- the *builder* enters new user, mount, process, network, IPC, host name and cgroup namespaces, and waits;
- the *keeper* is process 1 in there: it builds a root folder that holds Python and an empty ``/tmp``, gives up every
  capability, starts the program and watches the clock. When it ends, the kernel ends all others in there;
- the *program* is a fresh Python (``RUNNER``) with limits: the model's code first, then the tests.

The keeper writes one JSON object to the descriptor REPORT: ``{"error": text}`` where the walls cannot be built,
``{"late": true}``, or ``{"passed": bool, "status": how the program ended}``.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import resource
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

# From the kernel's headers; the same on all processors.
NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXECUTE = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
DETACH = 2
SET_DEATH_SIGNAL, SET_DUMPABLE, DROP_BOUNDING, SET_SECUREBITS, NO_NEW_PRIVILEGES = 1, 4, 24, 28, 38
# No capabilities for user 0, none kept over a change of user, no ambient ones: all locked.
SECUREBITS = 1 | 2 | 32 | 64 | 128
CAPABILITY_VERSION = 0x20080522
NOBODY = 65534
FIRST_FREE = 10
"""Descriptors below are the program's."""
DEVICES = ("null", "zero", "random", "urandom")
ENVIRONMENT = {"PATH": "/nowhere", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}  # noqa: S108

# What the model's code could replace is taken before it runs. The tests, and then the token, come through the pipe only
# when they are needed, so that no variable holds them before.
RUNNER = """
import builtins, os, sys, types
def main(read=os.read, write=os.write, leave=os._exit, compile=compile, exec=exec, number=int.from_bytes,
         len=len, min=min):
    plain = dict(vars(builtins))
    def part():
        size, data = number(read(3, 8), "big"), b""
        while len(data) < size:
            data += read(3, min(size - len(data), 65536))
        return data
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    scope = vars(module)
    exec(compile(part(), "answer.py", "exec", 0, True, 0), scope)
    tests = {**scope, "__name__": "tests", "__builtins__": plain}
    exec(compile(part(), "tests.py", "exec", 0, True, 0), tests)
    write(4, part())
    leave(0)
main()
"""

libc = ctypes.CDLL(None, use_errno=True)


class WallError(Exception):
    """A wall cannot be built; the text says which."""


def main() -> None:
    """Read the order, build the walls, run the program, and wait for its end."""
    # Out of the way of the descriptors that the program gets, and closed in it.
    report = fcntl.fcntl(int(sys.argv[1]), fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(int(sys.argv[1]))
    os.umask(0o022)
    order = json.load(sys.stdin)
    _call(libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "the death signal")
    try:
        _launch(order, report)
    except (WallError, OSError) as error:
        _report(report, {"error": str(error)})


def _launch(order: Mapping[str, Any], report: int) -> None:
    entered, inside = os.pipe()
    mapped, outside = os.pipe()
    builder = os.fork()
    if builder == 0:
        os.close(entered)
        os.close(outside)
        _guarded(report, lambda: _build(order, report, inside, mapped))
    os.close(inside)
    os.close(mapped)
    # End of file: the builder could not enter, and has reported why.
    if os.read(entered, 1):
        _map_users(builder)
        os.write(outside, b"1")
    os.waitpid(builder, 0)


def _map_users(pid: int) -> None:
    """User 0 in there is who called. For root there is also a user 1, who is nobody outside and runs the program.

    The kernel exempts root from the limit on processes.
    """
    folder, uid, gid = Path(f"/proc/{pid}"), os.getuid(), os.getgid()
    more = f"\n1 {NOBODY} 1" if uid == 0 else ""
    try:
        if uid:
            (folder / "setgroups").write_text("deny")
        (folder / "uid_map").write_text(f"0 {uid} 1{more}")
        (folder / "gid_map").write_text(f"0 {gid} 1{more}")
    except OSError as error:
        raise WallError(f"users cannot be mapped ({error.strerror})") from error


def _build(order: Mapping[str, Any], report: int, inside: int, mapped: int) -> None:
    runs_as = 1 if os.getuid() == 0 else 0
    _call(libc.unshare(NEW_NAMESPACES), "new namespaces")
    _call(libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "the death signal")
    os.write(inside, b"1")
    if not os.read(mapped, 1):
        return
    os.close(inside)
    keeper = os.fork()
    if keeper == 0:
        _guarded(report, lambda: _keep(order, report, runs_as))
    os.waitpid(keeper, 0)


def _keep(order: Mapping[str, Any], report: int, runs_as: int) -> None:
    """Process 1: build, run, watch."""

    def late(*_: object) -> NoReturn:
        _report(report, {"late": True})
        os._exit(0)

    # Signals without a handler do not reach process 1.
    signal.signal(signal.SIGALRM, late)
    signal.alarm(order["seconds"])
    # Best first for the kernel to end when memory runs out. Where these files are read-only, the walls stand without.
    for path, text in (("/proc/self/oom_score_adj", "1000"), ("/proc/sys/user/max_user_namespaces", "0"),
                       ("/proc/sys/kernel/shmmni", "0"), ("/proc/sys/fs/mqueue/queues_max", "0")):  # fmt: skip
        with contextlib.suppress(OSError):
            Path(path).write_text(text)
    _make_root(order["shown"], order["folder_size"], runs_as)
    _give_up_rights(runs_as)
    token = secrets.token_hex(16).encode()
    feed, given = os.pipe()
    result, said = os.pipe()
    program = os.fork()
    if program == 0:
        _guarded(report, lambda: _start(order, feed, said))
    os.close(feed)
    os.close(said)
    with contextlib.suppress(OSError):
        for part in (order["program"].encode(errors="replace"), order["tests"].encode(errors="replace"), token):
            _write_all(given, len(part).to_bytes(8, "big") + part)
    while True:
        pid, status = os.wait()
        if pid == program:
            break
    os.set_blocking(result, False)
    with contextlib.suppress(BlockingIOError):
        _report(report, {"passed": os.read(result, 4096) == token, "status": os.waitstatus_to_exitcode(status)})
        return
    # Its children still hold the pipe.
    _report(report, {"passed": False, "status": os.waitstatus_to_exitcode(status)})


def _make_root(shown: Sequence[str], size: int, owner: int) -> None:
    """Make a root of which only ``shown``, read-only, and an empty ``/tmp`` of ``size`` bytes are seen."""
    _call(libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None), "private mounts")
    _mount_tmpfs("/tmp", 1 << 16, 0o755, 0)  # noqa: S108 - any folder that exists
    os.chdir("/tmp")  # noqa: S108
    Path("old").mkdir(0o700)
    _call(libc.pivot_root(b".", b"old"), "a new root folder")
    os.chdir("/")
    for path in shown:
        _show(path)
    Path("/dev").mkdir(0o755)
    for name in DEVICES:
        Path("/dev", name).touch()
        _call(libc.mount(f"/old/dev/{name}".encode(), f"/dev/{name}".encode(), None, BIND, None), f"/dev/{name}")
    _call(libc.umount2(b"/old", DETACH), "the old root folder")
    Path("/old").rmdir()
    Path("/tmp").mkdir()  # noqa: S108
    flags = REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES
    _mount_tmpfs("/tmp", size, 0o700, owner)  # noqa: S108
    _call(libc.mount(None, b"/", None, flags, None), "a read-only root")
    os.chdir("/tmp")  # noqa: S108


def _show(path: str) -> None:
    """Show a file or folder of the old root at the same place, read-only; a link is made again."""
    source, target = Path(f"/old{path}"), Path(path)
    if target.exists() or not (source.is_symlink() or source.exists()):
        return
    target.parent.mkdir(0o755, parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(0o755)
    else:
        target.touch()
    _call(libc.mount(os.fsencode(source), os.fsencode(target), None, BIND | RECURSIVE, None), path)
    mounts = Path("/old/proc/self/mountinfo").read_bytes().splitlines()
    for line in mounts:
        # Spaces are written as octal numbers.
        place = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]))
        if place == path or place.startswith(f"{path}/"):
            # What was forbidden outside cannot be allowed in here, so it must be asked for again.
            locked = os.statvfs(place).f_flag & NO_EXECUTE
            flags = REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES | locked
            _call(libc.mount(None, os.fsencode(place), None, flags, None), f"{place} read-only")


def _mount_tmpfs(place: str, size: int, mode: int, owner: int) -> None:
    options = f"size={size},nr_inodes=1024,mode={mode:o},uid={owner},gid={owner}".encode()
    _call(libc.mount(b"tmpfs", place.encode(), b"tmpfs", NO_SETUID | NO_DEVICES, options), "an empty folder")


def _give_up_rights(user: int) -> None:
    """Become ``user`` without any capability, for ever. The death signal is asked for last: all this resets it."""
    _call(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
    for capability in range(64):
        if libc.prctl(DROP_BOUNDING, capability, 0, 0, 0):
            break
    _call(libc.prctl(SET_SECUREBITS, SECUREBITS, 0, 0, 0), "locked privileges")
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    _call(libc.capset(header, none), "no capabilities")
    _call(libc.prctl(SET_DUMPABLE, 0, 0, 0, 0), "a closed memory")
    _call(libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "the death signal")


def _start(order: Mapping[str, Any], feed: int, said: int) -> None:
    """Become the program: descriptors 0 to 4 and no others, limits, a clean environment."""
    # Copies above all that are wanted, so that none is overwritten before it is copied. All others close by themselves.
    feed, said = (fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for one in (feed, said))
    for target, source in ((0, os.open("/dev/null", os.O_RDONLY)), (3, feed), (4, said)):
        os.dup2(source, target)
    os.setsid()
    for name, limit in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Unbuffered, so that what was printed stands before the exception that ended it.
    os.execve(order["python"], [order["python"], "-s", "-S", "-P", "-B", "-u", "-c", RUNNER], ENVIRONMENT)  # noqa: S606


def _guarded(report: int, work: Callable[[], None]) -> NoReturn:
    """Do a child's work; whatever happens, never return into what its parent was doing."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - it is reported, and the process ends here
        _report(report, {"error": str(error) or type(error).__name__})
    finally:
        os._exit(0)


def _report(report: int, found: Mapping[str, Any]) -> None:
    os.write(report, json.dumps(found).encode() + b"\n")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _call(result: int, what: str) -> None:
    if result:
        raise WallError(f"no {what.removeprefix('no ')} ({os.strerror(ctypes.get_errno())})")


if __name__ == "__main__":
    main()
