"""Checking a file against the statement of an audit: is it what was attested, and are the weights those that are meant?

Nothing is derived again. What the statement says of the file is compared with the bytes that are read now; what it says
of the audit is as good as whoever signed it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from securesystemslib.signer import SSlibKey

from requant.audit.named_weights import open_weights
from requant.audit.weights.hashed_weights import HashedWeights
from requant.conversion.weights import Weights
from requant.documents.consistency import Disagreement
from requant.documents.entries import tensors
from requant.documents.records import file_entry
from requant.documents.schemas import fault
from requant.formats.gguf import quoted
from requant.formats.gguf_digests import key_digests
from requant.formats.weights_root import TensorEntry, weights_root
from requant.ground.digests import GIT_ID, SHA256, Digest, digest_file, read_small
from requant.ground.errors import AttestationError, FormatError
from requant.ground.progress import progress
from requant.ground.text import listed, printable
from requant.pipeline.describe import Description, describe_with_progress, tensor_entries
from requant.places.place import named as place_named
from requant.release.attestation import LONGEST, Statement, bundled, read_envelope, subjects, verify_with
from requant.release.derivation import DERIVATION, OLDER, SCHEMA
from requant.release.keys import read_public_key
from requant.release.verify_verdict import Share, Verification

LONGEST_HEADLINE = 2000
BATCH = 1 << 20
"""Weights that are read at a time."""
REPOSITORY = re.compile(r"(?P<place>(?:hf|ms)://[^@]+)(?:@(?P<revision>.+))?")
NOBODY = "who signed the statement: name the key with --key"
WEIGHTS = "the statement's weights"


@dataclass(frozen=True)
class Told:
    """What differs from the statement, and sentences about what could not be told."""

    findings: tuple[Disagreement, ...] = ()
    unchecked: tuple[str, ...] = ()

    def __add__(self, more: "Told") -> "Told":
        """Both."""
        return Told(self.findings + more.findings, self.unchecked + more.unchecked)


def verify_statement(file: Path, path: Path, key: Path | None, source: str | None = None) -> Verification:
    """Compare a file with the statement about it.

    Args:
        file: the quant.
        path: what ``requant audit --attest`` wrote, now or in an older version.
        key: the public key file; without it nobody's signature is checked, and nothing is sure.
        source: the weights that are meant: ``owner/name[@revision]``, their weights root, or where they lie here.

    Raises:
        FormatError: when the statement or the key cannot be read, or there is no statement about an audit.
        SourceError: when ``source`` cannot be had.
    """
    public = read_public_key(key) if key else None
    if not file.is_file():
        raise FormatError(f"{file} is not a file that can be read: check the path")
    sha256 = digest_file(file).sha256
    try:
        statement = _statement(read_small(path, LONGEST), public, path.name, sha256)
    except AttestationError as error:
        # What it says is said by nobody who was asked for.
        unsigned = Disagreement(path.name, "a statement signed by the key", printable(str(error)))
        return _verdict(file, sha256, Told((unsigned,)))
    predicate = _predicate(statement)
    headline = str(predicate["headline"])[:LONGEST_HEADLINE]
    notes = [f"attested: {headline if headline.isprintable() else repr(headline)}"]
    named = subjects(statement)
    count, told = 0, Told(unchecked=() if public else (NOBODY,))
    if sha256 not in named.values():
        count, others = _other_bytes(file, sha256, named, predicate)
        told += others
    elif named.get(file.name) != sha256:
        notes.append(f"attested under the name {printable(', '.join(named))}")
    if source is not None:
        told += _about_source(source, predicate)
    return _verdict(file, sha256, told, count, notes, public)


def _verdict(
    file: Path, sha256: str, told: Told, count: int = 0, notes: Sequence[str] = (), key: SSlibKey | None = None
) -> Verification:
    """``count`` is the number of tensors, if the file has other bytes and these had to be looked at."""
    start, findings = f"{file.name}: tensor ", told.findings
    return Verification(
        folder=file,
        schema=None,
        files=(file_entry(file.name, Digest(file.stat().st_size, sha256)),),
        tensors=count,
        findings=findings,
        notes=tuple(notes),
        unchecked=told.unchecked,
        signed_by=str(key.keyid) if key else None,
        other_files=Share(sum(finding.where == file.name for finding in findings), 0 if count and not findings else 1),
        other_tensors=Share(sum(finding.where.startswith(start) for finding in findings), count),
        what="file",
    )


def _statement(data: bytes, key: SSlibKey | None, name: str, sha256: str) -> Statement:
    """The statement about an audit in a bundle, signed by the key if there is one; of several the one about the file.

    Raises:
        AttestationError: when the key signed none of them.
    """
    failed: AttestationError | None = None
    found: list[Statement] = []
    for envelope in bundled(data, name):
        _, statement = read_envelope(envelope, name)
        if statement["predicateType"] not in (DERIVATION, OLDER):
            continue
        try:
            found.append(statement if key is None else verify_with(key, envelope, name))
        except AttestationError as error:
            failed = error
    if not found:
        raise failed or FormatError(f"{name} holds no statement about an audit: name what requant audit --attest wrote")
    statement = next((each for each in found if sha256 in subjects(each).values()), found[0])
    if statement["predicateType"] == DERIVATION and (wrong := fault(statement["predicate"], SCHEMA, name)):
        raise FormatError(printable(wrong))
    return statement


def _predicate(statement: Statement) -> Mapping[str, Any]:
    """What the statement says; of an older form, which nothing describes, the headline alone."""
    predicate: Mapping[str, Any] = statement["predicate"]
    if statement["predicateType"] == DERIVATION:
        return predicate
    return {"headline": predicate.get("headline", "no headline"), "subject": {}, "source": {}}


def _other_bytes(file: Path, sha256: str, named: Mapping[str, str], predicate: Mapping[str, Any]) -> tuple[int, Told]:
    """The tensors of a file with another digest, and what can be told: perhaps its weights are those attested."""
    wanted = " or ".join(named.values())
    root = predicate["subject"].get("weights_root")
    try:
        found = describe_with_progress(file, f"checking {file.name}")
    except FormatError as error:
        return 0, Told((Disagreement(file.name, wanted, f"{sha256}; {printable(str(error))}"),))
    entries = tensors(tensor_entries(found))
    if found.digest.sha256 != sha256:
        return 0, Told((Disagreement(file.name, "a file that nobody writes to", "it changed while it was read"),))
    if root is None or weights_root(entries) != root:
        differing = [*_differing(file.name, entries, predicate)] if root else []
        return len(entries), Told((Disagreement(file.name, wanted, sha256), *differing))
    keys = _changed_keys(found, predicate)
    what = f"metadata changed: {listed(keys, 8)}" if keys else "what lies around them changed"
    return len(entries), Told(unchecked=(f"the rest of {file.name}: weights as attested, {what}",))


def _differing(name: str, entries: tuple[TensorEntry, ...], predicate: Mapping[str, Any]) -> Iterator[Disagreement]:
    expected = {each.name: each for each in tensors(predicate["tensors"])}
    actual = {each.name: each for each in entries}
    for tensor in sorted(expected.keys() | actual.keys()):
        one, other = expected.get(tensor), actual.get(tensor)
        if one != other:
            yield Disagreement(f"{name}: tensor {quoted(tensor)}", _shown(one), _shown(other))


def _shown(tensor: TensorEntry | None) -> str:
    return f"{tensor.type} {[*tensor.shape]} {tensor.sha256}" if tensor else "no such tensor"


def _changed_keys(found: Description, predicate: Mapping[str, Any]) -> list[str]:
    before = {each["key"]: each["sha256"] for each in predicate["subject"]["metadata"]}
    after = key_digests(found.header)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _about_source(text: str, predicate: Mapping[str, Any]) -> Told:
    """Whether the audit was about these weights."""
    source = predicate["source"]
    if SHA256.fullmatch(text):
        return _compared(text, source.get("weights_root"))
    meant = place_named(text)
    if match := REPOSITORY.fullmatch(meant):
        place, revision = match["place"], match["revision"]
        attested = source.get("place")
        there, _, commit = (attested or "").partition("@")
        if attested is None:
            said = f"whether it is about {meant}: it names no repository, so give a folder or a weights root"
            return Told(unchecked=(said,))
        if there != place or (revision != commit and revision is not None and GIT_ID.fullmatch(revision)):
            return Told((Disagreement(WEIGHTS, meant, attested),))
        if revision not in (None, commit):
            said = f"whether {printable(str(revision))} of {place} is the commit {commit}: name the commit"
            return Told(unchecked=(said,))
        return Told()
    weights = open_weights(text)
    with weights.place:
        return _compared(_root_of(weights.tensors), source.get("weights_root"))


def _compared(meant: str | None, attested: str | None) -> Told:
    if meant is None or attested is None:
        return Told(unchecked=("which weights it is about: not all of them have a digest",))
    return Told() if meant == attested else Told((Disagreement(WEIGHTS, meant, attested),))


def _root_of(weights: Weights) -> str | None:
    """The weights root of weights that are read for it."""
    hashed = HashedWeights(weights)
    names = [name for name in weights.shapes if not weights.unchecked(name)]
    with progress(sum(prod(weights.shapes[name]) for name in names), "reading", "weights", scale=True) as bar:
        for name in names:
            columns, rows = weights.shapes[name][0], prod(weights.shapes[name][1:])
            height = max(1, BATCH // columns)
            for start in range(0, rows, height):
                found = hashed.rows(name, np.arange(start, min(start + height, rows)))
                bar.update(found.size)
    return hashed.root
