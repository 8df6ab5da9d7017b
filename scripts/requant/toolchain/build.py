"""Build llama.cpp from its proven source: the strict tools, and one backend library per variant."""

import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from requant import DATA
from requant.documents.records import THREADS, file_entry, read_record, write_record
from requant.ground.canonical import canonical
from requant.ground.digests import Digest, digest_file, named_when_whole, write_bytes
from requant.ground.disk import require_space
from requant.ground.errors import StaleError, ToolError
from requant.ground.programs import Run, WorkFolder, capture, work_folder
from requant.ground.progress import progress
from requant.toolchain.portable import check_portable, check_rounding
from requant.toolchain.variants import LANES, NO_TOOLS, PORTABLE, STRICT, Variant, variant

logger = logging.getLogger(__name__)
BUILD_SPACE = {"cpu": 300_000_000, "cuda": 2_000_000_000}
STEP = re.compile(r"^\[(\d+)/(\d+)\]")
DAMAGED = re.compile("file (?:format )?not recognized|file too short|file truncated")
"""What GNU ld says of an object file that was cut short."""
COMPILED = re.compile(r"\.(?:o|a|so(?:\.[0-9]+)*)$")
LIBRARY = "libggml-base.so"
FASTER = (DATA / "cmake" / "tools.cmake").resolve()
"""What makes compiling faster, and no byte of a product another."""
CCACHE = {"CCACHE_SLOPPINESS": "pch_defines,time_macros,include_file_mtime,include_file_ctime"}
"""llama.cpp compiles with ccache where there is one, which passes over precompiled headers without these."""


@dataclass(frozen=True)
class Built:
    """Built files in one folder, checked against the digests taken when they were built."""

    folder: Path
    files: Mapping[str, Digest]
    document: Mapping[str, Any]

    def link(self, work: WorkFolder) -> None:
        """Give the files of a backend their names in ``work``, from where tools load them."""
        for name in self.files:
            work.link(self.folder / name, name)

    def run(self, work: WorkFolder, command: Sequence[str], run: Run, **options: Any) -> int:
        """Run a recorded command in ``work``: the program from this folder, ``{threads}`` filled in.

        ``options`` and what is returned are those of ``WorkFolder.run``.
        """
        program = str((self.folder / command[0]).resolve())
        arguments = [part.replace(THREADS, str(run.threads)) for part in command[1:]]
        return work.run([program, *arguments], run.log, **options)


def build_tool(tree: Path, tool: str, folder: Path, commit: str, run: Run) -> None:
    """Build one llama.cpp program, strict, with its libraries into ``folder``; writes ``<tool>.json`` last."""
    chosen = variant(STRICT)
    with work_folder(folder.parent / "build", keep=True) as work:
        document = _make(work, tree, chosen, [tool], commit, run)
        built = work.path / "out" / "bin"
        names = [tool, *sorted(path.name for path in built.glob("lib*.so*") if not path.is_symlink())]
        sonames = [_soname(name) for name in names]
        _install(built, folder, dict(zip(names, sonames, strict=True)), document, folder / f"{tool}.json")


def build_backend(tree: Path, name: str, folder: Path, commit: str, run: Run) -> None:
    """Build the backend libraries of one variant into ``folder``; writes ``build.json`` last."""
    chosen = variant(name)
    with work_folder(folder / "build", keep=True) as work:
        targets = [f"ggml-{backend}" for backend in chosen.backends]
        document = _make(work, tree, chosen, targets, commit, run)
        names = {f"libggml-{backend}.so": f"libggml-{backend}.so" for backend in chosen.backends}
        _install(work.path / "out" / "bin", folder, names, document, folder / "build.json")


def build_library(tree: Path, name: str, folder: Path, commit: str, run: Run) -> None:
    """Build ``libggml-base`` alone, ``strict`` or ``fused``, into ``folder``; writes ``build.json`` last."""
    chosen = variant(name)
    # Without the tools nothing is looked for that only they need, such as libcurl by older commits.
    chosen = replace(chosen, definitions={**chosen.definitions, **NO_TOOLS})
    with work_folder(folder / "build") as work:
        document = _make(work, tree, chosen, ["ggml-base"], commit, run)
        _install(work.path / "out" / "bin", folder, {"libggml-base.so": LIBRARY}, document, folder / "build.json")


def missing_for(name: str) -> str | None:
    """What building a variant lacks on this machine, and what to do; ``None`` where it can be tried."""
    if sys.platform != "linux":
        return f"{name} is built on Linux only: use a machine or a container with it"
    try:
        find_compilers(variant(name))
    except ToolError as error:
        return str(error)
    if shutil.which("git") is None:
        return "no git is on the PATH, which proves llama.cpp's source: install it (Debian: apt install git)"
    return None


def open_built(record: Path) -> Built:
    """Read a build record and check that its files are still the ones that were built.

    Raises:
        StaleError: naming the file that was changed or removed, and how to build it again.
    """
    document = read_record(record)
    files = {name: Digest(**entry) for name, entry in document["binaries"].items()}
    for name, digest in files.items():
        path = record.parent / name
        if not path.exists() or digest_file(path) != digest:
            raise StaleError(f"{path} is not the file that was built: remove {record} and run again")
    return Built(record.parent, files, document)


def _make(
    work: WorkFolder, tree: Path, chosen: Variant, targets: Sequence[str], commit: str, run: Run
) -> dict[str, Any]:
    """Configure and build; return the build record without the binaries."""
    compilers = find_compilers(chosen)
    require_space(work.path, BUILD_SPACE["cuda" if chosen.architecture else "cpu"], f"building {chosen.name}")
    ninja = own_program("ninja")
    _configure(work, tree.resolve(), chosen, compilers, commit, run.log)
    _forget_emptied(work.path / "out")
    with progress(None, f"building {' '.join(targets)}", "files") as bar:

        def watch(line: str) -> None:
            if match := STEP.match(line):
                bar.total = int(match[2])
                bar.update(int(match[1]) - bar.n)

        command = [ninja, "-C", "out", f"-j{run.threads}", *targets]
        work.run(command, run.log, watch=watch, env=CCACHE, explain=_explain)
    if chosen.name == PORTABLE:
        check_portable(work.path / "out", ninja, compilers["c"])
    if chosen.name == LANES:
        check_rounding(work.path / "out", compilers["c"], chosen.name)
    return {
        "variant": chosen.name,
        "commit": commit,
        "definitions": dict(chosen.definitions),
        "flags": list(chosen.flags),
        "own_code": [file_entry(path.name, digest_file(path)) for path in chosen.sources],
        "compilers": {language: compiler_version(path, work.path) for language, path in compilers.items()},
    }


def _configure(
    work: WorkFolder, tree: Path, chosen: Variant, compilers: Mapping[str, str], commit: str, log: Path
) -> None:
    """Let CMake make the build folder ``out``; only what is the same on every machine stands in the build record."""
    # Assertions carry __FILE__: give it a name that is the same in every folder.
    prefix_map = f"-ffile-prefix-map={tree}=llama.cpp"
    flags = " ".join([*chosen.flags, shlex.quote(prefix_map)])
    definitions = {
        **chosen.definitions,
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "LLAMA_BUILD_COMMIT": commit[:12],
        "LLAMA_BUILD_NUMBER": "0",
        # ggml would ask git, which compares file times and would call the proven source "-dirty".
        "GIT_EXE": "OFF",
        "CMAKE_MAKE_PROGRAM": own_program("ninja"),
        "CMAKE_PROJECT_INCLUDE": str(FASTER),
    }
    if chosen.gcc:
        definitions |= {"CMAKE_C_COMPILER": compilers["c"], "CMAKE_CXX_COMPILER": compilers["c++"]}
    if chosen.own_code:
        definitions["LLAMA_CPP"] = str(tree)
    if chosen.architecture:
        host_flags = shlex.quote(f"-Xcompiler={prefix_map}")
        definitions |= {"CMAKE_CUDA_COMPILER": compilers["cuda"], "CMAKE_CUDA_FLAGS": host_flags}
    # --fresh keeps the objects and forgets the settings: in a kept folder CMake would hold on to the compiler it saw
    # first, and on another one drop every definition given here.
    configure = [own_program("cmake"), "--fresh", "-S", str(chosen.own_code or tree), "-B", "out", "-G", "Ninja"]
    configure += [f"-D{key}={value}" for key, value in definitions.items()]
    # The tools share a folder; what was configured in these words, by these compilers, need not be again.
    versions = {path: compiler_version(path, work.path) for path in compilers.values()}
    settings = canonical({"command": configure, "compilers": versions, "path": os.environ.get("PATH", "")})
    done = work.path / "configured.json"
    if done.exists() and done.read_bytes() == settings and (work.path / "out" / "build.ninja").exists():
        return
    logger.info("configuring llama.cpp, variant %s", chosen.name)
    done.unlink(missing_ok=True)
    work.run(configure, log, explain=_explain)
    write_bytes(done, settings)


def _forget_emptied(out: Path) -> None:
    """Let what a power cut emptied be compiled again.

    ninja goes by times, compilers flush nothing to the disk, and a linker takes an empty object for an empty script.
    """
    for path in out.rglob("*"):
        if (COMPILED.search(path.name) or path.parent.name == "bin") and path.is_file() and not path.stat().st_size:
            logger.warning("%s is empty, as after a power cut: it is compiled again", path)
            path.unlink()


def _install(built: Path, folder: Path, names: Mapping[str, str], document: dict[str, Any], record: Path) -> None:
    """Copy ``built/<key>`` to ``folder/<value>`` where it changed, then write the record."""
    binaries = {}
    for name, final in sorted(names.items()):
        digest = digest_file(built / name)
        target = folder / final
        if not target.exists() or digest_file(target) != digest:
            with named_when_whole(target) as temporary:
                shutil.copy2(built / name, temporary)
        binaries[final] = {"size": digest.size, "sha256": digest.sha256}
    write_record(record, {**document, "binaries": binaries})


def _soname(name: str) -> str:
    """The name that a library is looked for by.

    >>> _soname("libllama.so.0.5.0"), _soname("libggml-base.so"), _soname("llama-quantize")
    ('libllama.so.0', 'libggml-base.so', 'llama-quantize')
    """
    match = re.match(r"^(lib.+\.so\.\d+)(\.\d+)+$", name)
    return match[1] if match else name


def find_compilers(chosen: Variant) -> dict[str, str]:
    """Find the compilers that CMake will take.

    Raises:
        ToolError: saying which is missing and how to get it.
    """
    found = {}
    for language, variable, candidates in (
        ("c", "CC", ("cc", "gcc", "clang")),
        ("c++", "CXX", ("c++", "g++", "clang++")),
    ):
        choices = [os.environ[variable]] if os.environ.get(variable) else list(candidates)
        if chosen.gcc:
            choices = ["gcc" if language == "c" else "g++"]
        path = next(filter(None, map(shutil.which, choices)), None)
        if path is None:
            raise ToolError(
                f"no {language.upper()} compiler ({', '.join(choices)}) is on the PATH: install one "
                f"(Debian: apt install g++) or name it in {variable}"
            )
        found[language] = path
    if chosen.architecture:
        nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")
        if nvcc is None:
            raise ToolError(f"variant {chosen.name} needs nvcc 13: install the CUDA toolkit or name nvcc in CUDACXX")
        found["cuda"] = nvcc
    return found


def compiler_version(compiler: str, folder: Path) -> str:
    """The line of ``--version`` that names the version: nvcc's says "release", other compilers' is the first."""
    lines = capture([compiler, "--version"], folder).splitlines()
    return next((line for line in lines if ", release " in line), lines[0])


def own_program(name: str) -> str:
    """A program that the workflow environment brought along."""
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise ToolError(f"{name} is missing from the workflow environment: run make setup")
    return found


def _explain(said: str) -> str | None:
    if "No space left" in said:
        return "the disk is full: make room and run again, the build goes on where it stopped"
    if "Killed" in said:
        return "the compiler was killed, most likely for lack of memory: run again with fewer --cores"
    if DAMAGED.search(said):
        return (
            "an object file is damaged, as a power cut leaves them: remove the folder build of this variant below "
            "results/toolchains and run again"
        )
    return None
