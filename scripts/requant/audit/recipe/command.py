"""The command of llama-quantize that makes a quant: the options by which its mix differs from a stock mix."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from requant.formats.ggml import GGMLType
from requant.quantization.mix import FEED_FORWARD, NEWER
from requant.quantization.tensor_kinds import EMBEDDINGS, OUTPUT, kind_of

TOP = {EMBEDDINGS[0]: "--token-embedding-type", OUTPUT: "--output-tensor-type"}
LAYER = re.compile(r"((?:.*\.)?blk\.)(\d+)(\..+)")

Types = Mapping[str, GGMLType]


def command_of(quant: str, options: Sequence[str], imatrix: bool, given: Sequence[str] = ()) -> tuple[str, ...]:
    """The whole command.

    Args:
        quant: the file type's name.
        options: those of the mix.
        imatrix: whether an importance matrix is given.
        given: the options that keep some of its importances from the tensors.
    """
    matrix = ("--imatrix", "imatrix.gguf") if imatrix else ()
    return ("llama-quantize", *matrix, *given, *options, "weights.gguf", "quant.gguf", quant)


def given_to(used: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
    """The options that give importances to ``used`` tensors and keep them from the ``excluded``.

    >>> given_to(["blk.0.attn_v.weight", "blk.1.attn_v.weight"], ["blk.0.attn_k.weight"])
    ('--exclude-weights', 'blk.0.attn_k.weight')
    """
    option, names = ("--exclude-weights", excluded) if len(excluded) <= len(used) else ("--include-weights", used)
    return tuple(word for name in names for word in (option, name)) if excluded else ()


def options_of(found: Types, others: Sequence[str], free: Collection[str]) -> list[str]:
    """The options that give ``others`` the types that they have in ``found``; ``free`` are all that options can change.

    Of tensors that are named llama-quantize counts none, and may choose otherwise for those after them
    (``llama_tensor_get_type``). So all that are counted together are named together, and all layers of a kind.
    """
    counted = {_counter(name) for name in others if name not in TOP} - {None}
    named = [name for name in found if name in others or (name in free and _counter(name) in counted)]
    if EMBEDDINGS[0] in others:
        # Newer versions give the option for one embedding to the other too, unless that has one of its own.
        named += [name for name in EMBEDDINGS[1:] if name in free and name not in named]
    words: list[str] = []
    for kind in dict.fromkeys(_split(name)[::2] for name in named):
        members = [name for name in found if name in free and _split(name)[::2] == kind]
        words += _of_kind(kind, {name: found[name] for name in members})
    return words


def _of_kind(kind: tuple[str, str], types: Types) -> Iterator[str]:
    """The options for all tensors of a kind: what stands before the number of the layer, and what after it."""
    before, after = kind
    for of in dict.fromkeys(types.values()):
        layers = [_split(name)[1] for name, each in types.items() if each is of]
        if before in TOP and not after:
            yield from (TOP[before], of.name.lower())
            continue
        which = "[0-9]+" if len(layers) == len(types) else layers[0] if len(layers) == 1 else f"({'|'.join(layers)})"
        which = which if after else ""
        yield from ("--tensor-type", f"^{re.escape(before)}{which}{re.escape(after)}$={of.name.lower()}")


def _counter(name: str) -> str | None:
    """What a tensor is counted among; ``None`` of those that llama-quantize does not count."""
    kind = kind_of(name)
    if kind in NEWER.values:
        return "attn_v"
    return kind if kind in FEED_FORWARD else None


def _split(name: str) -> tuple[str, str, str]:
    """A tensor's name before the number of its layer, that, and after it."""
    match = LAYER.fullmatch(name)
    return (match[1], match[2], match[3]) if match else (name, "", "")
