"""Before a quant is compared: what of it can be, and why the rest cannot; and what of the weights it lacks."""

from collections.abc import Mapping
from math import prod

from requant.audit.weights.fused import holder, parts_of, unfused
from requant.audit.weights.material import Material
from requant.audit.weights.tensor import TensorAudit
from requant.audit.weights.tied import OUTPUT, TiedWeights, of_gguf
from requant.conversion.layout import ROPE_FREQS, WITH_DENSE
from requant.formats.ggml import COPIED, DERIVED, GGMLType, Indices
from requant.formats.gguf import Tensor
from requant.quantization.verdict import Verdict

DENSE = ("dense_2.weight", "dense_3.weight")
"""Modules that work on the output of ``WITH_DENSE``, from folders of their own: they are converted if asked for."""


def missing(material: Material) -> tuple[str, ...]:
    """The weights that the quant lacks; an output layer that is the embedding once more is none of them."""
    names = {tensor.name for tensor in material.header.tensors}
    lost = material.weights.shapes.keys() - names
    # Of what the quant stores in parts, all of them, nothing was compared, and each says so.
    lost = {name for name in lost if not (parts := parts_of(name)) or not names.issuperset(parts)}
    tied = unfused(material.weights)
    other = {OUTPUT} if isinstance(tied, TiedWeights) and tied.differs else set()
    return tuple(sorted(lost | other))


def bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without ones at its end, which llama-quantize does not write.

    >>> bare((64, 1)), bare((1,))
    ((64,), (1,))
    """
    return shape if len(shape) == 1 or shape[-1] != 1 else bare(shape[:-1])


def prepared(material: Material, tensor: Tensor, selected: Mapping[str, Indices] | None) -> TensorAudit:
    """Decide whether and which rows of a tensor can be checked; ``reason`` says why not."""
    audit, name = TensorAudit(tensor), tensor.name
    shape = material.weights.shapes.get(name)
    importance = material.importances.get(name)
    if shape is None:
        audit.reason, audit.verdict = _not_there(material, name)
    elif not tensor.type.is_known:
        audit.reason = f"is of type {int(tensor.type)}, which llama.cpp does not read: nobody knows where it ends"
    elif bare(shape) != bare(tensor.shape):
        audit.reason = f"has the shape {list(tensor.shape)}, the weights have {list(shape)}"
        audit.verdict = Verdict.MISMATCH
    elif (why := material.weights.unchecked(name)) or (why := _underivable(tensor.type, material.weights.plain(name))):
        audit.reason = why
    elif importance is not None and importance.size != (wanted := tensor.shape[0] * prod(tensor.shape[2:])):
        columns = f"{importance.size:,} columns, the tensor has {wanted:,}"
        audit.reason = f"its importances are of {columns}, so it was made with another importance matrix"
    elif selected is not None and len(tensor.shape) > 1:
        audit.selected = selected[name]
    if audit.reason is None:
        # A checkpoint in F16 is what others are made of.
        audit.coarse = material.weights.plain(name) is GGMLType.F16 and of_gguf(material.weights)
    return audit


def _not_there(material: Material, name: str) -> tuple[str, Verdict]:
    """What it means that the weights lack a tensor."""
    if name == ROPE_FREQS and of_gguf(material.weights):
        why = "the named weights do not have it, as older converters did not compute it: a checkpoint would tell"
        return why, Verdict.UNCHECKED
    if fused := holder(name, material.weights.shapes):
        return f"the named weights store it within {fused}: name weights that store it apart", Verdict.UNCHECKED
    architecture = material.header.metadata.get("general.architecture")
    if name in DENSE and architecture is not None and architecture.value in WITH_DENSE:
        return "is of a module beside the model, which --sentence-transformers-dense-modules adds", Verdict.UNCHECKED
    return "the named weights have no such tensor", Verdict.MISMATCH


def _underivable(kind: GGMLType, plain: GGMLType) -> str | None:
    """Why nothing of this type can be made of weights in another; what is copied need not be."""
    if kind is plain:
        return None
    if plain in COPIED and plain is not GGMLType.MXFP4:
        return f"the weights hold it as {plain.name}, and only a copy of that is checked"
    return None if kind in DERIVED else f"{kind.name} is not derived by this version"
