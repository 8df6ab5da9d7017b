"""A pair of many gigabytes on a few megabytes of disk: a checkpoint of zeros and its quant, an honest derivation.

Rows of zeros quantize to zeros, which a sparse file does not store. The rows that a seed draws are filled with real
weights and with what llama.cpp makes of them, so that an audit with that seed compares those.
"""

import json
import shutil
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from requant.audit.weights.sample import draw
from requant.conversion.layout import Plan, plan
from requant.conversion.weights import rounded
from requant.formats.ggml import Arithmetic, GGMLType, row_bytes
from requant.formats.gguf import Field, read_header
from requant.pipeline.tiny_shape import TinyShape
from requant.quantization.mix import Model, expected_types
from support.gguf_files import gguf_bytes, pair, tensor, write_imatrix
from support.quants import ALIGNMENT, kept
from support.relabelled import number, payload, text

SHARD, QUANT, IMATRIX = "model.safetensors", "Giant-Q4_K_M.gguf", "imatrix.gguf"
CHUNKS = 100
DIGEST = "0" * 64
"""Nobody reads gigabytes of zeros to learn their digest, so the hub is told this one."""


FOUR_B = TinyShape(layers=36, hidden=2560, ffn=9728, heads=32, kv_heads=8, head_dim=128, seed=0)
"""The shape of Qwen3-4B."""
DEEPER = replace(FOUR_B, layers=144)
LABELS = {FOUR_B: "4.0B", DEEPER: "15B"}


@dataclass(frozen=True)
class SparsePair:
    """The folders of the weights and of the quant, and the place in the quant of one row that ``seed`` draws."""

    weights: Path
    quant: Path
    drawn_row: int

    @property
    def nbytes(self) -> int:
        """Apparent bytes of both."""
        return sum(path.stat().st_size for path in (self.weights / SHARD, self.quant / QUANT))

    @property
    def on_disk(self) -> int:
        """Bytes that both take on the disk."""
        return sum(path.stat().st_blocks * 512 for path in (self.weights / SHARD, self.quant / QUANT))


def write_sparse_pair(folder: Path, tiny: Path, tiny_quant: Path, size: TinyShape, seed: int, rows: int) -> SparsePair:
    """Write the pair; tokenizer and template come from the checkpoint ``tiny`` and its ``tiny_quant``."""
    weights, quant = folder / "weights", folder / "quant"
    quant.mkdir(parents=True)
    shutil.copytree(tiny, weights, ignore=shutil.ignore_patterns("*.safetensors*", "source.json"))
    config = json.loads((tiny / "config.json").read_text()) | {
        "num_hidden_layers": size.layers, "hidden_size": size.hidden, "intermediate_size": size.ffn,
        "num_attention_heads": size.heads, "num_key_value_heads": size.kv_heads, "head_dim": size.head_dim,
    }  # fmt: skip
    (weights / "config.json").write_text(json.dumps(config))
    made = plan(config)
    stored = _write_checkpoint(weights / SHARD, made)
    types = expected_types(
        15,
        {name: (origin.shape, origin.type) for name, origin in made.tensors.items()},
        Model(made.architecture, size.layers, size.heads, size.kv_heads),
        True,
    )
    placed = _write_quant(quant / QUANT, tiny_quant, made, types, size)
    _write_importances(quant / IMATRIX, made)
    return SparsePair(weights, quant, _fill(weights / SHARD, stored, quant / QUANT, placed, made, types, seed, rows))


def _importance(columns: int) -> np.ndarray:
    return (1 + np.arange(columns) % 7).astype(np.float32)


def _measured(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and name != "token_embd.weight"


def _write_checkpoint(path: Path, made: Plan) -> dict[str, int]:
    """Write a checkpoint of zeros, its norms of ones; gives where each tensor lies."""
    header, end = {}, 0
    for origin in made.tensors.values():
        nbytes = prod(origin.shape) * 2
        header[origin.name] = {"dtype": "BF16", "shape": origin.shape[::-1], "data_offsets": [end, end + nbytes]}
        end += nbytes
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        start = file.tell()
        file.truncate(start + end)
        for origin in made.tensors.values():
            if len(origin.shape) == 1:
                file.seek(start + header[origin.name]["data_offsets"][0])
                file.write(np.full(origin.shape, 0x3F80, "<u2").tobytes())
    return {name: start + entry["data_offsets"][0] for name, entry in header.items()}


def _write_quant(path: Path, tiny: Path, made: Plan, types: dict[str, GGMLType], size: TinyShape) -> dict[str, int]:
    """Write the quant of zeros, its norms of ones; gives where each tensor lies."""
    metadata = dict(read_header(tiny).metadata)
    sizes = {
        "block_count": size.layers, "embedding_length": size.hidden, "feed_forward_length": size.ffn,
        "attention.head_count": size.heads, "attention.head_count_kv": size.kv_heads,
        "attention.key_length": size.head_dim, "attention.value_length": size.head_dim,
    }  # fmt: skip
    metadata |= {f"qwen3.{key}": number(value) for key, value in sizes.items()}
    measured = sum(_measured(name, origin.shape) for name, origin in made.tensors.items())
    entries = metadata["quantize.imatrix.entries_count"]
    metadata |= {
        "quantize.imatrix.entries_count": Field(entries.type, measured),
        "general.size_label": text(LABELS[size]),
    }
    infos, offsets, end = [], {}, 0
    for name, origin in made.tensors.items():
        infos.append(tensor(name, origin.shape, types[name], end))
        offsets[name] = end
        nbytes = row_bytes(types[name], origin.shape[0]) * prod(origin.shape[1:])
        end += nbytes + -nbytes % ALIGNMENT
    head = gguf_bytes([pair(key, field.type, payload(field)) for key, field in metadata.items()], infos)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + end)
        for name, origin in made.tensors.items():
            if len(origin.shape) == 1:
                file.seek(len(head) + offsets[name])
                file.write(np.ones(origin.shape, "<f4").tobytes())
    return {name: len(head) + offset for name, offset in offsets.items()}


def _write_importances(path: Path, made: Plan) -> None:
    entries = {}
    for name, origin in made.tensors.items():
        if _measured(name, origin.shape):
            tokens = np.float32(CHUNKS * 512)
            entries[f"{name}.in_sum2"] = _importance(origin.shape[0])[None] * tokens
            entries[f"{name}.counts"] = np.full((1, 1), tokens, np.float32)
    write_imatrix(path, entries, ["docs.train.txt"], CHUNKS, 512)


def _fill(
    shard: Path, stored: dict[str, int], quant: Path, placed: dict[str, int], made: Plan,
    types: dict[str, GGMLType], seed: int, count: int,
) -> int:  # fmt: skip
    """Fill the rows that the seed draws; gives where one of them lies in the quant."""
    heights = {name: prod(made.tensors[name].shape[1:]) for name in made.tensors if len(made.tensors[name].shape) > 1}
    stream, quantizer, drawn_row = np.random.default_rng(seed), kept(Arithmetic.STRICT), 0
    with shard.open("r+b") as weights, quant.open("r+b") as quantized:
        for name, rows in draw(heights, count, seed).items():
            columns = made.tensors[name].shape[0]
            values = rounded(stream.normal(0, 0.02, (len(rows), columns)).astype(np.float32), GGMLType.BF16)
            importance = _importance(columns) if _measured(name, made.tensors[name].shape) else None
            blocks = quantizer.quantize(types[name], values, importance)
            for row, value, block in zip(rows.tolist(), values, blocks, strict=True):
                weights.seek(stored[made.tensors[name].name] + row * columns * 2)
                weights.write((value.view("<u4") >> 16).astype("<u2").tobytes())
                drawn_row = placed[name] + row * len(block)
                quantized.seek(drawn_row)
                quantized.write(block.tobytes())
    return drawn_row
