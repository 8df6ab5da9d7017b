"""What llama.cpp's converter would write for a checkpoint of a known layout: the keys in its order, and the bytes.

The order of keys follows ``TextModel.set_gguf_parameters`` and ``_set_vocab_gpt2`` in ``conversion/base.py`` and
``LlamaModel`` in ``conversion/llama.py``; that of tensors ``ModelBase.index_tensors``, all of llama.cpp 0c1e57098bba.
Names, sampling, special tokens and chat templates are left to upstream's own ``gguf-py``, which needs no torch.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from requant.conversion.expected import ExpectedMetadata, belongs
from requant.conversion.layout import CONFIG, Origin, Plan, plan, read_config
from requant.conversion.metadata import expected_metadata
from requant.conversion.pieces import CODE_LLAMA_ROWS
from requant.conversion.special_tokens import GGML, TOKENIZER
from requant.conversion.templates import SETTINGS, TEMPLATE, read_object
from requant.conversion.vocabulary import GRANITE_ROWS
from requant.conversion.weights import rounded
from requant.formats.ggml import Bytes, GGMLType, ValueType
from requant.formats.gguf import Field, quoted
from requant.formats.safetensors import Checkpoint, StoredTensor, rows_as_float32
from requant.ground.errors import FormatError, UnsupportedError

COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
"""The llama.cpp whose converter is followed; of no other is known that it writes the same."""

BF16_FILE = 32
"""``LlamaFileType.MOSTLY_BF16``."""

PARAMETERS = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.causal", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.freq_base", "attention.layer_norm_rms_epsilon",
    "attention.key_length", "attention.value_length",
)  # fmt: skip
LAST_PARAMETERS = {
    "llama": ("vocab_size", "rope.dimension_count"),
    "qwen2": ("pooling_type",),
    "qwen3": ("pooling_type",),
}
"""What stands behind the file type."""
HEAD_DIM_BY_DEFAULT = ("llama",)
"""Values of model_type for which transformers fills in a head_dim, so that its length is always written."""

# What gguf-py answers, whether it is known here or not.
ASKED = ("general.sampling.", TEMPLATE, f"{GGML}pre", f"{GGML}normalizer.")
ASKED_ENDINGS = ("_token_id", "add_bos_token", "add_eos_token", "add_sep_token")
AS_THEY_ARE = (
    "PreTrainedTokenizerFast", "TokenizersBackend", "Qwen2Tokenizer", "Qwen2TokenizerFast", "GPT2Tokenizer",
    "GPT2TokenizerFast",
)  # fmt: skip
"""Tokenizers that transformers makes of a tokenizer.json without changing what it does to ordinary text.

The second is the first as transformers 5 calls it, whose files the converter's transformers 4 cannot read.
"""

STEP = 1 << 22
"""About how many bytes of a tensor are read at once."""


@dataclass(frozen=True)
class Conversion:
    """What is to be written, in upstream's order.

    ``parameters``, ``tokenizer`` and ``last`` are keys with their values, between which ``gguf-py`` puts its own.
    ``pre`` says whether the pre-tokenizer has yet to be recognised from the tokenizer.json. ``tensors`` are the names
    in the GGUF.
    """

    plan: Plan
    stored: Mapping[str, StoredTensor]
    parameters: tuple[tuple[str, Field], ...]
    tokenizer: tuple[tuple[str, Field], ...]
    last: tuple[tuple[str, Field], ...]
    pre: bool
    tensors: tuple[str, ...]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor in ggml's order."""
        return self.plan.computed[name].shape if name in self.plan.computed else self.plan.tensors[name].shape

    def type(self, name: str) -> GGMLType:
        """The type that a tensor gets."""
        return GGMLType.F32 if name in self.plan.computed else self.plan.tensors[name].type

    def nbytes(self, name: str) -> int:
        """How many bytes a tensor takes."""
        return prod(self.shape(name)) * self.type(name).type_size

    def data(self, name: str) -> Iterator[Bytes]:
        """The bytes of a tensor, piece by piece: uint8 ``[bytes]``, each of about ``STEP`` bytes.

        Raises:
            FormatError, SourceError: when they cannot be read.
        """
        if name in self.plan.computed:
            yield self.plan.computed[name].astype("<f4").view(np.uint8)
        else:
            origin = self.plan.tensors[name]
            yield from _converted(self.stored[origin.name], origin)


def conversion(files: Mapping[str, bytes], checkpoint: Checkpoint) -> Conversion:
    """Work out what the converter would write.

    Args:
        files: contents by name, as of ``metadata.read_texts``.
        checkpoint: its weights.

    Raises:
        UnsupportedError: saying what about the checkpoint is not known well enough to write the same bytes.
        FormatError: naming the file, and the key or tensor in it, that cannot be.
    """
    config = read_config(files[CONFIG]) if CONFIG in files else {}
    expected = expected_metadata(files)
    if checkpoint.unnamed:
        raise UnsupportedError(
            f"{checkpoint.shown} holds {quoted(checkpoint.unnamed[0])}, which its index does not name: the converter "
            "refuses that, correct the index"
        )
    found = plan(config, checkpoint.tensors)
    _require_stored(found, checkpoint)
    pre = _require_known(expected, files)
    head_dim = config.get("model_type") in HEAD_DIM_BY_DEFAULT or config.get("head_dim") is not None
    file_type = ("general.file_type", Field(ValueType.UINT32, BF16_FILE))
    values = expected.values if head_dim else _without_lengths(expected, found.architecture)
    tokens = [f"{GGML}{key}" for key in ("model", "pre", "tokens", "scores", "token_type")]
    return Conversion(
        found,
        checkpoint.tensors,
        (*_pick(values, found.architecture, PARAMETERS), file_type,
         *_pick(values, found.architecture, LAST_PARAMETERS[found.architecture])),
        tuple((key, values[key]) for key in (f"{GGML}add_space_prefix", *tokens) if key in values),
        _last(values, found),
        pre,
        (*found.computed, *_in_order(found, checkpoint)),
    )  # fmt: skip


def _last(values: Mapping[str, Field], found: Plan) -> tuple[tuple[str, Field], ...]:
    """What ``LlamaModel.set_vocab`` adds behind everything else."""
    keys = {CODE_LLAMA_ROWS: f"{GGML}eot_token_id", GRANITE_ROWS: f"{GGML}add_bos_token"}
    key = keys.get(found.vocab, "") if found.architecture == "llama" else ""
    return ((key, values[key]),) if key in values else ()


def _pick(values: Mapping[str, Field], prefix: str, keys: Sequence[str]) -> list[tuple[str, Field]]:
    return [(f"{prefix}.{key}", values[f"{prefix}.{key}"]) for key in keys if f"{prefix}.{key}" in values]


def _without_lengths(expected: ExpectedMetadata, prefix: str) -> dict[str, Field]:
    lengths = {f"{prefix}.attention.{kind}_length" for kind in ("key", "value")}
    return {key: value for key, value in expected.values.items() if key not in lengths}


def _require_stored(found: Plan, checkpoint: Checkpoint) -> None:
    for origin in found.tensors.values():
        stored = checkpoint.tensors[origin.name]
        if stored.unchecked:
            raise UnsupportedError(stored.unchecked)
        wanted = tuple(reversed(origin.shape))
        if stored.shape != wanted:
            raise FormatError(
                f"{stored.file.name} holds {quoted(origin.name)} in the shape {list(stored.shape)}, {CONFIG} means "
                f"{list(wanted)}: get both from one place"
            )


def _require_known(expected: ExpectedMetadata, files: Mapping[str, bytes]) -> bool:
    """Refuse what is uncertain and not asked of gguf-py; say whether the pre-tokenizer has yet to be recognised."""
    for key, why in expected.unknown.items():
        if not belongs(key, *ASKED) and not key.startswith(f"{TEMPLATE}.") and not key.endswith(ASKED_ENDINGS):
            raise UnsupportedError(f"{key} is uncertain: {why}")
    unsure = sorted(set().union(*expected.unsure.values()))
    if unsure:
        raise UnsupportedError(f"token {unsure[0]} is uncertain: the tokenizer's files disagree about it")
    pre = f"{GGML}pre" in expected.unknown
    if pre and (reason := changed_by_transformers(files)):
        raise UnsupportedError(reason)
    return pre


def changed_by_transformers(files: Mapping[str, bytes]) -> str | None:
    """Why the tokenizer may do other than its tokenizer.json says, by which its pre-tokenizer is recognised."""
    tokenizer, settings = read_object(files, TOKENIZER), read_object(files, SETTINGS) or {}
    if tokenizer is None:
        return f"{TOKENIZER} is missing, by which the pre-tokenizer is recognised"
    if settings.get("tokenizer_class") not in AS_THEY_ARE:
        return f"what transformers makes of a {str(settings.get('tokenizer_class'))[:64]!r} is not known to requant"
    # Wherever it stands in it: pre-tokenizers are nested.
    if settings.get("add_prefix_space") or '"add_prefix_space": true' in json.dumps(tokenizer.get("pre_tokenizer")):
        return "the tokenizer adds a space before texts"
    ids = {str(token.get("id")) for token in tokenizer.get("added_tokens", []) if isinstance(token, dict)}
    more = settings.get("added_tokens_decoder")
    if isinstance(more, dict) and not more.keys() <= ids:
        return f"{SETTINGS} adds tokens that {TOKENIZER} lacks"
    return None


def _in_order(found: Plan, checkpoint: Checkpoint) -> list[str]:
    """Shard by shard, each by name, as ``SafetensorsLocal`` gives them."""
    place = {origin.name: name for name, origin in found.tensors.items()}
    by_file = {name: tensor.file.name for name, tensor in checkpoint.tensors.items()}
    return [place[name] for name in sorted(place, key=lambda name: (by_file[name], name))]


def _converted(stored: StoredTensor, origin: Origin) -> Iterator[Bytes]:
    """A stored tensor as the GGUF holds it, in whole rows; of a reordered one, in whole heads."""
    count = origin.shape[0] if len(origin.shape) == 1 else origin.shape[1]
    unit = count // origin.heads if origin.heads else 1
    width = stored.columns if len(origin.shape) > 1 else 1
    step = count if len(origin.shape) == 1 else max(unit, STEP // (4 * width) // unit * unit)
    for first in range(0, count, step):
        last = min(first + step, count)
        order = None if origin.heads is None else origin.rows(np.arange(first, last)) - first
        if stored.dtype == "BF16" and origin.type is GGMLType.BF16:
            # The same two bytes; only their order may change.
            data = stored.file.read(stored.offset + 2 * first * width, 2 * (last - first) * width)
            rows = np.frombuffer(data, np.uint8).reshape(last - first, -1)
            yield (rows if order is None else rows[order]).reshape(-1)
            continue
        values = rows_as_float32(stored, slice(first, last) if len(origin.shape) > 1 else slice(0, 1))
        values = values if order is None else values[:, order] if len(origin.shape) == 1 else values[order]
        yield _as_bytes(values, origin.type)


def _as_bytes(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], kind: GGMLType) -> Bytes:
    if kind is GGMLType.F32:
        return np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)
    bits = rounded(values, GGMLType.BF16).reshape(-1).view(np.uint32) >> np.uint32(16)
    return bits.astype("<u2").view(np.uint8)
