"""Small checkpoints without weights, one for every way in which the converter comes to a vocabulary of pieces."""

import json
import struct
from collections.abc import Iterable
from typing import Any

from requant.formats.sentencepiece import Kind, Piece

ROWS = 288
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = Kind
BYTES = [Piece(f"<0x{number:02X}>", 0.0, BYTE) for number in range(256)]
WORDS = [Piece(text, -float(number), NORMAL) for number, text in enumerate(("\u2581a", "b", "\u2581ab", "\u4f60", "c"))]
PIECES = [
    Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL), *BYTES, *WORDS,
    Piece("<user>", 0.1, USER_DEFINED), Piece("<|mine|>", -3.25, USER_DEFINED), Piece("gone", -1e-30, UNUSED),
]  # fmt: skip
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 64,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": ROWS,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MISTRAL = {**CONFIG, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "rope_theta": 1e6}
QWEN = {**CONFIG, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
SETTINGS: dict[str, Any] = {
    "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
    "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None, "chat_template": "{{ messages }}", "legacy": False,
    "added_tokens_decoder": {
        str(number): {"content": text, "special": True, "normalized": False, "lstrip": False, "rstrip": False,
                      "single_word": False}
        for number, text in enumerate(("<unk>", "<s>", "</s>"))
    },
}  # fmt: skip
MORE = {"content": "\u2581<x> y", "special": False, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}  # fmt: skip


def model_bytes(pieces: Iterable[Piece]) -> bytes:
    """A ``tokenizer.model`` that SentencePiece loads: its pieces, and that bytes stand for what is unknown."""
    return b"".join(_part(1, _piece(piece)) for piece in pieces) + _part(2, b"\x18\x02\x98\x02\x01")


def _piece(piece: Piece) -> bytes:
    return _part(1, piece.text.encode()) + b"\x15" + struct.pack("<f", piece.score) + bytes((0x18, piece.kind))


def _part(number: int, data: bytes) -> bytes:
    length = bytearray()
    size = len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + data


def fast(added: Iterable[tuple[int, str, bool]] = (), **changes: Any) -> dict[str, Any]:
    """A tokenizer.json as transformers makes one of such a model: byte pairs, and bytes for what is unknown."""
    ids = {piece.text: number for number, piece in enumerate(PIECES)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True), *added]
    start, a, b = (
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        *({"Sequence": {"id": name, "type_id": 0}} for name in "AB"),
    )
    return {
        "version": "1.0", "truncation": None, "padding": None, "pre_tokenizer": None,
        "added_tokens": [{"id": number, "content": text, "special": special, **flags} for number, text, special in tokens],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ]},
        "post_processor": {
            "type": "TemplateProcessing", "single": [start, a], "pair": [start, a, start, b],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": ids,
            "merges": ["\u2581a b"],
        },
    } | changes  # fmt: skip


def files(**contents: Any) -> dict[str, bytes]:
    """Files by name (with __ for the dot); ``None`` leaves one out, objects become JSON."""
    found = {"config__json": CONFIG, "tokenizer_config__json": SETTINGS, **contents}
    return {
        name.replace("__", "."): content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in found.items()
        if content is not None
    }


MODEL = model_bytes(PIECES)
DECODER = SETTINGS["added_tokens_decoder"] | {"270": MORE, "271": {**MORE, "content": "<|fim|>"}, "999": MORE}
SHORT = {**CONFIG, "vocab_size": 100}
EOS = {"SpecialToken": {"id": "</s>", "type_id": 0}}
ENDED = fast()["post_processor"] | {"single": [*fast()["post_processor"]["single"], EOS]}
VOCABULARIES = {
    "Llama 2": files(tokenizer__model=MODEL),
    "Llama 2 with both": files(tokenizer__model=MODEL, tokenizer__json=fast()),
    "Mistral": files(tokenizer__model=MODEL, config__json=MISTRAL, tokenizer__json=fast(), generation_config__json={"temperature": 0.3}),
    "Qwen2 with pieces": files(tokenizer__model=MODEL, config__json=QWEN),
    "no settings": files(tokenizer__model=MODEL, tokenizer_config__json=None),
    "empty settings": files(tokenizer__model=MODEL, tokenizer_config__json={}, chat_template__jinja=b"x"),
    "added_tokens.json": files(tokenizer__model=MODEL, added_tokens__json={"[INST]": 268, "\u2581x": 4, "far": 9999}),
    "added_tokens_decoder": files(tokenizer__model=MODEL, added_tokens__json={"<z>": 270}, tokenizer_config__json=SETTINGS | {"added_tokens_decoder": DECODER}),
    "fewer rows than pieces": files(tokenizer__model=MODEL, config__json=SHORT, tokenizer__json=fast()),
    "prefix space": files(tokenizer__model=MODEL, tokenizer_config__json=SETTINGS | {"add_prefix_space": False}),
    "CodeLlama": files(tokenizer__model=MODEL, config__json={**CONFIG, "vocab_size": 32016}),
    "as many rows as Granite's": files(tokenizer__model=MODEL, config__json={**CONFIG, "vocab_size": 49152}),
    "another end": files(tokenizer__model=MODEL, tokenizer__json=fast([(270, "<|im_end|>", True)]), tokenizer_config__json=SETTINGS | {"eos_token": {"content": "<|im_end|>"}}, config__json={**CONFIG, "eos_token_id": [2, 270]}),
    "ends added": files(tokenizer__model=MODEL, tokenizer__json=fast(post_processor=ENDED), tokenizer_config__json=SETTINGS | {"add_eos_token": True, "eos_token": {"content": "</s>"}}),
    "tokenizer.json alone": files(tokenizer__json=fast()),
    "tokenizer.json with more": files(tokenizer__json=fast([(267, "<|user|>", True), (268, "\u2581<x>", False)]), tokenizer_config__json=SETTINGS | {"tokenizer_class": "LlamaTokenizerFast", "additional_special_tokens": ["<|user|>"], "pad_token": "</s>"}),
    "PreTrainedTokenizerFast": files(tokenizer__json=fast([(267, "<|user|>", True)]), tokenizer_config__json=SETTINGS | {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}, config__json={**CONFIG, "pad_token_id": 267}),
}  # fmt: skip
"""Files of checkpoints by what is special about them."""
