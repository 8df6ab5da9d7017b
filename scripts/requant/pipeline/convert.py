"""Weights to one BF16 GGUF: upstream's own converter for checkpoints, upstream's own tools for a GGUF."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from requant.documents.records import THREADS, Product, file_digest, file_entry, read_record, step, write_record
from requant.formats.ggml import PLAIN
from requant.formats.gguf import read_header
from requant.ground.digests import publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError
from requant.ground.programs import Run, work_folder
from requant.ground.progress import progress
from requant.pipeline.describe import Description, describe_with_progress, require_finite, tensor_entries
from requant.toolchain.build import open_built
from requant.toolchain.environments import environment_python

logger = logging.getLogger(__name__)
WRITTEN = re.compile(r"Writing:\s+(\d+)%")


@dataclass(frozen=True)
class Converter:
    """Upstream's converter: the proven ``tree`` of llama.cpp, and the record of the ``environment`` that it runs in."""

    tree: Path
    environment: Path


def convert_checkpoint(
    files: Sequence[Path], files_record: Path, name: str, converter: Converter, out: Product, log: Path
) -> None:
    """Convert a checkpoint's ``files`` to the BF16 GGUF ``out``.

    The converter stores the name of the model's folder, so the folder is called ``name`` wherever the project lies.

    Raises:
        FormatError: when the converter refuses the model, or the weights hold NaN or infinity.
    """
    python, lock = environment_python(converter.environment), read_record(converter.environment)["lock"]
    materials = {entry["name"]: file_digest(entry) for entry in [*read_record(files_record)["files"], lock]}
    require_space(out.file.parent, sum(digest.size for digest in materials.values()), "the BF16 GGUF")
    with work_folder(out.file.parent / "convert") as work:
        for file in files:
            work.link(file, f"{name}/{file.name}")
        work.link(converter.tree, "llama.cpp")
        # A link keeps the name python finds its environment by; resolving it would lose the environment.
        command = ["llama.cpp/convert_hf_to_gguf.py", name, "--outfile", out.file.name, "--outtype", "bf16"]
        with progress(100, "converting to BF16", "%") as bar:

            def watch(line: str) -> bool:
                if match := WRITTEN.search(line):
                    bar.update(int(match[1]) - bar.n)
                return match is not None

            # No network, and no home: transformers would import model code that lies in the user's cache.
            home = {"HOME": str(work.path.absolute()), "HF_HOME": str(work.path.absolute() / "huggingface")}
            offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **home}
            work.run([str(python), *command], log, watch=watch, env=offline, explain=_explain)
        description = _describe(work.path / out.file.name, name)
        publish(work.path / out.file.name, out.file)
    done = step("convert", ["python", *command], materials, {out.file.name: description.digest})
    _record(out.record, done, description, None)


def expand_gguf(file: Path, file_record: Path, tool: Path, out: Product, run: Run) -> None:
    """Make the BF16 GGUF ``out`` from a GGUF: as it is if it is BF16, F16 or F32, else expanded to BF16.

    ``tool`` is the build record of llama-quantize.

    Raises:
        FormatError: when the file is hostile or its weights hold NaN or infinity.
    """
    header = read_header(file)
    quantized = sorted({tensor.type.name for tensor in header.tensors if tensor.type not in PLAIN})
    elements = sum(prod(tensor.shape) for tensor in header.tensors)
    require_space(out.file.parent, 2 * elements if quantized else header.size, "the BF16 GGUF")
    [entry] = read_record(file_record)["files"]
    built = open_built(tool)
    with work_folder(out.file.parent / "expand") as work:
        work.link(file, "source.gguf")
        if quantized:
            logger.info("expanding %s from %s to BF16", file.name, ", ".join(quantized))
            command = ["llama-quantize", "--allow-requantize", "source.gguf", out.file.name, "BF16", THREADS]
            built.run(work, command, run)
        else:
            command = ["cp", "source.gguf", out.file.name]
            work.run(command, run.log)
        description = _describe(work.path / out.file.name, file.name)
        publish(work.path / out.file.name, out.file)
    done = step("expand", command, {file.name: file_digest(entry)}, {out.file.name: description.digest})
    _record(out.record, done, description, ", ".join(quantized) or None)


def _describe(path: Path, what: str) -> Description:
    description = describe_with_progress(path, "checking the BF16 GGUF")
    require_finite(description, f"the weights of {what}")
    return description


def _record(record: Path, done: dict[str, Any], description: Description, expanded_from: str | None) -> None:
    field = description.header.metadata.get("general.architecture")
    if field is None or not isinstance(field.value, str):
        raise FormatError(f"{description.header.name} names no general.architecture: it is not a model")
    [product] = done["products"]
    write_record(
        record,
        {
            "step": done,
            "file": file_entry(product["name"], description.digest),
            "architecture": field.value,
            "expanded_from": expanded_from,
            "tensors": tensor_entries(description),
        },
    )


def _explain(said: str) -> str | None:
    if match := re.search(r"Model (\S+) is not supported", said):
        raise FormatError(
            f"the pinned converter does not know the architecture {match[1]}: pin a newer llama.cpp, or another model"
        )
    if "pre-tokenizer was not recognized" in said or "BPE pre-tokenizer" in said:
        raise FormatError("the pinned converter does not recognise the model's tokenizer: pin a newer llama.cpp")
    if match := re.search(r"(?:KeyError|FileNotFoundError|ValueError|JSONDecodeError|SafetensorError)\S*: (.+)", said):
        raise FormatError(f"the converter refused the model: {match[1].strip()}")
    return None
