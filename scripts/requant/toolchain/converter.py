"""Upstream's converter, asked what it would make of a checkpoint, without its weights.

It runs in its own environment, which needs torch and is installed on demand (``requant.toolchain.environments``). The
process sees the checkpoint's small files, the names and shapes of its tensors, and the values of small ones; it is
offline, has a home of its own, and its time and memory are limited: the files are strangers'.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from requant import DATA
from requant.formats.gguf import Header, read_header
from requant.formats.safetensors import StoredTensor
from requant.ground.errors import UnsupportedError
from requant.ground.locks import make_once
from requant.ground.programs import work_folder
from requant.ground.text import printable
from requant.toolchain.environments import build_converter, environment_python
from requant.toolchain.quantizers import toolchains

logger = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("asking")
LOCKS = DATA / "locks"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
LARGEST_ANSWER = 1 << 28


@dataclass(frozen=True)
class Said:
    """What upstream's converter would write.

    ``tensors``, ``arrays`` and ``scales`` are as ``asking.program`` writes them. ``header`` holds the metadata and no
    tensors; ``None`` where upstream cannot make them, and ``unknown`` says why.
    """

    tensors: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, np.ndarray[Any, Any]]
    scales: Mapping[str, Sequence[int]]
    header: Header | None
    unknown: str | None


def converter_python(build: bool) -> Path | None:
    """The interpreter of the converter's environment in the cache; ``None`` if there is none and none is to be built.

    Raises:
        SourceError, ToolError: when it cannot be built or does not work.
    """
    record = toolchains() / "converter" / "environment.json"
    if not (build or record.exists()):
        return None
    make_once(record, lambda: _build(record))
    return environment_python(record)


def _build(record: Path) -> None:
    logger.info("installing the environment of upstream's converter, once: about 300 MB of packages, torch among them")
    build_converter(LOCKS, record, record.parent / "logs" / "build_converter.log")


def ask_converter(
    python: Path,
    tree: Path,
    files: Mapping[str, bytes],
    tensors: Iterable[StoredTensor],
    values: Mapping[str, Any],
    mtp: bool = True,
    folder: str = "model",
) -> Said:
    """Ask the converter of ``tree``, a proven llama.cpp.

    Args:
        python: the interpreter of its environment.
        tree: where llama.cpp lies.
        files: the checkpoint's small files by name; none of them is run.
        tensors: what is stored.
        values: of small tensors by name, float32 in their own shapes.
        mtp: whether heads that predict further tokens are converted too, where upstream leaves a choice.
        folder: what the checkpoint's is called, of which the converter makes a name where the files have none.

    Raises:
        UnsupportedError: when it does not know the model, or cannot make anything of its files.
    """
    listed = list(tensors)
    numbers = {tensor.name: str(number) for number, tensor in enumerate(listed)}
    with TemporaryDirectory(prefix="requant-") as temporary, work_folder(Path(temporary) / "ask") as work:
        work.link(tree, "llama.cpp")
        work.link(PROGRAM, PROGRAM.name)
        for name, data in files.items():
            (work.path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (work.path / folder / name).write_bytes(data)
        request = {"tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in listed], "mtp": mtp}
        (work.path / "request.json").write_text(json.dumps(request), encoding="utf-8")
        np.savez(work.path / "values.npz", **{numbers[name]: each for name, each in values.items()})
        home = str(work.path.absolute())
        env = {**OFFLINE, "HOME": home, "HF_HOME": home, "TMPDIR": home}
        command = [str(python), "-m", f"{PROGRAM.name}.program", "llama.cpp", folder]
        work.run(command, work.path / "log", env=env, explain=_explain)
        return _read(work.path)


def _read(folder: Path) -> Said:
    answer, arrays = folder / "answer.json", folder / "answer.npz"
    if max(answer.stat().st_size, arrays.stat().st_size) > LARGEST_ANSWER:
        raise UnsupportedError("what upstream's converter says of this model is too long to be looked at")
    document = json.loads(answer.read_text(encoding="utf-8"))
    with np.load(arrays, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    unknown = document["unknown"]
    header = None if unknown is not None else read_header(folder / "header.gguf", "upstream's header")
    return Said(document["tensors"], found, document["scales"], header, unknown)


def _explain(said: str) -> str | None:
    """Raise what the last words of the program mean."""
    if found := re.findall(r"Architecture '([^']{1,64})' not supported", said):
        name = printable(found[-1])
        raise UnsupportedError(f"the pinned llama.cpp does not convert a {name}: give --toolchain a newer one")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it took too long")
    raise UnsupportedError(f"upstream's converter can say nothing of this model: {printable(last[:200])}")
