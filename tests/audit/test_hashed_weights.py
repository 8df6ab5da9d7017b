"""requant.audit.weights.hashed_weights: digests of what was read, in whatever order; a checkpoint's are those of its GGUF."""

from __future__ import annotations

import hashlib
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from requant.audit.named_weights import open_weights
from requant.audit.weights.hashed_weights import HashedWeights
from requant.conversion.weights import GGUFWeights, Weights
from requant.documents.entries import tensors
from requant.formats.ggml import GGMLType as T
from requant.formats.weights_root import weights_root
from requant.pipeline.describe import describe, tensor_entries
from support.gguf_files import bf16
from support.quants import opened, written

SHAPES = {"blk.0.attn_q.weight": (8, 6), "norm.weight": (8,), "output.weight": (8, 5)}


def values(name: str) -> np.ndarray:
    seed = sum(name.encode())
    return np.random.default_rng(seed).standard_normal(SHAPES[name][::-1]).astype(np.float32)


def gguf(out: Path, kind: T = T.BF16) -> Path:
    encode = {T.BF16: lambda rows: bf16(rows).tobytes(), T.F16: lambda rows: rows.astype("<f2").tobytes()}
    plain = {T.F32: lambda rows: rows.tobytes()}
    return written(out, {
        name: (found := T.F32 if len(shape) == 1 else kind, shape, {**encode, **plain}[found](values(name)))
        for name, shape in SHAPES.items()
    })  # fmt: skip


def hashed(weights: Weights, batch: int, workers: int = 1) -> HashedWeights:
    """Read all rows in batches, from as many threads."""
    found = HashedWeights(weights)
    starts = [(name, start) for name, shape in found.shapes.items() for start in range(0, count(shape), batch)]

    def read(place: tuple[str, int]) -> None:
        name, start = place
        found.rows(name, np.arange(start, min(start + batch, count(found.shapes[name]))))

    with ThreadPoolExecutor(workers) as pool:
        [*pool.map(read, starts)]
    return found


def count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=int))


@pytest.mark.parametrize("kind", [T.BF16, T.F16, T.F32])
@pytest.mark.parametrize(("batch", "workers"), [(1, 4), (2, 1), (100, 1)])
def test_of_a_gguf_they_are_its_own(tmp_path: Path, kind: T, batch: int, workers: int) -> None:
    path = gguf(tmp_path / "x.gguf", kind)
    file, header = opened(path)
    with file:
        found = hashed(GGUFWeights(file, header), batch, workers)
    wanted = tensors(tensor_entries(describe(path)))
    assert found.entries == tuple(sorted(wanted, key=lambda entry: entry.name))
    assert found.root == weights_root(wanted)


def test_the_order_of_reading_is_no_matter(tmp_path: Path) -> None:
    file, header = opened(gguf(tmp_path / "x.gguf"))
    with file:
        weights = GGUFWeights(file, header)
        forward, backward = hashed(weights, 2), HashedWeights(weights)
        for name, shape in SHAPES.items():
            for start in reversed(range(0, count(shape), 2)):
                backward.rows(name, np.arange(start, min(start + 2, count(shape))))
    assert backward.entries == forward.entries and backward.root is not None


def test_what_was_not_read_whole_has_none(tmp_path: Path) -> None:
    file, header = opened(gguf(tmp_path / "x.gguf"))
    with file:
        found = HashedWeights(GGUFWeights(file, header))
        assert (found.entries, found.root) == ((), None)
        found.rows("output.weight", np.arange(5))
        found.rows("blk.0.attn_q.weight", np.arange(3, 6))
        found.rows("blk.0.attn_q.weight", np.arange(2))
    assert ([entry.name for entry in found.entries], found.root) == (["output.weight"], None)


def test_a_checkpoint_has_the_digests_of_its_gguf(tmp_path: Path) -> None:
    """Also where the converter reorders rows, and though a checkpoint stores its vectors as BF16."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5,
        "tie_word_embeddings": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
    }  # fmt: skip
    layer, hidden = "model.layers.0.", (8,)
    shapes = {
        "model.embed_tokens.weight": (5, 8), "model.norm.weight": hidden, f"{layer}input_layernorm.weight": hidden,
        f"{layer}post_attention_layernorm.weight": hidden, f"{layer}self_attn.q_proj.weight": (8, 8),
        f"{layer}self_attn.k_proj.weight": (4, 8), f"{layer}self_attn.v_proj.weight": (4, 8),
        f"{layer}self_attn.o_proj.weight": (8, 8), f"{layer}mlp.gate_proj.weight": (12, 8),
        f"{layer}mlp.up_proj.weight": (12, 8), f"{layer}mlp.down_proj.weight": (8, 12),
    }  # fmt: skip
    generator, header, data = np.random.default_rng(3), {}, b""
    for name, shape in shapes.items():
        piece = bf16(generator.standard_normal(shape).astype(np.float32)).tobytes()
        header[name] = {"dtype": "BF16", "shape": [*shape], "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (tmp_path / "config.json").write_text(json.dumps(config))
    named = open_weights(f"{tmp_path}/")
    with named.place:
        weights = named.tensors
        found = hashed(weights, 3, 2)
        converted = written(tmp_path / "converted.gguf", {
            name: (kind := weights.plain(name), shape, as_stored(kind, weights.rows(name, np.arange(count(shape)))))
            for name, shape in weights.shapes.items()
        })  # fmt: skip
    assert found.root == weights_root(tensors(tensor_entries(describe(converted))))
    query = next(entry for entry in found.entries if entry.name == "blk.0.attn_q.weight")
    start = header[f"{layer}self_attn.q_proj.weight"]["data_offsets"][0]
    assert query.sha256 != hashlib.sha256(data[start : start + 128]).hexdigest(), "its rows were reordered"
    assert {entry.type for entry in found.entries if len(entry.shape) == 1} == {"F32"}


def as_stored(kind: T, rows: np.ndarray) -> bytes:
    return bf16(rows).tobytes() if kind is T.BF16 else rows.tobytes()
