"""Attestations: in-toto statements v1 in DSSE envelopes, signed with an Ed25519 key; ``docs/attestation.md``.

Bytes are the contract here too: Ed25519 is deterministic and no time is written, so the same key and release give the
same envelope. Formats: https://github.com/in-toto/attestation/tree/main/spec/v1, https://slsa.dev/spec/v1.0/provenance
and https://github.com/secure-systems-lab/dsse.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from requant.documents.manifest import Manifest
from requant.ground.canonical import canonical, parse
from requant.ground.digests import SHA256, write_bytes
from requant.ground.errors import AttestationError, DiskError, FormatError
from requant.release.keys import read_private_key

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v1"
# Types are named by URIs. A random UUID needs no host name that somebody else could own one day.
NAMESPACE = "urn:uuid:7f392dd4-e727-4bc1-ba23-130ec961c4c4"
BUILD = f"{NAMESPACE}#build/v1"
BUILDER = f"{NAMESPACE}#builder/v1"
LLAMA_CPP = "git+https://github.com/ggml-org/llama.cpp"
HUB = "https://huggingface.co/"
# A report on a model of thousands of tensors has a few megabytes.
LONGEST = 3 << 23

Statement = dict[str, Any]


def build_statement(manifest: Manifest, sums: Mapping[str, str]) -> Statement:
    """What was built, from what and how: SLSA provenance v1 for every file of a release.

    Args:
        manifest: the release's.
        sums: the SHA-256 of every released file by name, as ``requant.documents.sums.read_sums`` gives it.
    """
    predicate = {
        "buildDefinition": {
            "buildType": BUILD,
            "externalParameters": {"recipe": manifest.recipe.document},
            "internalParameters": {"variants": manifest.variants, "features": [*manifest.imatrix.features]},
            "resolvedDependencies": sorted(_dependencies(manifest), key=lambda found: str(found["name"])),
        },
        "runDetails": {"builder": {"id": BUILDER}},
    }
    subjects = [_resource(name, sha256) for name, sha256 in sorted(sums.items())]
    return {"_type": STATEMENT, "subject": subjects, "predicateType": PROVENANCE, "predicate": predicate}


def _dependencies(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Everything from outside that the released bytes depend on."""
    weights, corpus, toolchain = manifest.inputs.weights, manifest.inputs.corpus, manifest.inputs.toolchain
    # Files of a package carry the model repository's name, but did not come from there.
    repo = None if weights.package else weights.repo
    for file in weights.files:
        yield _resource(f"model/{file.name}", file.sha256, _at_hub(repo, weights.revision, file.name))
    dataset = corpus.repo and f"datasets/{corpus.repo}"
    for name, known in corpus.files.items():
        yield _resource(f"corpus/{name}", known.sha256, _at_hub(dataset, corpus.revision, name))
    text = corpus.texts["calibration"]
    yield _resource(f"corpus/{text.name}", text.sha256)
    source = {"gitCommit": toolchain.commit, "gitTree": toolchain.tree}
    yield {"name": "llama.cpp", "uri": LLAMA_CPP, "digest": source}
    for package in (weights.package, toolchain.sdist):
        if package:
            uri = f"pkg:pypi/{package.project.lower()}@{package.version}"
            yield _resource(f"package/{package.project}", package.sha256, uri)
    made = {file.sha256 for step in manifest.steps for file in step.products}
    named = made | {file.sha256 for file in (*weights.files, text)}
    others = {file.sha256: file for step in manifest.steps for file in step.materials}
    for sha256, file in others.items():
        if sha256 not in named:
            yield _resource(file.name, sha256)


def _at_hub(repo: str | None, revision: str | None, name: str) -> str | None:
    return f"{HUB}{repo}/resolve/{revision}/{name}" if repo and revision else None


def _resource(name: str, sha256: str | None, uri: str | None = None) -> dict[str, Any]:
    """A ``ResourceDescriptor``; what is not known is left out."""
    known: dict[str, Any] = {"name": name}
    if uri:
        known["uri"] = uri
    if sha256:
        known["digest"] = {"sha256": sha256}
    return known


def sign(statement: Mapping[str, Any], key: Path, out: Path) -> str:
    """Sign ``statement`` with the private key file ``key`` and write the envelope to ``out``; returns the key's id.

    Raises:
        FormatError: when the key file is not as ``requant.release.keys.read_private_key`` wants it.
        DiskError: when ``out`` cannot be written.
    """
    envelope, keyid = _signed(statement, read_private_key(key))
    _write(out, canonical(envelope))
    return keyid


def sign_bundle(statements: Sequence[Mapping[str, Any]], key: Path, out: Path) -> str:
    """Sign several statements, each under an envelope of its own on a line of its own; otherwise as ``sign``.

    https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md
    """
    signer = read_private_key(key)
    envelopes = [_signed(statement, signer) for statement in statements]
    _write(out, b"".join(_line(envelope) for envelope, _ in envelopes))
    return envelopes[0][1]


def _signed(statement: Mapping[str, Any], signer: CryptoSigner) -> tuple[dict[str, Any], str]:
    envelope = Envelope(canonical(statement), PAYLOAD_TYPE, {})
    signature = envelope.sign(signer)
    return envelope.to_dict(), str(signature.keyid)


def _write(out: Path, data: bytes) -> None:
    try:
        write_bytes(out, data)
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): name another file") from error


def _line(envelope: Mapping[str, Any]) -> bytes:
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def bundled(data: bytes, name: str) -> list[bytes]:
    """The envelopes of a bundle, each in the form that ``sign`` writes; a file of one is a bundle too.

    Lines that hold none are passed over, as the format demands: others may have added what is theirs.

    Raises:
        FormatError: naming the file, when it is too long, or none of its lines holds one.
    """
    if len(data) > LONGEST:
        raise FormatError(f"{name} has more than the {LONGEST:,} bytes allowed: get the file again")
    if data.startswith(b"{\n"):
        return [data]
    found = []
    for line in data.splitlines(keepends=True):
        try:
            envelope = canonical(parse(line, name))
            read_envelope(envelope, name)
        except FormatError:
            continue
        # One text for one envelope here too.
        if _line(parse(line, name)) == line:
            found.append(envelope)
    if not found:
        raise FormatError(f"{name} holds no statement in a DSSE envelope: get the file again")
    return found


def verify_with(key: SSlibKey, data: bytes, name: str) -> Statement:
    """Check an envelope's signature against a public key; returns the statement that was signed.

    Raises:
        FormatError: as ``read_envelope``.
        AttestationError: when the key did not make the signature.
    """
    envelope, statement = read_envelope(data, name)
    try:
        envelope.verify([key], threshold=1)
    except VerificationError as error:
        [keyid] = envelope.signatures
        why = "its bytes were changed" if keyid == key.keyid else f"it is signed with the key {keyid[:64]}"
        raise AttestationError(f"{name} is not signed by the key {key.keyid}: {why}; ask the signer") from error
    return statement


def read_envelope(data: bytes, name: str) -> tuple[Envelope, Statement]:
    """Read an envelope and the statement in it, without checking who signed it.

    Raises:
        FormatError: naming the file, for anything but one statement under one signature in the form that ``sign``
            writes.
    """
    again = "get the file again"
    if len(data) > LONGEST:
        raise FormatError(f"{name} has more than the {LONGEST:,} bytes allowed: {again}")
    document = parse(data, name)
    _require_canonical(document, data, name)
    if not _has(document, {"payload": str, "payloadType": str, "signatures": list}):
        raise FormatError(f"{name} is not a DSSE envelope (payload, payloadType, signatures): {again}")
    if document["payloadType"] != PAYLOAD_TYPE:
        raise FormatError(f"{name} has payloadType {document['payloadType'][:64]!r}, not {PAYLOAD_TYPE}: {again}")
    if len(document["signatures"]) != 1:
        raise FormatError(f"{name} holds {len(document['signatures'])} signatures, not one: {again}")
    [signature] = document["signatures"]
    if not (_has(signature, {"keyid": str, "sig": str}) and SHA256.fullmatch(signature["keyid"])):
        raise FormatError(f"{name} has a signature that is not a keyid and a sig: {again}")
    for key, text in (("payload", document["payload"]), ("sig", signature["sig"])):
        if not _is_base64(text):
            raise FormatError(f"{name} has a {key} that is not standard base64: {again}")
    envelope = Envelope.from_dict(document)
    return envelope, _read_statement(envelope.payload, name)


def _read_statement(payload: bytes, name: str) -> Statement:
    statement = parse(payload, f"the payload of {name}")
    _require_canonical(statement, payload, f"the payload of {name}")
    shape = {"_type": str, "subject": list, "predicateType": str, "predicate": dict}
    if not _has(statement, shape) or statement["_type"] != STATEMENT:
        raise FormatError(f"{name} holds no in-toto statement v1: get the file again")
    if not statement["subject"] or not all(_is_subject(subject) for subject in statement["subject"]):
        raise FormatError(f"{name} has a subject that is not a name with a SHA-256: get the file again")
    if len(subjects(statement)) != len(statement["subject"]):
        raise FormatError(f"{name} names a subject twice: get the file again")
    return dict(statement)


def _require_canonical(document: Any, data: bytes, name: str) -> None:
    """One text for one document: nobody can change a byte that the signature does not cover."""
    try:
        same = canonical(document) == data
    except FormatError as error:
        raise FormatError(f"{name} holds what canonical JSON does not ({error}): get the file again") from error
    if not same:
        raise FormatError(f"{name} is not canonical JSON: get the file again")


def _is_subject(subject: object) -> bool:
    if not _has(subject, {"name": str, "digest": dict}):
        return False
    assert isinstance(subject, dict)
    return _has(subject["digest"], {"sha256": str}) and bool(SHA256.fullmatch(subject["digest"]["sha256"]))


def _has(value: object, kinds: Mapping[str, type]) -> bool:
    """Whether ``value`` is a mapping with exactly these keys, of these types."""
    return (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(isinstance(value[key], kind) for key, kind in kinds.items())
    )


def _is_base64(text: str) -> bool:
    """Whether ``text`` is the one standard form: the other alphabet, white space and loose last bits are not."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (ValueError, binascii.Error):
        return False


def subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of every subject of a statement that ``read_envelope`` accepted, by name."""
    return {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
