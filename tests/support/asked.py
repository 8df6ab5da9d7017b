"""Small models of many architectures made, converted and quantized by upstream's own tools, and then altered."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from requant.audit.upstream import Upstream, ask
from requant.conversion.layout import plan, read_config
from requant.conversion.sources import ROPE_TOLERANCE, Layout
from requant.conversion.weights import CheckpointWeights, Weights
from requant.formats.ggml import row_bytes
from requant.formats.gguf import read_header
from requant.formats.safetensors import read_checkpoint
from requant.places.place import LocalPlace
from support.architectures import CASES
from support.checkout import TOOLCHAINS
from support.hollow import TOOL
from support.workplace import TOOLCHAIN

PROGRAM = Path(__file__).with_name("random_models.py")
TREE = TOOLCHAINS / TOOLCHAIN / "source"
IMATRIX, PORTABLE = TOOL.with_name("llama-imatrix"), TOOLCHAINS / TOOLCHAIN / "portable" / "libggml-cpu.so"


@dataclass(frozen=True)
class Made:
    """A checkpoint and its quant, and the matrix that this was made with, if any.

    ``refused`` is what upstream's converter or llama-quantize says instead.
    """

    folder: Path
    quant: Path
    matrix: Path | None = None
    refused: str | None = None


def make(place: Path, python: Path, names: Iterable[str]) -> dict[str, Made]:
    """Make models of ``architectures.CASES`` in ``place``; ``python`` is the converter's."""
    folders = {name: place / name.replace(" ", "-").replace(",", "") for name in names}
    request = {"models": {str(folder): CASES[name].as_json() for name, folder in folders.items()}, "tree": str(TREE)}
    (place / "models.json").write_text(json.dumps(request))
    env = {**os.environ, "PYTHONPATH": f"{TREE}:{TREE / 'gguf-py'}", "HF_HUB_OFFLINE": "1", "HOME": str(place),
           "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}  # fmt: skip
    done = subprocess.run([python, PROGRAM, place / "models.json"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: quantized(folder, CASES[name].types, CASES[name].weighed) for name, folder in folders.items()}


def quantized(folder: Path, types: str, weighed: bool) -> Made:
    """Quantize the GGUF beside a checkpoint, if there is one, with a matrix that is measured on it if need be."""
    quant, error = Path(f"{folder}-{types}.gguf"), Path(f"{folder}.error")
    if error.exists():
        return Made(folder, quant, refused=error.read_text().strip().splitlines()[-1])
    matrix, said = measured(folder) if weighed else (None, "")
    if weighed and matrix is None:
        return Made(folder, quant, refused=said)
    options = ["--allow-requantize", *(["--imatrix", matrix] if matrix else [])]
    command = [TOOL, *options, f"{folder}.gguf", quant, types, "2"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    words = (done.stdout + done.stderr).strip().splitlines()
    return Made(folder, quant, matrix, words[-1] if done.returncode else None)


def measured(folder: Path) -> tuple[Path | None, str]:
    """An importance matrix by llama-imatrix, or what it says instead; where a model has experts, some may see nothing of so short a text."""
    backend = folder / PORTABLE.name
    if not backend.exists():
        backend.symlink_to(PORTABLE)
    text = " ".join(f"{'abcdefghij'[k % 10]}{'klmnopqr'[k * k % 8]}{k % 7}" for k in range(400))
    (folder / "text").write_text(text)
    command = [
        IMATRIX,
        "-m",
        f"{folder}.gguf",
        "-f",
        "text",
        "-o",
        "imatrix.gguf",
        "-c",
        "64",
        "--chunks",
        "4",
        "--no-ppl",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    return (None if done.returncode else folder / "imatrix.gguf"), done.stderr[-2000:]


def altered(quant: Path, out: Path, weights: Weights, seed: int = 0) -> Path:
    """One row of every matrix is another one of its rows; vectors have one changed bit, one that counts if computed."""
    random = np.random.default_rng(seed)
    data = bytearray(quant.read_bytes())
    for tensor in read_header(quant).tensors:
        rows = tensor.nbytes // row_bytes(tensor.type, tensor.shape[0])
        if rows > 1:
            width = tensor.nbytes // rows
            start = tensor.offset + int(random.integers(rows - 1)) * width
            data[start : start + width] = data[start + width : start + 2 * width]
        else:
            place = int(random.integers(tensor.nbytes))
            place = place | 3 if weights.tolerance(tensor.name) else place
            data[tensor.offset + place] ^= 1 << int(random.integers(8))
    out.write_bytes(data)
    return out


def require_same_layout(folder: Path) -> None:
    """What requant knows by itself of a checkpoint is what upstream says: every tensor, all of its rows."""
    with LocalPlace(folder, folder.name) as place:
        stored = read_checkpoint(place)
        known = plan(read_config((folder / "config.json").read_bytes()), stored.tensors)
        asked = ask(Upstream(), place, stored, "to be compared").layout
        assert asked.untold == {}
        assert _types(known) == _types(asked)
        ours, theirs = (CheckpointWeights(stored, each, ROPE_TOLERANCE) for each in (known, asked))
        assert ours.shapes == theirs.shapes
        for name, shape in ours.shapes.items():
            rows = np.arange(np.prod(shape[1:], dtype=np.int64))
            found = theirs.rows(name, rows)
            if name in known.computed:
                np.testing.assert_allclose(found, ours.rows(name, rows), rtol=ROPE_TOLERANCE, atol=0)
            else:
                assert np.array_equal(found, ours.rows(name, rows)), name


def _types(layout: Layout) -> dict[str, str]:
    return {name: each.type.name for name, each in layout.tensors.items() if len(each.shape) > 1}
