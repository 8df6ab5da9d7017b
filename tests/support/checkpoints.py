"""Small checkpoints of every layout that requant writes by itself, as their publishers store them."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import TensorSpec, serialize

from requant.conversion.layout import plan
from requant.conversion.vocabulary import CONTROL
from requant.formats.gguf import read_header
from support.vocabularies import VOCABULARIES

SLOW_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "generation_config.json")
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
README = b"---\nlicense: apache-2.0\nlanguage: [en, zh]\nbase_model: Some/Base-7B\ntags: [chat]\n---\n# A model\n"
DTYPES = {"F32": ("<f4", "float32"), "F16": ("<f2", "float16"), "BF16": ("<u2", "bfloat16")}


class Model(NamedTuple):
    """One checkpoint: its config.json, how its weights are stored, its tokenizer, and other files by name.

    The tokenizer is ``slow``, ``fast``, ``llama-bpe`` or among the ``files``. Names of tensors are ``bare`` where the model
    is stored without what is around it.
    """

    config: dict[str, Any]
    dtype: str = "BF16"
    shards: int = 1
    tokenizer: str = "slow"
    files: Mapping[str, bytes] = {}
    bare: bool = False


def config(architecture: str, model_type: str, **changes: Any) -> dict[str, Any]:
    """A config.json; what is changed to None is left out."""
    settings = {
        "architectures": [architecture], "model_type": model_type, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 151936,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
        "bos_token_id": 151643, "eos_token_id": 151645,
    } | changes  # fmt: skip
    return {key: value for key, value in settings.items() if value is not None}


MODELS = {
    "Llama, biased": Model(config("LlamaForCausalLM", "llama", attention_bias=True, mlp_bias=True), "F32"),
    "Llama-3.2-1B-Instruct": Model(
        config("LlamaForCausalLM", "llama", hidden_size=128, num_attention_heads=2, num_key_value_heads=1, head_dim=64,
               vocab_size=128256, bos_token_id=128000, eos_token_id=[128001, 128009], tie_word_embeddings=True,
               rope_scaling=LLAMA3_ROPE),
        tokenizer="llama-bpe",
    ),
    "Mistral": Model(config("MistralForCausalLM", "mistral", num_key_value_heads=4, head_dim=16)),
    "Mistral, sharded": Model(
        config("MistralForCausalLM", "mistral", rope_theta=None, sliding_window=4096), "F16", 2, "fast",
        {"chat_template.jinja": b"{{ messages }}\r\n", "additional_chat_templates/rag.jinja": b"{{ documents }}"},
    ),
    "Qwen2": Model(config("Qwen2ForCausalLM", "qwen2", rope_scaling=YARN), tokenizer="fast"),
    "Qwen3": Model(
        config("Qwen3ForCausalLM", "qwen3", head_dim=16, attention_bias=True, rope_scaling={
            **YARN, "attention_factor": 0.8, "beta_fast": 32.0, "beta_slow": 1.0,
        }),
        shards=3,
        files={"README.md": README},
    ),
    "Qwen3, tied": Model(
        config("Qwen3ForCausalLM", "qwen3", head_dim=16, tie_word_embeddings=True, rope_theta=None,
               rope_parameters={"rope_type": "default", "rope_theta": 5000000}),
        "F32", 1, "fast", {"chat_template.json": b'{"chat_template": "{{ json }}"}'},
    ),
    "Qwen3-Embedding": Model(
        config("Qwen3ForCausalLM", "qwen3", head_dim=16, tie_word_embeddings=True), files={
            "modules.json": b'[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]',
            "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true}',
        }, bare=True,
    ),
    **{f"{name}, of pieces": Model(json.loads(VOCABULARIES[name]["config.json"]), tokenizer="pieces", files=VOCABULARIES[name])
       for name in ("tokenizer.json with more", "CodeLlama")},
}  # fmt: skip


def write_checkpoint(folder: Path, model: Model, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Write random weights and the small files, but for the tokenizer; return the weights by name, as float32."""
    random, weights = np.random.default_rng(seed), {}
    for origin in plan(model.config).tensors.values():
        values = random.standard_normal(origin.shape[::-1], np.float32)
        name = origin.name.removeprefix("model.") if model.bare else origin.name
        weights[name] = _stored(values, model.dtype)
    names = sorted(weights)
    shards = [names[start :: model.shards] for start in range(model.shards)]
    files = [f"model-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    if len(shards) == 1:
        files = ["model.safetensors"]
    else:
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for file, shard in zip(files, shards, strict=True):
        (folder / file).write_bytes(_safetensors({name: weights[name] for name in shard}, model.dtype))
    (folder / "config.json").write_text(json.dumps(model.config))
    for name, data in model.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return weights


def _stored(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """The nearest values that are stored so; cut off, for BF16."""
    if dtype == "BF16":
        return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(DTYPES[dtype][0]).astype(np.float32)


def _safetensors(weights: Mapping[str, npt.NDArray[np.float32]], dtype: str) -> bytes:
    numpy, name = DTYPES[dtype]
    stored = {
        key: (value.view(np.uint32) >> 16).astype("<u2") if dtype == "BF16" else value.astype(numpy)
        for key, value in weights.items()
    }
    specs = {
        key: TensorSpec(dtype=name, shape=value.shape, data_ptr=value.ctypes.data, data_len=value.nbytes)
        for key, value in stored.items()
    }
    return bytes(serialize(specs, metadata={"format": "pt"}))


def give_tokenizer(folder: Path, model: Model, qwen: Path, tree: Path, python: Path) -> None:
    """Qwen's, from the demo's model ``qwen``, as it is or as ``python`` writes it; or Llama 3's, from the ``tree``."""
    if model.tokenizer == "llama-bpe":
        write_llama_tokenizer(folder, tree / "models" / "ggml-vocab-llama-bpe.gguf")
    elif model.tokenizer == "fast":
        code = "import sys, transformers; transformers.AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])"
        kept = {name: (folder / name).read_bytes() for name in model.files}
        subprocess.run([python, "-c", code, qwen, folder], check=True, capture_output=True)
        (folder / "vocab.json").unlink()
        for name, data in kept.items():
            (folder / name).write_bytes(data)
    elif model.tokenizer == "slow":
        for file in SLOW_FILES:
            shutil.copy(qwen / file, folder / file)


def write_llama_tokenizer(folder: Path, vocabulary: Path) -> None:
    """The tokenizer.json and tokenizer_config.json of Llama 3, of the vocabulary that llama.cpp's tests use."""
    fields = read_header(vocabulary).metadata
    tokens, merges, types = (fields[f"tokenizer.ggml.{key}"].value for key in ("tokens", "merges", "token_type"))
    assert isinstance(tokens, list)
    assert isinstance(merges, list)
    assert isinstance(types, np.ndarray)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {number: tokens[number] for number in np.flatnonzero(types == CONTROL).tolist()}
    first = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
    single = [first, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [
        *single,
        {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 1}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ]
    number = {"id": "<|begin_of_text|>", "ids": [128000], "tokens": ["<|begin_of_text|>"]}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated", "invert": False}
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": {"<|begin_of_text|>": number},
    }
    document = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": key, "content": text, **flags} for key, text in added.items()],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "Sequence", "processors": [byte_level, template]},
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": {text: key for key, text in enumerate(tokens) if key not in added},
            "merges": [merge.split(" ") for merge in merges],  # type: ignore[arg-type]
        },
    }  # fmt: skip
    settings = {
        "added_tokens_decoder": {str(key): {"content": text, **flags} for key, text in added.items()},
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "clean_up_tokenization_spaces": True,
        "model_max_length": 131072, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
