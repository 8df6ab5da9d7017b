"""Ids of tokens that the converter does not name: those at which a text ends, and those that llama.cpp finds itself.

llama.cpp looks for the tokens of ``FOUND`` by their texts where no key names them, and ends at all of ``eot`` whatever
names them: ``llama_vocab::impl::load`` in ``src/llama-vocab.cpp`` of 0c1e57098bba.
"""

from collections.abc import Mapping

import numpy as np

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.special_tokens import GGML
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.formats.gguf_values import cut

EOS, ENDS = f"{GGML}eos_token_id", f"{GGML}eos_token_ids"
"""The second is Ollama's alone: it ends at each of them, and llama.cpp has no such key."""
ENDING = ("eot", "eom")
FOUND = {
    "eot": (
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>",
        "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
    ),
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
        "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
OLDER = {"prefix": "fim_pre", "suffix": "fim_suf", "middle": "fim_mid"}
"""What three of them were called before."""


def found_anyway(key: str, actual: Field, subject: Mapping[str, Field], expected: ExpectedMetadata) -> bool:
    """Whether an added id is of a token that llama.cpp takes for the same without it."""
    kind = key.removeprefix(GGML).removesuffix("_token_id")
    kind = OLDER.get(kind, kind)
    if kind not in FOUND or key == kind or actual.type is not ValueType.UINT32:
        return False
    if kind in ENDING and actual == expected.values.get(EOS):
        return True
    tokens = subject.get(f"{GGML}tokens")
    texts = tokens.value if tokens is not None and isinstance(tokens.value, list) else []
    places = [place for place, text in enumerate(texts) if text in FOUND[kind]]
    # Of several it takes any; as ends of turns they all end a text anyway.
    return actual.value in places and (kind == "eot" or len(places) == 1)


def known_ends(expected: ExpectedMetadata) -> set[int]:
    """Ids of all tokens at which the named weights say that texts end."""
    one, several = expected.values.get(EOS), expected.values.get(ENDS)
    said = {one.value} if one is not None and isinstance(one.value, int) else set()
    return expected.ends | said | (ids_of(several) if several is not None else set())


def ids_of(field: Field) -> set[int]:
    """The numbers of a list; none where it is no list of whole numbers."""
    numbers = field.value
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu":
        return set()
    return {int(number) for number in numbers}


def shown_ids(ids: set[int]) -> str:
    """Ids for people."""
    return cut(", ".join(map(str, sorted(ids))) or "(none)")
