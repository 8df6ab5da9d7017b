"""A tiny Qwen3 checkpoint, the same bytes on every machine, for trying the pipeline without a download.

llama.cpp's ``convert_hf_to_gguf.py`` takes it for a real one. ``config.json`` and the tensor names follow
https://huggingface.co/docs/transformers/model_doc/qwen3, the weights https://huggingface.co/docs/safetensors.
The converter recognises a tokenizer by a digest of what it makes of a fixed text, so the vocabulary has to
be Qwen's own: the llama.cpp source tree carries it, and ``vocab.json`` and ``merges.txt`` come out byte-equal
to the files of the Qwen2, 2.5 and 3 repositories.

No floating-point arithmetic touches the weights: they are bit patterns made from SHA-256, splitmix64
(https://prng.di.unimi.it/splitmix64.c) and integer additions, so no compiler or libm can move a bit.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, TensorSpec, serialize_file

from requant.conversion.vocabulary import NORMAL
from requant.formats.gguf import Field, read_header
from requant.ground.digests import named_when_whole, write_bytes
from requant.ground.errors import DiskError, FormatError
from requant.ground.text import first_line
from requant.pipeline.tiny_shape import INDEX, SHARDS, TINY_FILES, TinyShape

Dims = tuple[int, ...]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]

VOCAB_FILE = "models/ggml-vocab-qwen2.gguf"
TEMPLATE_FILE = "models/templates/Qwen-Qwen3-0.6B.jinja"

# Qwen3's added tokens in the order of their ids, which follow the byte-pair vocabulary without a gap.
CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
MARKUP_TOKENS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
END_OF_TEXT, END_OF_TURN = 0, 2

STREAM_BLOCK = 1 << 16  # words drawn at once: half a MiB, so that the passes over them stay in the cache

SUM_TOP = 4 * 0xFFFF
UNIT_EXPONENT = -22
"""A sum of four 16-bit fields, centred and doubled, has a standard deviation of 75,674 = 0.018 * 2**22."""

# Powers of two by which rows and columns differ, as activations and weights of trained models do. The mean
# of 4**step is 1.13 and applies twice (rows and columns): matrices have a standard deviation of 0.0204.
SCALE_STEPS = (-2, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
BF16_ONE = 0x3F80


class Vocabulary(NamedTuple):
    """Byte-pair tokens by id, merges by rank, and the number of embedding rows (padding included)."""

    tokens: list[str]
    merges: list[str]
    rows: int


def write_tiny_model(tree: Path, out: Path, shape: TinyShape) -> list[Path]:
    """Write the checkpoint ``shape`` describes into ``out`` and return the paths of ``TINY_FILES``.

    Args:
        tree: a proven llama.cpp source tree; its ``VOCAB_FILE`` and ``TEMPLATE_FILE`` are read.
        out: the model folder; the converter stores its name in the GGUF.
        shape: dimensions and seed; the vocabulary has as many rows as the tree's.

    Raises:
        FormatError: if one of the two files is missing or is not what it should be.
    """
    vocabulary = read_vocabulary(_required(tree / VOCAB_FILE))
    template = _required(tree / TEMPLATE_FILE).read_text(encoding="utf-8")
    write_bytes(out / "config.json", _json(_config(shape, vocabulary)))
    write_bytes(out / "generation_config.json", _json(_generation_config(vocabulary)))
    # In Qwen's own spelling, by id and without a space, so that it has the digest of the published file.
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    write_bytes(out / "vocab.json", json.dumps(ids, separators=(",", ":"), ensure_ascii=False).encode())
    write_bytes(out / "merges.txt", "".join(f"{merge}\n" for merge in vocabulary.merges).encode())
    write_bytes(out / "tokenizer_config.json", _json(_tokenizer_config(vocabulary, template)))
    _write_shards(out, shape, vocabulary.rows)
    return [out / name for name in TINY_FILES]


def read_vocabulary(path: Path) -> Vocabulary:
    """Read tokens and merges from a vocabulary-only GGUF with Qwen's byte-pair tokenizer.

    Raises:
        FormatError: if the file is no such GGUF, or has no room for Qwen3's added tokens.
    """
    try:
        fields = read_header(path).metadata
        tokens, merges = (_texts(fields[f"tokenizer.ggml.{key}"]) for key in ("tokens", "merges"))
        types = fields["tokenizer.ggml.token_type"].value
        if not isinstance(types, np.ndarray):
            raise TypeError("no array of token types")
    except (FormatError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not a GGUF with a byte-pair vocabulary: {error}") from error
    base = next((index for index, kind in enumerate(types) if kind != NORMAL), len(types))
    for index, name in enumerate(CONTROL_TOKENS + MARKUP_TOKENS, base):
        # The file is Qwen2's: most of what Qwen3 added lies in rows that were padding then.
        if index >= len(tokens) or tokens[index] not in (name, f"[PAD{index}]"):
            raise FormatError(f"{path} has no {name} or padding as token {index}: it is another model's vocabulary")
    return Vocabulary(tokens[:base], merges, len(tokens))


def _texts(field: Field) -> list[str]:
    """An array of texts; raises TypeError for anything else."""
    texts = [text for text in field.value if isinstance(text, str)] if isinstance(field.value, list) else []
    if not isinstance(field.value, list) or len(texts) < len(field.value):
        raise TypeError("no array of texts")
    return texts


def _required(path: Path) -> Path:
    if not path.is_file():
        raise FormatError(f"{path} is missing: the llama.cpp source tree must carry it")
    return path


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _config(shape: TinyShape, vocabulary: Vocabulary) -> dict[str, object]:
    base = len(vocabulary.tokens)
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "bos_token_id": base + END_OF_TEXT,
        "eos_token_id": base + END_OF_TURN,
        "head_dim": shape.head_dim,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": 40960,
        "model_type": "qwen3",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        # As in Qwen's own files; without it, transformers warns of a fault that only Mistral tokenizers have.
        "transformers_version": "4.51.0",
        "vocab_size": vocabulary.rows,
    }


def _generation_config(vocabulary: Vocabulary) -> dict[str, object]:
    end_of_text, end_of_turn = len(vocabulary.tokens) + END_OF_TEXT, len(vocabulary.tokens) + END_OF_TURN
    ids = {"bos_token_id": end_of_text, "eos_token_id": [end_of_turn, end_of_text], "pad_token_id": end_of_text}
    return {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, **ids}


def _tokenizer_config(vocabulary: Vocabulary, template: str) -> dict[str, object]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {
        "add_bos_token": False,
        "added_tokens_decoder": {
            str(len(vocabulary.tokens) + index): {"content": token, "special": token in CONTROL_TOKENS, **flags}
            for index, token in enumerate(CONTROL_TOKENS + MARKUP_TOKENS)
        },
        "additional_special_tokens": list(CONTROL_TOKENS[1:]),
        "chat_template": template,
        "eos_token": CONTROL_TOKENS[END_OF_TURN],
        "model_max_length": 40960,
        "pad_token": CONTROL_TOKENS[END_OF_TEXT],
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def tensor_dims(shape: TinyShape, rows: int) -> tuple[dict[str, Dims], dict[str, Dims]]:
    """Name and dimensions of every tensor, shard by shard; ``rows`` is the size of the vocabulary.

    The first shard holds the embedding (which is the output layer too) and the first half of the layers.
    """
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer_dims: dict[str, Dims] = {
        "input_layernorm": (shape.hidden,), "post_attention_layernorm": (shape.hidden,),
        "self_attn.q_norm": (shape.head_dim,), "self_attn.k_norm": (shape.head_dim,),
        "self_attn.q_proj": (query, shape.hidden), "self_attn.k_proj": (key, shape.hidden),
        "self_attn.v_proj": (key, shape.hidden), "self_attn.o_proj": (shape.hidden, query),
        "mlp.gate_proj": (shape.ffn, shape.hidden), "mlp.up_proj": (shape.ffn, shape.hidden),
        "mlp.down_proj": (shape.hidden, shape.ffn),
    }  # fmt: skip
    shards: tuple[dict[str, Dims], dict[str, Dims]] = ({"model.embed_tokens.weight": (rows, shape.hidden)}, {})
    for layer in range(shape.layers):
        shard = shards[layer >= shape.layers // 2]
        shard.update({f"model.layers.{layer}.{name}.weight": dims for name, dims in layer_dims.items()})
    shards[1]["model.norm.weight"] = (shape.hidden,)
    return shards


def make_tensor(seed: int, name: str, dims: Dims) -> U16:
    """Make one tensor as BF16 bit patterns (little-endian); it depends on nothing but the arguments.

    One dimension makes a norm with values from 0.75 to 1.49; two make a matrix ``(rows, columns)`` with mean
    0 and standard deviation 0.02, whose rows and whose columns each differ by powers of two from 1/4 to 2.
    """
    if len(dims) == 1:
        return ((_words(seed, f"{name}:norm", 0, dims[0]) >> 57) + (BF16_ONE - 64)).astype("<u2")
    rows, columns = dims
    # BF16 has 7 fraction bits: a step of 1 << 7 doubles the value, and sums of 16-bit patterns wrap.
    steps = np.array([step << 7 for step in SCALE_STEPS], dtype=np.int32).astype(np.uint16)
    row_steps = steps[_words(seed, f"{name}:rows", 0, rows) >> 60][:, None]
    column_steps = steps[_words(seed, f"{name}:columns", 0, columns) >> 60]
    table = _bf16_table()
    tensor = np.empty(dims, dtype="<u2")
    height = max(1, STREAM_BLOCK // columns)
    for top in range(0, rows, height):
        block = tensor[top : top + height]
        words = _words(seed, f"{name}:values", top * columns, block.size)
        pairs = (words & 0x0000FFFF0000FFFF) + ((words >> 16) & 0x0000FFFF0000FFFF)
        sums = (pairs & 0xFFFFFFFF) + (pairs >> 32)
        block[:] = table[sums].reshape(block.shape)
        block += row_steps[top : top + height]
        block += column_steps
    return tensor


def _words(seed: int, stream: str, start: int, count: int) -> U64:
    """Words ``start`` to ``start + count`` of the splitmix64 sequence that ``seed`` and ``stream`` name."""
    key = int.from_bytes(hashlib.sha256(f"{seed}:{stream}".encode()).digest()[:8], "little")
    words = np.arange(start + 1, start + 1 + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words += np.uint64(key)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@cache
def _bf16_table() -> U16:
    """BF16 patterns of every sum of four fields: centred, doubled, made odd (never 0), to the nearest even."""
    signed = 2 * np.arange(SUM_TOP + 1, dtype=np.int64) - SUM_TOP + 1
    magnitude = np.abs(signed)
    length = np.sum([(magnitude >> bit) != 0 for bit in range(18)], axis=0, dtype=np.int64)
    aligned = magnitude << (18 - length)
    significand = (aligned + 511 + ((aligned >> 10) & 1)) >> 10
    # A significand rounded up to 256 carries into the exponent, as it should.
    patterns = ((126 + UNIT_EXPONENT + length) << 7) + (significand - 128)
    return (patterns | ((signed < 0).astype(np.int64) << 15)).astype(np.uint16)


def _write_shards(out: Path, shape: TinyShape, rows: int) -> None:
    weight_map: dict[str, str] = {}
    total_size = 0
    for shard, dims in zip(SHARDS, tensor_dims(shape, rows), strict=True):
        tensors = {name: make_tensor(shape.seed, name, dims[name]) for name in dims}
        # The specs hold bare addresses, so ``tensors`` has to live until they are serialized.
        specs = {
            name: TensorSpec(dtype="bfloat16", shape=tensor.shape, data_ptr=tensor.ctypes.data, data_len=tensor.nbytes)
            for name, tensor in tensors.items()
        }
        with named_when_whole(out / shard) as temporary:
            try:
                serialize_file(specs, temporary, metadata={"format": "pt"})
            except SafetensorError as error:  # of the disk: what is written is right
                raise DiskError(
                    f"{out / shard} cannot be written ({first_line(error)}): make room, and run again"
                ) from error
        weight_map |= dict.fromkeys(dims, shard)
        total_size += 2 * sum(map(prod, dims.values()))
    write_bytes(out / INDEX, _json({"metadata": {"total_size": total_size}, "weight_map": weight_map}))
