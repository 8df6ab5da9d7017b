"""Weights to one BF16 GGUF: our own writer or upstream's converter for checkpoints, upstream's tools for a GGUF."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from requant.documents.records import (
    THREADS,
    Product,
    file_digest,
    file_entry,
    read_record,
    require_recorded,
    step,
    write_record,
)
from requant.formats.ggml import PLAIN, GGMLType
from requant.formats.gguf import read_header
from requant.formats.ranged import LocalFile
from requant.formats.safetensors import SUFFIX, read_safetensors
from requant.ground.cores import cores
from requant.ground.digests import Digest, publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError
from requant.ground.programs import Run, WorkFolder, work_folder
from requant.ground.progress import progress
from requant.pipeline.choose_converter import OWN
from requant.pipeline.describe import Description, describe_with_progress, require_finite, tensor_entries
from requant.pipeline.write_gguf import checkpoint_place, open_conversion, write_gguf
from requant.toolchain.build import open_built
from requant.toolchain.environments import environment_python

logger = logging.getLogger(__name__)
EXACT = (GGMLType.F16, GGMLType.F32)
WRITTEN = re.compile(r"Writing:\s+(\d+)%")


@dataclass(frozen=True)
class Converters:
    """What converts a checkpoint: the proven ``tree`` of llama.cpp, and the record ``choice`` of ``choose_converter``.

    ``environment`` is the record of ``build_converter`` where upstream's converter is to run.
    """

    tree: Path
    choice: Path
    environment: Path | None


def convert_checkpoint(source: Path, name: str, converters: Converters, out: Product, log: Path) -> None:
    """Convert the checkpoint beside its record ``source`` to the BF16 GGUF ``out``.

    Either converter stores the name of the model's folder, so the folder is called ``name`` wherever the project lies.

    Raises:
        FormatError: when the model cannot be converted, or the weights hold NaN or infinity.
    """
    files = read_record(source)["files"]
    require_space(out.file.parent, sum(file_digest(entry).size for entry in files), "the BF16 GGUF")
    with ThreadPoolExecutor(cores()) as pool:
        digests = pool.map(lambda entry: require_recorded(source.parent / entry["name"], entry, source), files)
        materials = dict(zip((entry["name"] for entry in files), digests, strict=True))
    own = read_record(converters.choice)["converter"] == OWN
    with work_folder(out.file.parent / "convert") as work:
        for file in materials:
            work.link(source.parent / file, f"{name}/{file}")
        if own:
            command = ["requant", "convert", name, out.file.name]
            with checkpoint_place(source) as place:
                found = open_conversion(place)
                description = write_gguf(work, found, name, converters.tree, out.file.name, log)
        else:
            assert converters.environment is not None
            command, lock = _by_upstream(work, name, converters.tree, converters.environment, out.file.name, log)
            description = describe_with_progress(work.path / out.file.name, "checking the BF16 GGUF")
            materials |= lock
        require_finite(description, f"the weights of {name}")
        require_vocabulary(description)
        publish(work.path / out.file.name, out.file)
    done = step("convert", command, materials, {out.file.name: description.digest})
    _record(
        out.record,
        done,
        description,
        rounded_from=rounded_types([source.parent / file for file in materials], description),
    )


def _by_upstream(
    work: WorkFolder, name: str, tree: Path, environment: Path, out: str, log: Path
) -> tuple[list[str], dict[str, Digest]]:
    """Run llama.cpp's converter; return its command, and the lock of its environment."""
    python, lock = environment_python(environment), read_record(environment)["lock"]
    work.link(tree, "llama.cpp")
    # A link keeps the name python finds its environment by; resolving it would lose the environment.
    command = ["llama.cpp/convert_hf_to_gguf.py", name, "--outfile", out, "--outtype", "bf16"]
    with progress(100, "converting to BF16", "%") as bar:

        def watch(line: str) -> bool:
            if match := WRITTEN.search(line):
                bar.update(int(match[1]) - bar.n)
            return match is not None

        # No network, and no home: transformers would import model code that lies in the user's cache. The converter
        # writes the names of chat templates in the order of a set.
        home = {"HOME": str(work.path.absolute()), "HF_HOME": str(work.path.absolute() / "huggingface")}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONHASHSEED": "0", **home}
        work.run([str(python), *command], log, watch=watch, env=offline, explain=explain)
    return ["python", *command], {lock["name"]: file_digest(lock)}


def require_vocabulary(description: Description) -> None:
    """Refuse what llama.cpp refuses to load, hours before it would.

    Raises:
        FormatError: naming how many tokens and rows there are.
    """
    header = description.header
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    rows = {tensor.name: tensor.shape[-1] for tensor in header.tensors}.get("token_embd.weight")
    if tokens is not None and rows is not None and len(tokens.value) != rows:  # type: ignore[arg-type]
        raise FormatError(
            f"the model has {len(tokens.value):,} tokens, its embedding {rows:,} rows: "  # type: ignore[arg-type]
            "correct the vocab_size of config.json"
        )


def rounded_types(files: Iterable[Path], description: Description) -> list[str]:
    """The types of stored matrices that were rounded to BF16, sorted; some stay as they are in every such model."""
    shards = [file for file in files if file.name.endswith(SUFFIX)]
    stored: Counter[str] = Counter()
    for shard in shards:
        with LocalFile(shard) as opened:
            for tensor in read_safetensors(opened).values():
                if len(tensor.shape) > 1 and tensor.dtype in ("F16", "F32"):
                    stored[tensor.dtype] += prod(tensor.shape)
    kept = sum(prod(tensor.shape) for tensor in description.tensors if len(tensor.shape) > 1 and tensor.type in EXACT)
    return sorted(stored) if stored.total() > kept else []


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
    digest = require_recorded(file, entry, file_record)
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
        description = describe_with_progress(work.path / out.file.name, "checking the BF16 GGUF")
        require_finite(description, f"the weights of {file.name}")
        publish(work.path / out.file.name, out.file)
    done = step("expand", command, {file.name: digest}, {out.file.name: description.digest})
    _record(out.record, done, description, expanded_from=", ".join(quantized) or None)


def _record(
    record: Path, done: dict[str, Any], description: Description,
    *, expanded_from: str | None = None, rounded_from: Sequence[str] = (),
) -> None:  # fmt: skip
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
            **({"rounded_from": ", ".join(rounded_from)} if rounded_from else {}),
            "tensors": tensor_entries(description),
        },
    )


def explain(said: str) -> str | None:
    """Raise what the last words of upstream's converter mean; ``None`` where that is not known."""
    if match := re.search(r"Model (\S+) is not supported", said):
        raise FormatError(
            f"the pinned converter does not know the architecture {match[1]}: pin a newer llama.cpp, or another model"
        )
    if "pre-tokenizer was not recognized" in said or "BPE pre-tokenizer" in said:
        raise FormatError("the pinned converter does not recognise the model's tokenizer: pin a newer llama.cpp")
    if "TokenizersBackend" in said or "'list' object has no attribute 'keys'" in said:
        raise FormatError(
            "the model's tokenizer was saved by transformers 5, which the converter's transformers 4 cannot read: save "
            "it again with transformers 4 (AutoTokenizer.from_pretrained, save_pretrained)"
        )
    if match := re.search(r"(?:KeyError|FileNotFoundError|ValueError|JSONDecodeError|SafetensorError)\S*: (.+)", said):
        raise FormatError(f"the converter refused the model: {match[1].strip()}")
    return None
