"""Prove that a built portable backend computes with nothing that differs between machines.

What is checked, and why it suffices, stands in ``docs/portable.md``.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from requant.ground.errors import ToolError
from requant.ground.programs import capture

# Every C library gives these the same result: IEEE 754 operations, exact operations, and log2 of a number of heads,
# of which ggml takes the whole part.
EXACT = frozenset(
    name + suffix
    for name in ("ceil", "fabs", "floor", "fmax", "fmin", "ldexp", "rint", "round", "sqrt", "trunc")
    for suffix in ("", "f")
) | {"log2"}
# What has nothing to do with numbers: memory, text, files, threads and the start of a program.
OTHER = re.compile(
    r"_Z|__cxa_|__gxx_|__gmon_|_Unwind_|_ITM_|pthread_|sched_|__sched_|mem|str|f(open|close|gets|printf|write|flush)$|"
    r"(__fdelt|__getauxval|__isoc99_|__once_proxy|__tls_get_addr|__stack_chk_fail|__errno_location|__assert_fail)|"
    r"(get|set)(cpu|env|priority)|(v?snprintf|printf|puts|stat|syscall|sysconf|usleep|nanosleep|clock_gettime)|"
    r"(abort|exit|atexit|ato[il]|free|malloc|calloc|posix_memalign|isspace|stderr|stdout|qsort|raise|signal|syslog)"
)
VECTOR_HEADER = re.compile(r"/(\w*intrin|arm_\w+|altivec|riscv_vector)\.h$")
FUSED = re.compile(r"\t(v?fn?m(?:add|sub)\w*|fml[as]\w*)\b")


def check_portable(out: Path, ninja: str, compiler: str) -> None:
    """Check the objects and the library of a portable build in the folder ``out``.

    Args:
        out: CMake's folder.
        ninja: the program that built it, which knows the headers of every object.
        compiler: the C compiler, which knows its own ``nm`` and ``objdump``.

    Raises:
        ToolError: naming what was found: a function whose result depends on the C library, vector code written by
            hand, an instruction that rounds once where ggml's source says twice, or a function of ours that replaces
            none of ggml's.
    """
    out = out.resolve()
    nm, objdump = _binary_tools(compiler, out, "nm", "objdump")
    objects = sorted(out.rglob("ggml-cpu.dir/**/*.o"))
    base = _symbols(nm, "--dynamic", "--defined-only", out / "bin" / "libggml-base.so")
    wanted = _symbols(nm, "--dynamic", "--undefined-only", out / "bin" / "libggml-cpu.so") - base
    _refuse("calls", sorted(name for name in wanted - EXACT if not OTHER.match(name)))
    _refuse("includes", sorted(_vector_headers(capture([ninja, "-t", "deps"], out))))
    _refuse("contracts with", _contractions(objdump, objects))
    replaceable = {name for path in objects for name in _symbols(nm, "--extern-only", "--defined-only", path)}
    [dispatch] = (path for path in out.rglob("dispatch.c.o"))
    _refuse("lacks", sorted(_symbols(nm, "--extern-only", "--defined-only", dispatch) - replaceable))


def check_rounding(out: Path, compiler: str, name: str) -> None:
    """Check that nothing of the variant ``name`` rounds once where its source says twice; as ``check_portable``.

    Raises:
        ToolError: naming the instruction.
    """
    [objdump] = _binary_tools(compiler, out.resolve(), "objdump")
    if found := ", ".join(_contractions(objdump, sorted(out.resolve().rglob("*.o")))):
        raise ToolError(f"the build of {name} contracts with {found}: use another compiler, or do without {name}")


def _binary_tools(compiler: str, folder: Path, *names: str) -> list[str]:
    return [capture([compiler, f"-print-prog-name={name}"], folder) for name in names]


def _contractions(objdump: str, objects: Sequence[Path]) -> list[str]:
    """The first contracting instruction of each object that has one."""
    command = [objdump, "--disassemble", "--no-show-raw-insn"]
    said = ((path.name, capture([*command, str(path)], Path("/"))) for path in objects)
    return [f"{match[1]} in {name}" for name, text in said if (match := FUSED.search(text))]


def _refuse(verb: str, found: Iterable[str]) -> None:
    if names := ", ".join(found):
        raise ToolError(
            f"the portable backend {verb} {names}, so its results may differ between machines: use another llama.cpp "
            "or another compiler, or calibrate with native"
        )


def _symbols(nm: str, *arguments: str | Path) -> set[str]:
    lines = capture([nm, "--format=posix", *map(str, arguments)], Path("/")).splitlines()
    return {line.split()[0].split("@")[0] for line in lines}


def _vector_headers(dependencies: str) -> set[str]:
    """The headers of hand-written vector code that the objects of ggml's backend include, from ``ninja -t deps``."""
    found, ours = set(), False
    for line in dependencies.splitlines():
        if line and not line.startswith(" "):
            ours = "/ggml-cpu.dir/" in line
        elif ours and VECTOR_HEADER.search(line):
            found.add(Path(line.strip()).name)
    return found
