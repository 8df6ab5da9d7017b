"""Small valid inputs for every target, made here so that none has to be kept, and the known files beside them."""

import json
import struct
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.metadata import expected_metadata
from requant.documents.file_names import CARD, MANIFEST
from requant.documents.manifest import read_manifest
from requant.documents.sums import read_sums
from requant.formats.gguf import Header, read_header
from requant.ground.canonical import canonical
from requant.release.attestation import PAYLOAD_TYPE, STATEMENT, build_statement
from requant.release.derivation import DERIVATION, derivation_statements
from support import small_checkpoint, vocabularies
from support.attested import passed_report
from support.gguf_files import array, gguf_bytes, legacy_imatrix, pair, string, tensor, write_imatrix
from support.small_release import write_release
from support.splits import split_keys

ROWS = 16
CONFIG: dict[str, Any] = {
    **small_checkpoint.CONFIG, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 4,
    "vocab_size": ROWS,
}  # fmt: skip
ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
LLAMA = {
    **CONFIG, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": ROPE,
    "attention_bias": True, "mlp_bias": True,
}  # fmt: skip
YARN = {"type": "yarn", "factor": 4, "beta_fast": 32.0, "original_max_position_embeddings": 1024}
STORED = frozenset(f"model.{name}.weight" for name in ("embed_tokens", "norm", "layers.0.mlp.up_proj"))

ADDED = [
    {"id": 6, "content": "<|endoftext|>", "special": True, "normalized": False},
    {"id": 7, "content": "<think>", "special": False, "normalized": False},
]
BYTE_LEVEL = {"type": "ByteLevel"}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {"id": "A"}}],
    "pair": [
        {"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {"id": "A"}},
        {"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {"id": "B"}},
    ],
}  # fmt: skip
TOKENIZER = {
    "added_tokens": ADDED, "normalizer": {"type": "NFC"}, "decoder": BYTE_LEVEL,
    "post_processor": {"type": "Sequence", "processors": [BYTE_LEVEL, TEMPLATE]},
    "pre_tokenizer": {"pretokenizers": [{"pattern": {"Regex": "x"}}, BYTE_LEVEL]},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "byte_fallback": False},
}  # fmt: skip
SETTINGS = {
    "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": True, "bos_token": "<|endoftext|>",
    "eos_token": {"content": "<think>"}, "pad_token": None, "additional_special_tokens": [], "add_prefix_space": False,
    "chat_template": [{"name": "default", "template": "{{ x }}"}, {"name": "a b", "template": ""}],
    "added_tokens_decoder": {str(token["id"]): token for token in ADDED},
}  # fmt: skip
TOKENIZER_OBJECT: dict[str, Any] = {
    "tokenizer.json": TOKENIZER, "tokenizer_config.json": SETTINGS, "added_tokens.json": {"<x>": 8},
    "generation_config.json": {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1},
}  # fmt: skip
SLOW_OBJECT: dict[str, Any] = {
    "vocab.json": {"a": 0, "b": 1, "ab": 2}, "merges.txt": "#version: 0.2\na b\n", "README.md": "# x",
    "tokenizer_config.json": {**SETTINGS, "chat_template": None}, "chat_template.jinja": "{{ x }}\r\n",
    "config.json": {**LLAMA, "rope_scaling": YARN},
}  # fmt: skip
EMBEDDING_OBJECT: dict[str, Any] = {
    **TOKENIZER_OBJECT, "modules.json": [{"type": "x.Pooling", "path": "1_Pooling"}],
    "1_Pooling/config.json": {"pooling_mode_lasttoken": True, "pooling_mode": "mean"},
}  # fmt: skip
PIECES_OBJECT: dict[str, Any] = {
    "tokenizer.json": vocabularies.fast([(267, "<|user|>", True)]), "tokenizer_config.json": vocabularies.SETTINGS,
    "config.json": vocabularies.CONFIG,
}  # fmt: skip
PIECES = vocabularies.model_bytes([*vocabularies.PIECES[:4], *vocabularies.WORDS])


def text(document: object) -> bytes:
    """JSON as other programs write it."""
    return json.dumps(document).encode()


CONFIG_FILE = text(CONFIG)
TOKENIZER_FILES = {name: text(value) for name, value in TOKENIZER_OBJECT.items()}

SHARDS = {
    "model-1.safetensors": save({"a": np.ones((2, 3), np.float32)}),
    "model-2.safetensors": save({"b": np.ones(4, np.float16)}, metadata={"format": "pt"}),
}
MAP = {"a": "model-1.safetensors", "b": "model-2.safetensors"}

PAIRS = [
    pair("general.architecture", 8, string("qwen3")),
    pair("general.type", 8, string("model")),
    pair("general.alignment", 4, struct.pack("<I", 32)),
    pair("general.file_type", 4, struct.pack("<I", 15)),
    pair("general.quantization_version", 4, struct.pack("<I", 2)),
    pair("general.base_model.count", 4, struct.pack("<I", 1)),
    pair("general.base_model.0.name", 8, string("Small")),
    pair("general.base_model.0.repo_url", 8, string("https://huggingface.co/org/small")),
    pair("quantize.imatrix.file", 8, string(b"imatrix\xe6")),
    pair("quantize.imatrix.entries_count", 5, struct.pack("<i", 14)),
    pair("qwen3.block_count", 4, struct.pack("<I", 1)),
    pair("qwen3.rope.freq_base", 6, struct.pack("<f", 1e6)),
    pair("qwen3.attention.causal", 7, b"\1"),
    pair("tokenizer.ggml.tokens", 9, array(8, 3, string("a") + string("ß") + string(b"\xff"))),
    pair("tokenizer.ggml.token_type", 9, array(5, 3, struct.pack("<3i", 1, 1, 3))),
    pair("nested", 9, array(9, 2, array(4, 1, bytes(4)) + array(8, 1, string("x")))),
]
FOREIGN = gguf_bytes([], [tensor("a", [8], 144), tensor("b", [8], 0, 64)], bytes(96))
"""A model with a type of a fork."""
PARTS = {
    "M-00001-of-00002.gguf": gguf_bytes([*PAIRS, *split_keys(0, 2, 2)], [tensor("a", [8])], bytes(32)),
    "M-00002-of-00002.gguf": gguf_bytes([PAIRS[0], *split_keys(1, 2, 2)], [tensor("b", [8], 99)], bytes(64)),
}
MODEL = gguf_bytes(PAIRS, [tensor("blk.0.ffn_up.weight", [256, 2], 12), tensor("b", [8], 0, 288)], bytes(320))


@cache
def header() -> Header:
    """A model that is compared with others."""
    return read_header(BytesIO(MODEL), "known.gguf")


@cache
def expected() -> ExpectedMetadata:
    """What the small checkpoint would give."""
    return expected_metadata({**TOKENIZER_FILES, "config.json": CONFIG_FILE})


@cache
def signer() -> CryptoSigner:
    """A key that everybody knows."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))


@cache
def public_key() -> SSlibKey:
    """Its public half."""
    return SSlibKey.from_crypto(signer()._private_key.public_key())


@cache
def _release() -> dict[str, bytes]:
    with TemporaryDirectory() as name:
        folder = write_release(Path(name) / "release")
        statement = canonical(build_statement(read_manifest(folder / MANIFEST), read_sums(folder)))
        entries = {
            "a.weight.in_sum2": np.arange(6, dtype=np.float32).reshape(2, 3),
            "a.weight.counts": np.array([[16], [0]], np.float32),
        }
        matrix = write_imatrix(folder / "x.gguf", entries).read_bytes()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return {**files, "statement": statement, "matrix": matrix}


def manifest() -> bytes:
    """The manifest of a whole small release."""
    return _release()[MANIFEST]


def card() -> bytes:
    """Its card."""
    return _release()[CARD]


def envelope(statement: bytes) -> bytes:
    """Any bytes under a right signature."""
    made = Envelope(statement, PAYLOAD_TYPE, {})
    made.sign(signer())
    return canonical(made.to_dict())


@cache
def _predicate() -> dict[str, Any]:
    """What an audit attests of ``MODEL``."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.gguf")
        path.write_bytes(MODEL)
        return dict(derivation_statements(passed_report(path), datetime(2026, 11, 28, tzinfo=UTC))[0]["predicate"])


def attested(predicate: object) -> dict[str, object]:
    """A statement about another file with such a predicate."""
    subject = [{"name": "x.gguf", "digest": {"sha256": "a" * 64}}]
    return {"_type": STATEMENT, "subject": subject, "predicateType": DERIVATION, "predicate": predicate}


def bundle() -> bytes:
    """Two statements on a line each."""
    envelopes = [json.loads(envelope(canonical(attested(each)))) for each in (_predicate(), {})]
    return b"".join(json.dumps(each, sort_keys=True, separators=(",", ":")).encode() + b"\n" for each in envelopes)


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """The valid inputs of one target."""
    return {
        "gguf": (MODEL, FOREIGN, gguf_bytes([pair("k", 10, bytes(8))])),
        "part": (PARTS["M-00002-of-00002.gguf"],),
        "metadata": (MODEL,),
        "imatrix": (_release()["matrix"],),
        "legacy_imatrix": (
            legacy_imatrix({"a": (2, np.arange(3)), "b": (1, np.zeros(1))}, 2, "x.txt"),
            legacy_imatrix({"a": (0, np.arange(3))}),
        ),
        "safetensors": (*SHARDS.values(), save({"s": np.array(1, np.float32), "e": np.zeros((2, 0), np.int64)})),
        "index": (text({"metadata": {"total_size": 32}, "weight_map": MAP}),),
        "config": (text(CONFIG), text(LLAMA), text({**LLAMA, "rope_scaling": YARN})),
        "tokenizer": tuple(map(text, (TOKENIZER_OBJECT, SLOW_OBJECT, EMBEDDING_OBJECT, PIECES_OBJECT))),
        "pieces": (PIECES,),
        "sums": (_release()["SHA256SUMS"], b"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n"),
        "manifest": (manifest(),),
        "attestation": (envelope(_release()["statement"]),),
        "statement": (_release()["statement"],),
        "bundle": (bundle(),),
        "derivation": (canonical(_predicate()),),
    }[target]
