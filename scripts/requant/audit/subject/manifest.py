"""What our manifest beside a quant claims, held against what was found; every contradiction is evidence.

A claim that nothing was found of is passed over, and so is nowhere said to be right.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.recipe.imatrix import HashedImatrix
from requant.audit.subject.subject import Subject
from requant.audit.weights.sweep import Sweep
from requant.conversion.metadata import EXISTENCE
from requant.documents.consistency import disagreements
from requant.documents.entries import File
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import Manifest, QuantEntry
from requant.documents.pins import ToolchainPin
from requant.formats.ggml import Arithmetic
from requant.formats.gguf import Tensor
from requant.formats.gguf_values import cut
from requant.formats.weights_root import TensorEntry
from requant.ground.digests import Known, digest_bytes
from requant.ground.text import listed, shown
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.verdict import Verdict

FILE_TYPE_NAMES = {file_type.name for file_type in FILE_TYPES.values()}


def compare_claims(
    subject: Subject, weights: NamedWeights, sweep: Sweep, imatrix: HashedImatrix | None, pin: ToolchainPin
) -> list[MetadataFinding]:
    """Where the subject's manifest, if it has one, contradicts itself or what was found.

    ``imatrix`` is the importance matrix that was used, ``pin`` the llama.cpp that was derived with.
    """
    manifest = subject.manifest
    if manifest is None:
        return []
    name = PurePosixPath(subject.name).name
    return [
        *_with_itself(manifest),
        *(each for quant in manifest.quants if quant.file.name == name for each in _of_quant(quant, subject, sweep)),
        *_of_tools(manifest, sweep, pin),
        *([] if imatrix is None else _of_matrix(manifest, imatrix)),
        *_of_weights(manifest, weights, sweep),
    ]


def _with_itself(manifest: Manifest) -> Iterator[MetadataFinding]:
    found = list(disagreements(manifest))
    for each in found[:1]:
        more = f", and so at {len(found) - 1:,} more places" if len(found) > 1 else ""
        sentence = f"the manifest contradicts itself ({cut(each.where)}{more})"
        yield MetadataFinding(cut(each.where), Grade.SERIOUS, cut(each.expected), cut(each.actual), sentence)


def _of_quant(quant: QuantEntry, subject: Subject, sweep: Sweep) -> Iterator[MetadataFinding]:
    yield from _differ("size", quant.file.size, subject.file.size)
    label = subject.inferred.file_type_name
    if {label, quant.type} <= FILE_TYPE_NAMES:
        yield from _differ("type", quant.type, label)
    found = {tensor.name: _entry(tensor, sweep.digests.get(tensor.name)) for tensor in subject.header.tensors}
    yield from _tensors("tensors", quant.tensors, found)


def _entry(tensor: Tensor, sha256: str | None) -> TensorEntry:
    return TensorEntry(tensor.name, tensor.type.name, tensor.shape, sha256 or "")


def _tensors(
    what: str, claimed: Iterable[TensorEntry], found: Mapping[str, TensorEntry], *, all_of_them: bool = True
) -> Iterator[MetadataFinding]:
    """One finding for all tensors that are not as claimed; a digest that was not computed is passed over."""
    wanted = {tensor.name: tensor for tensor in claimed}
    names = wanted.keys() | found.keys() if all_of_them else wanted.keys() & found.keys()
    pairs = {name: (wanted.get(name), found.get(name)) for name in sorted(names)}
    odd = [name for name, (one, other) in pairs.items() if not _alike(one, other)]
    if odd:
        expected, actual = (_shown(side) for side in pairs[odd[0]])
        key, names_of = f"{MANIFEST}: {what}", listed(odd)
        sentence = f"the manifest's {what} are not those that were found: {names_of}"
        yield MetadataFinding(key, Grade.SERIOUS, expected, actual, sentence)


def _alike(one: TensorEntry | None, other: TensorEntry | None) -> bool:
    if one is None or other is None:
        return False
    digests = (one.sha256, other.sha256)
    return (one.type, one.shape) == (other.type, other.shape) and ("" in digests or digests[0] == digests[1])


def _shown(tensor: TensorEntry | None) -> str:
    return cut(f"{tensor.type} {[*tensor.shape]} {tensor.sha256}".rstrip()) if tensor else "no such tensor"


def _of_tools(manifest: Manifest, sweep: Sweep, pin: ToolchainPin) -> Iterator[MetadataFinding]:
    """A commit has one tree; and the workflow quantizes with strict tools, in whose arithmetic the bytes then are."""
    claimed = manifest.inputs.toolchain
    if claimed.commit == pin.commit:
        yield from _differ("toolchain's tree", claimed.tree, pin.tree)
    fits = all(audit.verdict in (Verdict.EXACT, Verdict.NEAR) for audit in sweep.tensors)
    if fits and "strict" in manifest.variants and sweep.arithmetic is not Arithmetic.STRICT:
        yield from _differ("arithmetic", Arithmetic.STRICT, sweep.arithmetic)


def _of_matrix(manifest: Manifest, imatrix: HashedImatrix) -> Iterator[MetadataFinding]:
    claimed, content = manifest.imatrix, imatrix.content
    yield from _differ("importance matrix", claimed.file.sha256, imatrix.sha256)
    if claimed.file.sha256 == imatrix.sha256:
        yield from _differ("importance matrix's entries", claimed.entries, len(content.entries))
        yield from _differ("importance matrix's chunks", claimed.chunks, content.chunk_count)
        yield from _differ("importance matrix's chunk_size", claimed.chunk_size, content.chunk_size)
        # Each matrix that is added up names its text.
        yield from _differ("importance matrix's shards", len(claimed.shards) or 1, len(content.datasets))
        if claimed.unseen:
            yield from _differ("importance matrix's unseen experts", claimed.unseen, content.unseen)


def _of_weights(manifest: Manifest, weights: NamedWeights, sweep: Sweep) -> Iterator[MetadataFinding]:
    """The files of weights, as far as those that were named are the same, and the GGUF that was made of them."""
    claimed, place = manifest.weights_source, weights.place
    source = claimed and f"hf://{claimed}"
    elsewhere = place.spelled is not None and place.spelled.startswith("hf://") and source not in (None, place.spelled)
    if elsewhere:
        sentence = f"the manifest names other weights, {source}"
        yield MetadataFinding(f"{MANIFEST}: weights", Grade.HARMLESS, str(source), str(place.spelled), sentence)
    else:
        same = place.spelled == source if source else place.is_local
        yield from _files(manifest.inputs.weights.files, weights, same, source)
    # The same tensor may have been rounded, or expanded: only what is of one type is comparable.
    types = {entry.name: entry.type for entry in sweep.source}
    made = [entry for entry in manifest.bf16.tensors if types.get(entry.name) == entry.type]
    found = {entry.name: entry for entry in sweep.source}
    yield from _tensors("tensors of the weights", made, found, all_of_them=False)


def _files(claimed: Sequence[File], weights: NamedWeights, same: bool, source: str | None) -> Iterator[MetadataFinding]:
    """Files that the weights have too. Whether these are of the revision that is claimed may not be known."""
    odd = {}
    for file in claimed:
        if file.name in weights.texts or file.name in weights.place.names:
            known = _known(file.name, weights)
            if known.size not in (None, file.size) or known.sha256 not in (None, file.sha256):
                odd[file] = known
    if odd:
        file, known = next(iter(odd.items()))
        names = listed([each.name for each in odd])
        sentence = f"the manifest's files of weights are not those that were found: {names}"
        if not same:
            sentence += f"; name {source} to find out why" if source else "; name a folder of them to find out why"
        grade = Grade.SERIOUS if same else Grade.UNCHECKED
        expected, actual = (cut(f"{each.size} B, {each.sha256}") for each in (file, known))
        yield MetadataFinding(f"{MANIFEST}: weights", grade, expected, actual, sentence)


def _known(name: str, weights: NamedWeights) -> Known:
    """What was read of a file; of one that does not pass as a whole, what a hub records of it, or its size."""
    if name in weights.texts and name not in EXISTENCE:
        found = digest_bytes(weights.texts[name])
        return Known(found.size, found.sha256)
    return weights.place.expected(name) or Known(weights.place.open(name).size)


def _differ(what: str, claimed: Any, found: Any) -> Iterator[MetadataFinding]:
    if claimed != found:
        sentence = f"the manifest's {what} is not what was found"
        yield MetadataFinding(f"{MANIFEST}: {what}", Grade.SERIOUS, shown(claimed), shown(found), sentence)
