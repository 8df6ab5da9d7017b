"""What only some recipes need, hash-locked and installed on demand.

The upstream converter and the evaluation harness have environments of their own. What reads data sets is imported
into the workflow's, from a folder of packages that lies beside it.

torch is the difficulty: on x86-64 Linux the package index offers builds that import only with
gigabytes of CUDA libraries. A CPU build is taken where pip finds one (``PIP_FIND_LINKS``,
``PIP_EXTRA_INDEX_URL``); else the ordinary build and what it needs are installed, and it is said.
"""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requant.documents.records import file_entry, read_record, write_record
from requant.ground.digests import digest_file, sync_all
from requant.ground.disk import require_space
from requant.ground.errors import SourceError, StaleError, ToolError
from requant.ground.programs import WorkFolder, capture, clean_environment, work_folder

logger = logging.getLogger(__name__)
ROOM = 2_500_000_000
ROOM_CUDA = 9_000_000_000
ROOM_HARNESS = 800_000_000
ROOM_DATASETS = 300_000_000
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
IMPORTS = "import torch, transformers, sentencepiece, gguf; transformers.AutoConfig, transformers.AutoTokenizer"
PROBE = ["-c", f"{IMPORTS}; print(torch.__version__)"]
# The trial keeps what it compiles, which halves the start of every conversion. Conversions themselves keep nothing:
# they would write into the proven source tree.
KEEP_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
PROBE_HARNESS = ["-c", "import evalscope; print(evalscope.__version__)"]
PACKAGES = "packages"
PROBE_DATASETS = ["-c", f"import sys; sys.path.insert(0, {PACKAGES!r}); import datasets; print(datasets.__version__)"]
PYTHON = sys.implementation.cache_tag
"""What compiled modules are made for, such as cpython-311."""


def build_harness(lock: Path, record: Path, log: Path) -> None:
    """Install EvalScope's lock into a virtual environment beside ``record``, and try it.

    Raises:
        SourceError: when a package cannot be had or has other bytes.
        ToolError: when the environment does not work.
    """
    folder = record.parent / "environment"
    require_space(folder, ROOM_HARNESS, "the evaluation harness")
    with _empty_environment(folder, log) as work:
        _install(work, _python(folder), lock, log)
        version = capture([str(_python(folder)), *PROBE_HARNESS], work.path)
    sync_all()
    write_record(record, {"version": version, "lock": file_entry(lock.name, digest_file(lock))})


def build_converter(locks: Path, record: Path, log: Path) -> None:
    """Install the locks in the folder ``locks`` into a virtual environment beside ``record``, and try it.

    Raises:
        SourceError: when a package cannot be had or has other bytes.
        ToolError: when the environment does not work.
    """
    folder = record.parent / "environment"
    require_space(folder, ROOM, "the converter's environment")
    with _empty_environment(folder, log) as work:
        _install(work, _python(folder), locks / "converter.lock", log)
        try:
            _install(work, _python(folder), locks / "torch-cpu.lock", log)
        except SourceError:
            require_space(folder, ROOM_CUDA, "torch with its CUDA libraries")
            logger.warning(
                "no known CPU build of torch was found; installing the ordinary one, on Linux with "
                "about 3 GB of CUDA libraries (to avoid that: PIP_EXTRA_INDEX_URL=%s with Python 3.11)", CPU_INDEX,
            )  # fmt: skip
            _install(work, _python(folder), locks / "torch.lock", log)
        version = capture([str(_python(folder)), *PROBE], work.path, KEEP_COMPILED)
    sync_all()
    lock = locks / "converter.lock"
    python = ".".join(map(str, sys.version_info[:3]))
    write_record(record, {"torch": version, "python": python, "lock": file_entry(lock.name, digest_file(lock))})


def build_datasets(lock: Path, record: Path, log: Path) -> None:
    """Install the lock of ``datasets`` into a folder of packages beside ``record``, for this interpreter, and try it.

    Raises:
        SourceError: when a package cannot be had or has other bytes.
        ToolError: when the packages do not work.
    """
    require_space(record.parent, ROOM_DATASETS, "what reads data sets")
    with work_folder(record.parent / "install") as work:
        shutil.rmtree(record.parent / PACKAGES, ignore_errors=True)
        _install(work, Path(sys.executable), lock, log, PACKAGES)
        version = capture([sys.executable, *PROBE_DATASETS], work.path, KEEP_COMPILED)
        (work.path / PACKAGES).rename(record.parent / PACKAGES)
    sync_all()
    write_record(record, {"version": version, "python": PYTHON, "lock": file_entry(lock.name, digest_file(lock))})


def add_packages(record: Path) -> None:
    """Let this process import the packages beside ``record``, after all that its own environment has.

    Raises:
        StaleError: when they were made for another Python, whose compiled modules this one cannot load.
        ToolError: when they were moved or removed.
    """
    made_for = read_record(record)["python"]
    if made_for != PYTHON:
        raise StaleError(f"{record} was made for {made_for}, this is {PYTHON}: remove it and run again")
    folder = record.absolute().parent / PACKAGES
    if not folder.is_dir():
        raise ToolError(f"{folder} is missing: remove {record} and run again")
    sys.path.append(str(folder))


def environment_python(record: Path) -> Path:
    """The interpreter of the environment beside ``record``.

    Raises:
        ToolError: when the environment was moved or removed.
    """
    python = _python(record.parent / "environment")
    if not python.exists():
        raise ToolError(f"{python} is missing: remove {record} and run again")
    return python


@contextmanager
def _empty_environment(folder: Path, log: Path) -> Iterator[WorkFolder]:
    with work_folder(folder.parent / "install") as work:
        shutil.rmtree(folder, ignore_errors=True)
        work.run([sys.executable, "-m", "venv", str(folder.resolve())], log)
        yield work


def _python(folder: Path) -> Path:
    # Not resolved: the interpreter finds its environment by this very path.
    return folder.absolute() / "bin" / "python"


def _install(work: WorkFolder, python: Path, lock: Path, log: Path, into: str | None = None) -> None:
    command = [str(python), "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-compile"]
    env = clean_environment({}, network=True)
    if into is not None:
        command += ["--target", into]
        # Where pip puts the packages together before; on this disk there is room for them.
        env["TMPDIR"] = str(work.path.absolute())

    def explain(said: str) -> str:  # noqa: ARG001 - the same sentence whatever pip said
        raise SourceError(f"{lock.name} cannot be installed, see {log}: check the network, or set PIP_INDEX_URL")

    work.run([*command, "-r", str(lock.resolve())], log, env=env, explain=explain)
