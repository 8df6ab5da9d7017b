"""Verifying a release without its weights: do its files, manifest, card and attestation say the same.

What is proven: the folder agrees with itself, and with its attestation whoever signed that. Not proven: that the quants
come from the named weights, for which there is the audit.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from securesystemslib.signer import SSlibKey

from requant.documents.consistency import Disagreement, disagreements
from requant.documents.entries import tensors
from requant.documents.evaluation import foreign_files, read_evaluation
from requant.documents.file_names import (
    ATTESTATION,
    BILL_OF_MATERIALS,
    CARD,
    EVALUATION,
    LEFT_BY_HUBS,
    MANIFEST,
    MODEL_SIGNATURE,
    SIGNATURES,
    SUMS,
)
from requant.documents.manifest import ImatrixEntry, Manifest, read_manifest
from requant.documents.records import file_entry
from requant.documents.sums import read_sums
from requant.formats.gguf import quoted
from requant.formats.gguf_parts import models, part_names, read_gguf
from requant.formats.imatrix import read_imatrix
from requant.formats.weights_root import TensorEntry
from requant.ground.canonical import canonical
from requant.ground.digests import SHA256, Digest, digest_file, read_small
from requant.ground.errors import AttestationError, FormatError
from requant.ground.markdown import code
from requant.ground.text import printable, shown
from requant.pipeline.describe import describe_with_progress, tensor_entries
from requant.places.place import LocalPlace
from requant.release.attestation import LONGEST, PROVENANCE, build_statement, read_envelope, subjects, verify_with
from requant.release.bill_of_materials import bill_of_materials
from requant.release.card import render_card
from requant.release.keys import read_public_key
from requant.release.verify_verdict import Share, Verification

LONGEST_PAPER = 1 << 22
PAPERS = {CARD: ("the card", "digests and sizes"), BILL_OF_MATERIALS: ("the bill", "digests")}
"""What is rendered from the manifest, how it is called, and what of it must hold whichever version wrote it."""
NAMED_SHA256 = re.compile(rf"(?i)(?<![0-9a-f]){SHA256.pattern}(?![0-9a-f])")
NAMED_SIZE = re.compile(r"(?<![\d.,])\d[\d,]* B\b")
WITHOUT_MANIFEST = f"recipe, inputs, tensors and card: the folder holds no {MANIFEST}"
WITHOUT_STATEMENT = f"{ATTESTATION}: it speaks of the {MANIFEST}"

Tensors: TypeAlias = dict[str, TensorEntry]
"""By name."""
Off: TypeAlias = Callable[[str, str, Digest], Iterator[str]]
"""What of a file, by name and digest, a paper's text does not say."""


@dataclass(frozen=True)
class Look:
    """What was found in one file; ``problem`` says why a GGUF has no ``tensors``."""

    digest: Digest
    tensors: tuple[TensorEntry, ...] | None = None
    problem: str | None = None


def verify_release(folder: Path, key: Path | None = None) -> Verification:
    """Check everything in a release that can be checked without the weights.

    ``key`` is the public key file that the attestation must be signed with; without it nobody's signature is checked.

    Raises:
        FormatError: when there is nothing to compare: no ``SHA256SUMS``, a manifest that is none, no usable key.
        UnsupportedError: when the manifest has a schema that this version does not know.
    """
    public = read_public_key(key) if key else None
    sums = read_sums(folder)
    looks = {name: _look(folder / name) for name in sums if (folder / name).is_file()}
    findings = [*_against_sums(folder, sums, looks), *_split_models(folder, looks)]
    notes = [*_beside(folder, sums)]
    other = {name for name, sha256 in sums.items() if name not in looks or looks[name].digest.sha256 != sha256}
    if MANIFEST not in sums and not (folder / MANIFEST).exists():
        unchecked = (WITHOUT_MANIFEST, *([WITHOUT_STATEMENT] if public or (folder / ATTESTATION).exists() else []))
        return _of_sums(folder, looks, findings, notes, unchecked, Share(len(other), len(sums)))
    try:
        manifest = read_manifest(folder / MANIFEST)
    except FormatError as error:
        if not any(finding.where == MANIFEST for finding in findings):
            raise
        # Its digest says already that these are other bytes; the rest of the release has still been compared.
        findings.append(Disagreement(MANIFEST, "a manifest", printable(str(error))))
        return _of_sums(folder, looks, findings, notes, (), Share(len(other), len(sums)))
    state = _Release(folder, manifest, sums, looks, notes, [])
    findings += _check(state)
    signed_by = None
    try:
        signed_by = _check_attestation(state, public, findings)
    except (FormatError, AttestationError) as error:
        findings.append(Disagreement(ATTESTATION, "an attestation of this release", printable(str(error))))
    other |= {name for name, digest in manifest.files.items() if name in looks and looks[name].digest != digest}
    pairs = [_by_name(quant.tensors, looks[quant.file.name]) for quant in manifest.quants if quant.file.name in looks]
    return Verification(
        folder=folder,
        schema=manifest.document["schema"],
        files=_entries(looks),
        tensors=sum(len(found) for _, found in pairs),
        findings=tuple(findings),
        notes=tuple(notes),
        # Whoever signed the files answers for the words of the card.
        unchecked=() if signed_by else tuple(state.unchecked),
        signed_by=signed_by,
        other_files=Share(len(other), len(sums)),
        other_tensors=Share(
            sum(len(_differing(*pair)) for pair in pairs), sum(len(one.keys() | found) for one, found in pairs)
        ),
    )


def _of_sums(
    folder: Path, looks: Mapping[str, Look], findings: Sequence[Disagreement], notes: Sequence[str],
    unchecked: tuple[str, ...], files: Share,
) -> Verification:  # fmt: skip
    """What can be said without a manifest."""
    found = _entries(looks)
    return Verification(folder, None, found, 0, tuple(findings), tuple(notes), unchecked, None, files, Share(0, 0))


@dataclass(frozen=True)
class _Release:
    """What the checks see; they add to ``notes`` and ``unchecked``."""

    folder: Path
    manifest: Manifest
    sums: Mapping[str, str]
    looks: Mapping[str, Look]
    notes: list[str]
    unchecked: list[str]


def _look(path: Path) -> Look:
    if path.suffix != ".gguf":
        return Look(digest_file(path))
    try:
        # One pass gives the digest of the file and those of its tensors.
        found = describe_with_progress(path, f"checking {path.name}")
    except FormatError as error:
        return Look(digest_file(path), problem=printable(str(error)))
    return Look(found.digest, tensors(tensor_entries(found)))


def _entries(looks: Mapping[str, Look]) -> tuple[dict[str, Any], ...]:
    return tuple(file_entry(name, look.digest) for name, look in looks.items())


def _against_sums(folder: Path, sums: Mapping[str, str], looks: Mapping[str, Look]) -> Iterator[Disagreement]:
    for name, sha256 in sums.items():
        if name not in looks:
            yield Disagreement(name, sha256, "no such file")
        elif looks[name].digest.sha256 != sha256:
            yield Disagreement(name, sha256, looks[name].digest.sha256)
    for path in sorted(folder.iterdir()):
        if path.name not in (*sums, *SIGNATURES, SUMS) and not _is_left_by_hubs(path):
            yield Disagreement(
                printable(path.name), f"only what {SUMS} names", "a file or folder that it does not name"
            )


def _split_models(folder: Path, looks: Mapping[str, Look]) -> Iterator[Disagreement]:
    """Parts of a model that is not there whole, or that do not belong together."""
    for name in models([*looks]):
        if len(part_names(name)) == 1 or looks[name].problem is not None:
            continue
        with LocalPlace(folder / name, name) as place:
            try:
                read_gguf(place, name)
            except FormatError as error:
                yield Disagreement(name, "a part of a model that is there whole", printable(str(error)))


def _beside(folder: Path, sums: Mapping[str, str]) -> Iterator[str]:
    left = sorted(path.name for path in folder.iterdir() if path.name not in sums and _is_left_by_hubs(path))
    if left:
        yield f"not looked at: {shown(left)}"
    if (folder / MODEL_SIGNATURE).exists():
        yield f"not checked: {MODEL_SIGNATURE}, use model_signing verify"


def _is_left_by_hubs(path: Path) -> bool:
    """Whether hubs and their clients leave such: .gitattributes, .cache, .msc, and a file whose name says nothing."""
    return path.name.startswith(".") or (path.name in LEFT_BY_HUBS and path.is_file())


def _check(release: _Release) -> Iterator[Disagreement]:
    """Everything that a manifest promises."""
    manifest, looks = release.manifest, release.looks
    yield from disagreements(manifest)
    papers = [CARD, MANIFEST, *([BILL_OF_MATERIALS] if "bill_of_materials" in manifest.recipe.document else [])]
    wanted = sorted([*manifest.files, *papers, *({EVALUATION} & release.sums.keys())])
    if wanted != sorted(release.sums):
        yield Disagreement(SUMS, shown(wanted), shown(sorted(release.sums)))
    for name, digest in manifest.files.items():
        if name in looks and (found := looks[name].digest) != digest:
            yield Disagreement(f"{MANIFEST}: {name}", *(shown(file_entry(name, side)) for side in (digest, found)))
    for quant in manifest.quants:
        if quant.file.name in looks:
            yield from _check_tensors(quant.file.name, quant.tensors, looks[quant.file.name])
    if manifest.imatrix.file.name in looks:
        yield from _check_imatrix(release.folder, manifest.imatrix)
    yield from _check_bill(release)
    evaluation = None
    if EVALUATION in looks:
        try:
            evaluation = read_evaluation(release.folder / EVALUATION)
            yield from foreign_files(evaluation, manifest)
        except FormatError as error:
            yield Disagreement(EVALUATION, "a readable evaluation", printable(str(error)))
            return
    if CARD in looks:
        card = render_card(manifest.document, evaluation)
        yield from _check_paper(release, CARD, card, _off_card, evaluation)


def _check_tensors(file: str, wanted: Sequence[TensorEntry], look: Look) -> Iterator[Disagreement]:
    if look.tensors is None:
        yield Disagreement(file, "a readable GGUF file", look.problem or "a file of another kind")
        return
    expected, actual = _by_name(wanted, look)
    for name in _differing(expected, actual):
        sides = (_tensor(side.get(name)) for side in (expected, actual))
        yield Disagreement(f"{file}: tensor {quoted(name)}", *sides)
    if expected.keys() == actual.keys() and [*expected] != [*actual]:
        yield Disagreement(file, "the tensors in the manifest's order", "another order")


def _by_name(wanted: Sequence[TensorEntry], look: Look) -> tuple[Tensors, Tensors]:
    expected, actual = ({tensor.name: tensor for tensor in side} for side in (wanted, look.tensors or ()))
    return expected, actual


def _differing(expected: Tensors, actual: Tensors) -> list[str]:
    names = [*expected, *(actual.keys() - expected.keys())]
    return [name for name in names if expected.get(name) != actual.get(name)]


def _tensor(tensor: TensorEntry | None) -> str:
    return f"{tensor.type} {[*tensor.shape]} {tensor.sha256}" if tensor else "no such tensor"


def _check_imatrix(folder: Path, wanted: ImatrixEntry) -> Iterator[Disagreement]:
    name = wanted.file.name
    try:
        found = read_imatrix(folder / name)
    except FormatError as error:
        yield Disagreement(name, "a readable importance matrix", printable(str(error)))
        return
    for key, expected, actual in (
        ("chunks", wanted.chunks, found.chunk_count),
        ("chunk_size", wanted.chunk_size, found.chunk_size),
        ("entries", wanted.entries, len(found.entries)),
        ("shards", len(wanted.shards) or 1, len(found.datasets)),
        # A manifest that says nothing of them may be older than the question.
        ("unseen", wanted.unseen, found.unseen if wanted.unseen else {}),
    ):
        if expected != actual:
            yield Disagreement(f"{name}: {key}", str(expected), str(actual))


def _check_bill(release: _Release) -> Iterator[Disagreement]:
    if BILL_OF_MATERIALS in release.looks:
        yield from _check_paper(release, BILL_OF_MATERIALS, bill_of_materials(release.manifest), _off_bill, None)


def _check_paper(
    release: _Release, paper: str, rendered: bytes, off: Off, evaluation: Mapping[str, Any] | None
) -> Iterator[Disagreement]:
    """A paper is the one that this version writes, or at least has each file's values (see ``off``) and no others."""
    found = read_small(release.folder / paper, LONGEST_PAPER)
    if found == rendered:
        return
    text, (called, firm) = found.decode(errors="replace"), PAPERS[paper]
    for name, digest in release.manifest.files.items():
        yield from (Disagreement(f"{paper}: {name}", value, f"not in {called}") for value in off(text, name, digest))
    known = set(NAMED_SHA256.findall(canonical([release.manifest.document, evaluation]).decode()))
    for other in sorted(set(NAMED_SHA256.findall(text.lower())) - known):
        yield Disagreement(paper, "only digests that the manifest has", other)
    release.unchecked.append(f"{paper} beyond its {firm}: this version of requant writes another one")


def _off_card(text: str, name: str, digest: Digest) -> Iterator[str]:
    """What a card does not say of a file where it says such: in lines as of ``SHA256SUMS``, and in rows of tables."""
    own = re.findall(rf"(?m)^(?:{SHA256.pattern}  {re.escape(name)}|\| {re.escape(code(name))} \|.*?)\r?$", text)
    for kind, value in ((NAMED_SHA256, digest.sha256), (NAMED_SIZE, f"{digest.size:,} B")):
        said = [values for line in own if (values := kind.findall(line))]
        if not said or not all(value in values for values in said):
            yield value


def _off_bill(text: str, _: str, digest: Digest) -> Iterator[str]:
    """What a bill does not say at all; of which file it says it is not compared."""
    if digest.sha256 not in text:
        yield digest.sha256


def _check_attestation(release: _Release, key: SSlibKey | None, findings: list[Disagreement]) -> str | None:
    """Compare the attestation with the files and the manifest; gives the id of the key that was checked.

    Raises:
        FormatError, AttestationError: when it is no attestation, or not one that the key signed.
    """
    path = release.folder / ATTESTATION
    if not path.exists():
        if key:
            findings.append(Disagreement(ATTESTATION, f"an attestation signed by the key {key.keyid}", "no such file"))
        else:
            release.notes.append(f"not signed: there is no {ATTESTATION}")
        return None
    data = read_small(path, LONGEST)
    if key:
        statement = verify_with(key, data, ATTESTATION)
    else:
        _, statement = read_envelope(data, ATTESTATION)
        release.notes.append(f"not checked: who signed {ATTESTATION}, as no key was given")
    findings += _check_statement(statement, release)
    return key.keyid if key else None


def _check_statement(statement: Mapping[str, Any], release: _Release) -> Iterator[Disagreement]:
    found, files = subjects(statement), {name: look.digest.sha256 for name, look in release.looks.items()}
    for name in sorted(files.keys() | found.keys()):
        if files.get(name) != found.get(name):
            yield Disagreement(
                f"{ATTESTATION}: {printable(name)}", files.get(name, "no such file"), found.get(name, "no such subject")
            )
    wanted = build_statement(release.manifest, release.sums)
    if statement["predicateType"] != PROVENANCE:
        yield Disagreement(f"{ATTESTATION}: predicateType", PROVENANCE, printable(statement["predicateType"]))
        return
    if difference := _first_difference(wanted["predicate"], statement["predicate"], ("predicate",)):
        place, expected, actual = difference
        yield Disagreement(f"{ATTESTATION}: {printable('.'.join(place))}", shown(expected), shown(actual))


def _first_difference(wanted: Any, found: Any, where: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any] | None:
    """The first place where two JSON documents differ, with what stands there in each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(key, wanted.get(key), found.get(key)) for key in sorted(wanted.keys() | found.keys())]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = [(str(index), one, other) for index, (one, other) in enumerate(zip(wanted, found, strict=True))]
    else:
        # True is 1 in Python, not in JSON.
        return None if wanted == found and type(wanted) is type(found) else (where, wanted, found)
    differences = (_first_difference(one, other, (*where, key)) for key, one, other in pairs)
    return next((found for found in differences if found), None)
