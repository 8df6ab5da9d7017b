"""What honest publishers leave in a header, and what forgers plant there: both tables of ``docs/verdicts.md``.

Each row changes what the converter writes for a small checkpoint, and says what an audit must answer.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from requant.conversion.templates import NAMES, TEMPLATE
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.formats.sentencepiece import Kind
from support.relabelled import text
from support.small_checkpoint import FLAGS, GENERATION, SETTINGS, TOKENIZER, U32, checkpoint, item
from support.vocabularies import VOCABULARIES

Keys = dict[str, Field]
BOOL, FLOAT = ValueType.BOOL, ValueType.FLOAT32
GGML = "tokenizer.ggml."
LOOKING = {"id": 9, "content": "<|file_sep|>", "special": False, **FLAGS}
LOOKS_SPECIAL = checkpoint(
    tokenizer__json=TOKENIZER | {"added_tokens": [*TOKENIZER["added_tokens"], LOOKING]},  # type: ignore[misc]
    tokenizer_config__json=SETTINGS | {"added_tokens_decoder": SETTINGS["added_tokens_decoder"] | {"9": LOOKING}},  # type: ignore[operator]
)
BARE = {key: value for key, value in SETTINGS.items() if key != "chat_template"}
TEMPLATES = checkpoint(tokenizer_config__json=BARE, chat_template__jinja=b"x", **{
    "additional_chat_templates/rag__jinja": b"y", "additional_chat_templates/tool_use__jinja": b"z",
})  # fmt: skip
LISTED = checkpoint(tokenizer_config__json=BARE | {"chat_template": [
    {"name": name, "template": name} for name in ("default", "rag", "tool_use")
]})  # fmt: skip
PIECES = VOCABULARIES["Llama 2 with both"]
BYTE_PAIRS = checkpoint()
ENDINGS = checkpoint(generation_config__json=GENERATION | {"eos_token_id": [7, 6]})


class Row(NamedTuple):
    """``files`` are the checkpoint's, ``change`` alters the header made of it; ``source`` says where that is seen."""

    files: Mapping[str, bytes]
    change: Callable[[Keys], object]
    source: str = ""


def drop(*keys: str) -> Callable[[Keys], object]:
    """Leave keys out."""

    def change(kv: Keys) -> None:
        for key in keys:
            del kv[key]

    return change


def put(key: str, value: Field) -> Callable[[Keys], object]:
    """Give a key another value."""
    return lambda kv: kv.update({key: value})


def items(part: str, changes: Mapping[int, object]) -> Callable[[Keys], object]:
    """Give items of a vocabulary's list other values."""

    def change(kv: Keys) -> None:
        for index, value in changes.items():
            kv[f"{GGML}{part}"] = item(kv[f"{GGML}{part}"], index, value)

    return change


def all_of(*changes: Callable[[Keys], object]) -> Callable[[Keys], object]:
    """One after another."""
    return lambda kv: [change(kv) for change in changes]


def numbers(values: Iterable[float]) -> Field:
    """An array of float32."""
    return Field(ValueType.ARRAY, np.array([*values], "<f4"), FLOAT)


def ids(*values: int) -> Field:
    """An array of int32."""
    return Field(ValueType.ARRAY, np.array(values, "<i4"), ValueType.INT32)


def swap(part: str, a: int, b: int) -> Callable[[Keys], object]:
    """Exchange two items of a vocabulary's list."""

    def change(kv: Keys) -> None:
        field = kv[f"{GGML}{part}"]
        assert isinstance(field.value, (list, np.ndarray))
        one, other = field.value[a], field.value[b]
        items(part, {a: other, b: one})(kv)

    return change


OLD, REWRITERS, TRAINERS = "older converters", "tools that rewrite headers", "training tools"
PADDING = {number: int(Kind.USER_DEFINED) for number in range(9, 16)}
HONEST = {
    "`general.name`, authors, tags, address, licence, quantizer": Row(
        BYTE_PAIRS, all_of(put("general.name", text("X")), put("general.quantized_by", text("Y")), put("general.url", text("https://x.y"))), "all publishers",
    ),
    "keys of no program (`mradermacher.convert_type`)": Row(BYTE_PAIRS, put("mradermacher.convert_type", text("hf")), "mradermacher"),
    "no `general.type`": Row(BYTE_PAIRS, drop("general.type"), OLD),
    "no `general.sampling.*`": Row(BYTE_PAIRS, drop("general.sampling.temp", "general.sampling.top_k"), OLD),
    "no chat template": Row(BYTE_PAIRS, drop(TEMPLATE), f"{OLD}, where it has a file of its own"),
    "none of several templates": Row(LISTED, drop(TEMPLATE, NAMES, f"{TEMPLATE}.rag", f"{TEMPLATE}.tool_use"), OLD),
    "no templates but the default one, where the others are files": Row(TEMPLATES, drop(NAMES, f"{TEMPLATE}.rag", f"{TEMPLATE}.tool_use"), OLD),
    "names of templates in another order": Row(TEMPLATES, put(NAMES, Field(ValueType.ARRAY, ["tool_use", "rag"], ValueType.STRING)), "every converter"),
    "`[PAD…]` typed user-defined instead of unused": Row(BYTE_PAIRS, items("token_type", PADDING), OLD),
    "padding of pieces by other names and scores": Row(
        PIECES, all_of(items("tokens", {280: "[PAD1]", 281: "<dummy00002>"}), items("scores", {280: -1000.0, 281: 0.0}), items("token_type", {280: 4})), OLD,
    ),
    "a token that is special by its looks alone (`<…>`) typed user-defined": Row(LOOKS_SPECIAL, items("token_type", {9: int(Kind.USER_DEFINED)}), OLD),
    "scores beside byte pairs": Row(BYTE_PAIRS, put(f"{GGML}scores", numbers([0.0] * 16)), f"{OLD}, {REWRITERS}"),
    "merges beside pieces": Row(PIECES, put(f"{GGML}merges", Field(ValueType.ARRAY, ["a b"], ValueType.STRING)), OLD),
    "no `tokenizer.ggml.pre` beside pieces": Row(PIECES, drop(f"{GGML}pre"), OLD),
    "no `add_bos_token`, `add_eos_token` where llama.cpp assumes the same": Row(BYTE_PAIRS, drop(f"{GGML}add_bos_token", f"{GGML}add_eos_token"), OLD),
    "`add_space_prefix`, `add_sep_token` as llama.cpp assumes them": Row(
        BYTE_PAIRS, all_of(put(f"{GGML}add_space_prefix", Field(BOOL, False)), put(f"{GGML}add_sep_token", Field(BOOL, False))), REWRITERS,
    ),
    "no ids of special tokens where llama.cpp assumes the same": Row(PIECES, drop(f"{GGML}bos_token_id", f"{GGML}eos_token_id", f"{GGML}unknown_token_id"), OLD),
    "another padding token": Row(BYTE_PAIRS, put(f"{GGML}padding_token_id", Field(U32, 8)), f"{TRAINERS}, such as Unsloth"),
    "no padding token": Row(BYTE_PAIRS, drop(f"{GGML}padding_token_id"), TRAINERS),
    "a padding token where no file names one": Row(PIECES, put(f"{GGML}padding_token_id", Field(U32, 0)), TRAINERS),
    "special tokens by keys that llama.cpp has none of (`eos_token_ids`, `add_padding_token`)": Row(
        ENDINGS, all_of(put(f"{GGML}eos_token_ids", ids(6, 7)), put(f"{GGML}add_padding_token", Field(BOOL, False))), "Ollama",
    ),
    "an end of turns that is the end of texts, or that llama.cpp finds by its text": Row(
        BYTE_PAIRS, all_of(put(f"{GGML}eot_token_id", Field(U32, 6)), put(f"{GGML}eom_token_id", Field(U32, 7))), f"{OLD}, {REWRITERS}",
    ),
    "no experts, and no rope scaling, said": Row(
        BYTE_PAIRS, all_of(
            put("qwen3.expert_count", Field(U32, 0)), put("qwen3.expert_used_count", Field(U32, 0)),
            put("qwen3.rope.scaling.type", text("none")),
        ), REWRITERS,
    ),
    "a whole number of `general.sampling.*` in another type": Row(BYTE_PAIRS, put("general.sampling.top_k", Field(U32, 20)), "`--override-kv`"),
    "`cls_token_id`": Row(BYTE_PAIRS, put(f"{GGML}cls_token_id", Field(U32, 6)), OLD),
    "`rope.dimension_count`, `vocab_size` said or not": Row(PIECES, drop("llama.rope.dimension_count", "llama.vocab_size"), OLD),
    "rope base not said where llama.cpp assumes it": Row(PIECES, drop("llama.rope.freq_base"), OLD),
}  # fmt: skip
"""All harmless, and said."""

TAMPERED = {
    "a word of the chat template": Row(BYTE_PAIRS, lambda kv: kv.update({TEMPLATE: text(str(kv[TEMPLATE].value).replace("use", "ignore"))})),
    "the template's last line end": Row(BYTE_PAIRS, lambda kv: kv.update({TEMPLATE: text(str(kv[TEMPLATE].value).rstrip())})),
    "one more template": Row(BYTE_PAIRS, put(f"{TEMPLATE}.tool_use", text("x"))),
    "the default template gone, another one there": Row(TEMPLATES, drop(TEMPLATE)),
    "one of several templates gone": Row(TEMPLATES, drop(f"{TEMPLATE}.rag")),
    "all templates but the default one gone, which one file has": Row(LISTED, drop(NAMES, f"{TEMPLATE}.rag", f"{TEMPLATE}.tool_use")),
    "two tokens swapped": Row(BYTE_PAIRS, swap("tokens", 3, 4)),
    "two pieces swapped": Row(PIECES, swap("tokens", 260, 261)),
    "padding that becomes a token": Row(BYTE_PAIRS, items("tokens", {15: "<|x|>"})),
    "padding that becomes a special token": Row(BYTE_PAIRS, items("token_type", {15: int(Kind.CONTROL)})),
    "a special token typed as an ordinary one": Row(BYTE_PAIRS, items("token_type", {7: int(Kind.NORMAL)})),
    "a special token typed user-defined": Row(BYTE_PAIRS, items("token_type", {7: int(Kind.USER_DEFINED)})),
    "a merge": Row(BYTE_PAIRS, items("merges", {1: "a bc"})),
    "scores of two pieces swapped": Row(PIECES, swap("scores", 259, 261)),
    "scores of all pieces gone": Row(PIECES, drop(f"{GGML}scores")),
    "the kind of tokenizer": Row(PIECES, put(f"{GGML}model", text("gpt2"))),
    "`tokenizer.ggml.pre` set to default": Row(BYTE_PAIRS, put(f"{GGML}pre", text("default"))),
    "`tokenizer.ggml.pre` gone": Row(BYTE_PAIRS, drop(f"{GGML}pre")),
    "the end of texts": Row(BYTE_PAIRS, put(f"{GGML}eos_token_id", Field(U32, 6))),
    "the end of texts, of pieces": Row(PIECES, put(f"{GGML}eos_token_id", Field(U32, 1))),
    "the end of texts gone": Row(BYTE_PAIRS, drop(f"{GGML}eos_token_id")),
    "an end of turns": Row(BYTE_PAIRS, put(f"{GGML}eot_token_id", Field(U32, 8))),
    "the ends of texts in Ollama (`eos_token_ids`)": Row(ENDINGS, put(f"{GGML}eos_token_ids", ids(7, 3))),
    "a number of experts": Row(BYTE_PAIRS, put("qwen3.expert_count", Field(U32, 8))),
    "a token put before every text": Row(BYTE_PAIRS, put(f"{GGML}add_bos_token", Field(BOOL, True))),
    "no token before a text of pieces": Row(PIECES, put(f"{GGML}add_bos_token", Field(BOOL, False))),
    "a space before every text": Row(BYTE_PAIRS, put(f"{GGML}add_space_prefix", Field(BOOL, True))),
    "the rope base": Row(BYTE_PAIRS, put("qwen3.rope.freq_base", Field(FLOAT, 5e6))),
    "the rope base gone": Row(BYTE_PAIRS, drop("qwen3.rope.freq_base")),
    "a rope scaling": Row(BYTE_PAIRS, put("qwen3.rope.scaling.type", text("yarn"))),
    "the context length": Row(BYTE_PAIRS, put("qwen3.context_length", Field(U32, 8192))),
    "the norms' epsilon": Row(BYTE_PAIRS, put("qwen3.attention.layer_norm_rms_epsilon", Field(FLOAT, 1e-5))),
    "a sliding window": Row(BYTE_PAIRS, put("qwen3.attention.sliding_window", Field(U32, 128))),
    "a pooling": Row(BYTE_PAIRS, put("qwen3.pooling_type", Field(U32, 1))),
    "the sampling": Row(BYTE_PAIRS, put("general.sampling.temp", Field(FLOAT, 2.0))),
    "more sampling": Row(BYTE_PAIRS, put("general.sampling.min_p", Field(FLOAT, 0.5))),
    "the architecture": Row(BYTE_PAIRS, put("general.architecture", text("qwen2"))),
}  # fmt: skip
"""All changed: evidence."""


def tables() -> str:
    """Both tables as they stand in the documentation."""
    honest = [f"| {name} | {row.source} |" for name, row in HONEST.items()]
    lines = ["| harmless, and said | seen in files of |", "|---|---|", *honest, ""]
    tampered = [name[0].upper() + name[1:] if name[0] != "`" else name for name in TAMPERED]
    return "\n".join(
        [*lines, "What is `changed`, each planted alone by the tests:", "", *(f"- {name}" for name in tampered)]
    )
