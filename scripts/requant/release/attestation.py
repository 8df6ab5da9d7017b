"""Attestations: in-toto statements v1 in DSSE envelopes, signed with an Ed25519 key; ``docs/attestation.md``.

Bytes are the contract here too: Ed25519 is deterministic and no time is written, so the same key and release give the
same envelope. Formats: https://github.com/in-toto/attestation/tree/main/spec/v1, https://slsa.dev/spec/v1.0/provenance
and https://github.com/secure-systems-lab/dsse.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from requant.documents.manifest import Manifest
from requant.documents.reports import AUDIT
from requant.ground.canonical import canonical, parse
from requant.ground.digests import SHA256, write_bytes
from requant.ground.errors import AttestationError, DiskError, FormatError
from requant.ground.exit_codes import ExitCode
from requant.release.keys import read_private_key, read_public_key

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v1"
# Types are named by URIs. A random UUID needs no host name that somebody else could own one day.
NAMESPACE = "urn:uuid:7f392dd4-e727-4bc1-ba23-130ec961c4c4"
BUILD = f"{NAMESPACE}#build/v1"
BUILDER = f"{NAMESPACE}#builder/v1"
DERIVATION = f"{NAMESPACE}#derivation/v1"
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


def audit_statement(report: Mapping[str, Any]) -> Statement:
    """What an audit has checked, with the whole report as the predicate.

    Args:
        report: the JSON document of an audit, of schema ``requant/audit/v2``.

    Raises:
        AttestationError: when the audit does not prove a derivation: only a sample was looked at, an answer is not
            good, nobody but the file named the weights, or the audited file was not read for its digest.
        FormatError: when the report holds a float, or text that is not Unicode.
    """
    if report.get("schema") != AUDIT:
        raise AttestationError(f"the report has schema {report.get('schema')!r}, not {AUDIT}: audit again")
    if report.get("seed") is not None:
        raise AttestationError("only a full audit can be attested, this one looked at a sample")
    if report.get("exit_code") != ExitCode.OK:
        raise AttestationError(f"only a passed audit can be attested, this one ended with {report.get('exit_code')!r}")
    subject = report.get("subject")
    known: Mapping[str, Any] = subject if isinstance(subject, Mapping) else {}
    files = known.get("parts") or [known]
    if not all(_is_digested(file) for file in files):
        raise AttestationError("the audited file was not read whole: audit it with --full")
    canonical(report)
    subjects = [_resource(file["name"], file["sha256"]) for file in files]
    return {"_type": STATEMENT, "subject": subjects, "predicateType": DERIVATION, "predicate": dict(report)}


def _is_digested(file: Mapping[str, Any]) -> bool:
    name, sha256 = file.get("name"), file.get("sha256")
    return isinstance(name, str) and bool(name) and isinstance(sha256, str) and SHA256.fullmatch(sha256) is not None


def sign(statement: Mapping[str, Any], key: Path, out: Path) -> str:
    """Sign ``statement`` with the private key file ``key`` and write the envelope to ``out``; returns the key's id.

    Raises:
        FormatError: when the key file is not as ``requant.release.keys.read_private_key`` wants it.
        DiskError: when ``out`` cannot be written.
    """
    signer = read_private_key(key)
    envelope = Envelope(canonical(statement), PAYLOAD_TYPE, {})
    signature = envelope.sign(signer)
    try:
        write_bytes(out, canonical(envelope.to_dict()))
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): name another file") from error
    return str(signature.keyid)


def verify_envelope(data: bytes, key: Path, name: str = "the attestation") -> Statement:
    """Check an envelope's signature against the public key file ``key``; returns the statement that was signed.

    Raises:
        FormatError: when the key file cannot be used, or as ``read_envelope``.
        AttestationError: when the key did not make the signature.
    """
    return verify_with(read_public_key(key), data, name)


def verify_with(key: SSlibKey, data: bytes, name: str) -> Statement:
    """``verify_envelope`` with a key that was read already."""
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
