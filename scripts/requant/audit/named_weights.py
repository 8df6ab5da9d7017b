"""The named weights of an audit, opened: where their rows come from, and what metadata and types they would give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from requant.audit.metadata.comparison import expected_from_gguf, expected_from_upstream
from requant.audit.subject.model_file import model_file, require_model
from requant.audit.upstream import Upstream, ask
from requant.audit.weights.fused import FusedWeights, as_fused_by
from requant.audit.weights.tied import EMBEDDING, OUTPUT, as_stored_by
from requant.conversion.expected import ExpectedMetadata
from requant.conversion.layout import CONFIG, plan, read_config
from requant.conversion.metadata import TEXT_LIMIT, expected_metadata, read_texts
from requant.conversion.sources import ROPE_TOLERANCE, Layout
from requant.conversion.special_tokens import GGML, TOKENIZER
from requant.conversion.weights import CheckpointWeights, GGUFWeights, Weights
from requant.conversion.writer import changed_by_transformers
from requant.formats.ggml import GGMLType, ValueType
from requant.formats.gguf import Field, Header
from requant.formats.gguf_parts import models, part_names, read_gguf
from requant.formats.imatrix import is_imatrix
from requant.formats.ranged import read_whole
from requant.formats.safetensors import SUFFIX, Checkpoint, read_checkpoint
from requant.ground.errors import FormatError, PlaceError, UnsupportedError
from requant.places.place import Place, named, open_place
from requant.places.remote import Network
from requant.quantization.mix import Model

PRE = f"{GGML}pre"


@dataclass(frozen=True)
class NamedWeights:
    """Weights and what follows from them.

    ``form`` is ``GGUF`` or ``checkpoint``. ``types`` are those before quantization, by tensor. ``expected`` is ``None``
    where the metadata cannot be derived, and ``unknown`` says why. ``texts`` are a checkpoint's small files by name,
    ``files`` the names of those that hold the tensors. ``notes`` are sentences about what is odd in its files, and
    changes nothing.
    """

    place: Place
    form: str
    tensors: Weights
    types: Mapping[str, GGMLType]
    model: Model
    expected: ExpectedMetadata | None
    unknown: str | None
    texts: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def open_weights(text: str, network: Network | None = None, upstream: Upstream | None = None) -> NamedWeights:
    """Open weights: a checkpoint, or a BF16, F16 or F32 GGUF with all its parts; close their ``place`` afterwards.

    Args:
        text: a path, a place as in ``requant.places.place``, or ``owner/name[@revision]`` on the Hugging Face Hub.
        network: how to get there.
        upstream: how upstream's converter may be asked about models that requant does not know.

    Raises:
        SourceError, FormatError: when they cannot be had or are damaged.
        PlaceError: when an importance matrix is named.
        UnsupportedError: when it is no language model, or nobody who may be asked knows how such a model is converted.
    """
    place = open_place(named(text), network)
    try:
        checkpoint = any(name == CONFIG or name.endswith(SUFFIX) for name in place.names)
        if place.file is not None and place.file.endswith(".gguf"):
            return _gguf(place, place.file)
        if models(place.names) and (place.quant is not None or not checkpoint):
            return _gguf(place, model_file(place))
        return _checkpoint(place, upstream or Upstream())
    except BaseException:
        place.close()
        raise


def _gguf(place: Place, name: str) -> NamedWeights:
    file, header = read_gguf(place, name)
    if is_imatrix(header):
        raise PlaceError(
            f"{file.name} is an importance matrix and no weights: name a checkpoint, or an unquantized GGUF"
        )
    require_model(header)
    types = {tensor.name: tensor.type for tensor in header.tensors}
    return NamedWeights(
        place, "GGUF", GGUFWeights(file, header), types, Model.of(header.metadata), expected_from_gguf(header), None,
        files=tuple(part_names(name)) if header.parts else (name,),
    )  # fmt: skip


def _checkpoint(place: Place, upstream: Upstream) -> NamedWeights:
    if CONFIG not in place.names:
        raise PlaceError(f"{place.shown} holds no {CONFIG}: name the folder or repository of a checkpoint, or a GGUF")
    stored = read_checkpoint(place, place.file)
    config = read_config(read_whole(place.open(CONFIG), TEXT_LIMIT, "a config.json"))
    try:
        if upstream.ranks:
            raise UnsupportedError("the quant ranks texts, and what it has for that is not known to requant")
        made = plan(config, stored.tensors, stored.unnamed)
    except UnsupportedError as error:
        return _asked(place, stored, upstream, str(error))
    weights = CheckpointWeights(stored, made, ROPE_TOLERANCE)
    model = Model(made.architecture, made.layers, made.heads, made.kv_heads)
    expected, unknown, texts = None, None, {}
    try:
        texts = read_texts(place)
        expected = expected_metadata(texts)
    except (UnsupportedError, FormatError) as error:
        unknown = str(error)
    return NamedWeights(
        place, "checkpoint", weights, _types(made), model, expected, unknown, texts, stored.notes, stored.files
    )


def _asked(place: Place, stored: Checkpoint, upstream: Upstream, reason: str) -> NamedWeights:
    """A checkpoint as upstream's converter would make a GGUF of it."""
    found = ask(upstream, place, stored, reason)
    weights = CheckpointWeights(stored, found.layout, ROPE_TOLERANCE)
    model = Model("", 0, 0, 0) if found.header is None else Model.of(found.header.metadata)
    expected = None if found.header is None else expected_from_upstream(found.header)
    return NamedWeights(
        place,
        "checkpoint",
        weights,
        _types(found.layout),
        model,
        expected,
        found.unknown,
        {},
        stored.notes,
        stored.files,
    )


def _types(layout: Layout) -> dict[str, GGMLType]:
    types = {name: sources.type for name, sources in layout.tensors.items()}
    types |= dict.fromkeys(layout.computed, GGMLType.F32)
    return types | {name: each.type for name, each in layout.untold.items()}


def as_in(subject: Header, weights: NamedWeights) -> NamedWeights:
    """The weights as ``subject`` stores them: the embedding and the output layer once or twice, and some as one."""
    tied = as_stored_by(subject, weights.tensors)
    types = weights.types if tied is weights.tensors else {OUTPUT: weights.types[EMBEDDING], **weights.types}
    tensors = as_fused_by({tensor.name for tensor in subject.tensors}, tied)
    parts = tensors.parts if isinstance(tensors, FusedWeights) else {}
    fused = {name: types[first] for name, (first, *_) in parts.items()}
    return replace(weights, tensors=tensors, types={**fused, **types})


def with_pre_tokenizer(weights: NamedWeights, recognise: Callable[[bytes], str | None]) -> NamedWeights:
    """The weights with what upstream calls their pre-tokenizer, where only running the tokenizer can tell."""
    expected, tokenizer = weights.expected, weights.texts.get(TOKENIZER)
    if expected is None or PRE not in expected.unknown or tokenizer is None or changed_by_transformers(weights.texts):
        return weights
    if (name := recognise(tokenizer)) is None:
        return weights
    unknown = {key: why for key, why in expected.unknown.items() if key != PRE}
    values = {**expected.values, PRE: Field(ValueType.STRING, name)}
    return replace(weights, expected=replace(expected, values=values, unknown=unknown))
