"""requant.release.attestation: other people's tools accept what is signed, and hostile envelopes are refused."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from requant.documents.manifest import Manifest, read_manifest
from requant.documents.sums import read_sums
from requant.ground.canonical import canonical, parse
from requant.ground.errors import AttestationError, FormatError
from requant.release.attestation import LONGEST, PAYLOAD_TYPE, STATEMENT, build_statement, bundled, sign, sign_bundle
from requant.release.derivation import DERIVATION
from requant.release.keys import new_key, read_private_key, read_public_key
from requant.release.signing import sign_release
from support.attested import signed_statement

DIGEST = "a" * 64
SMALL = {
    "_type": STATEMENT,
    "subject": [{"name": "x.gguf", "digest": {"sha256": DIGEST}}],
    "predicateType": DERIVATION,
    "predicate": {"verdict": "exact"},
}


@pytest.fixture
def statement(release: Path) -> dict[str, Any]:
    return build_statement(read_manifest(release / "manifest.json"), read_sums(release))


@pytest.fixture(scope="module")
def signed(key: Path) -> bytes:
    out = key.with_name("signed")
    sign(SMALL, key, out)
    return out.read_bytes()


# Laws.


@settings(max_examples=25, deadline=None)
@given(predicate=st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=4))
def test_what_is_signed_is_what_is_verified(key: Path, public: Path, predicate: dict[str, Any]) -> None:
    statement = {**SMALL, "predicate": predicate}
    out = key.with_name("any")
    sign(statement, key, out)
    assert signed_statement(out.read_bytes(), public) == statement


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_any_changed_byte_is_refused(signed: bytes, public: Path, place: int, byte: int) -> None:
    place %= len(signed)
    changed = signed[:place] + bytes([byte]) + signed[place + 1 :]
    if changed != signed:
        with pytest.raises((FormatError, AttestationError)):
            signed_statement(changed, public)


def test_same_key_and_release_same_bytes(release: Path, key: Path) -> None:
    first = sign_release(release, key).read_bytes()
    assert sign_release(release, key).read_bytes() == first, "signing again replaces it by the same"
    assert sign_release(Path(shutil.copytree(release, release.with_name("other"))), key).read_bytes() == first


# What the statements say, and that others can read it.


def test_the_build_statement_is_slsa_provenance(statement: dict[str, Any], release: Path) -> None:
    other = Statement.copy_from_pb(ParseDict(statement, StatementMessage()))
    other.validate()
    # Unknown fields are refused here: every name is SLSA's.
    provenance = ParseDict(statement["predicate"], Provenance())
    definition = provenance.build_definition
    assert definition.build_type.startswith("urn:uuid:")
    assert provenance.run_details.builder.id.startswith("urn:uuid:")
    assert not provenance.run_details.HasField("metadata"), "no time: bytes are the contract"
    assert {subject.name: subject.digest["sha256"] for subject in other.pb.subject} == read_sums(release)
    found = {resource.name: dict(resource.digest) for resource in definition.resolved_dependencies}
    assert sorted(found) == [
        "converter.lock", "corpus/docs.train.txt", "llama.cpp", "model/config.json", "model/model.safetensors",
        "package/llama-cpp-python",
    ]  # fmt: skip
    assert found["llama.cpp"] == {"gitCommit": "c" * 40, "gitTree": "d" * 40}
    assert all(found.values()), "each has a digest"
    for resource in definition.resolved_dependencies:
        assert resource.name != "llama.cpp" or resource.uri == "git+https://github.com/ggml-org/llama.cpp"


def test_files_of_a_hub_carry_their_address(release: Path) -> None:
    manifest = parse((release / "manifest.json").read_bytes(), "x")
    manifest["inputs"]["model"] |= {"repo": "Org/Big", "revision": "a" * 40}
    unknown = {"name": "train.parquet", "size": None, "sha256": None}
    manifest["inputs"]["corpus"] |= {"repo": "Org/text", "revision": "b" * 40, "files": [unknown]}
    found = build_statement(Manifest.of(manifest), {})["predicate"]["buildDefinition"]["resolvedDependencies"]
    uris = {resource["name"]: resource.get("uri") for resource in found}
    assert uris["model/config.json"] == f"https://huggingface.co/Org/Big/resolve/{'a' * 40}/config.json"
    assert uris["corpus/train.parquet"] == f"https://huggingface.co/datasets/Org/text/resolve/{'b' * 40}/train.parquet"
    package = {"project": "llm-Small", "version": "0.1", "size": 1, "sha256": DIGEST}
    manifest["inputs"]["model"]["package"] = package
    found = build_statement(Manifest.of(manifest), {})["predicate"]["buildDefinition"]["resolvedDependencies"]
    uris = {resource["name"]: resource.get("uri") for resource in found}
    assert uris["model/config.json"] is None, "a package's file did not come from the hub"
    assert uris["package/llm-Small"] == "pkg:pypi/llm-small@0.1"


def test_securesystemslib_accepts_the_envelope(signed: bytes, public: Path) -> None:
    envelope = Envelope.from_dict(json.loads(signed))
    found = SSlibKey.from_crypto(load_pem_public_key(public.read_bytes()))
    assert list(envelope.verify([found], 1)) == [found.keyid]
    assert envelope.payload_type == PAYLOAD_TYPE
    assert json.loads(envelope.payload) == SMALL


def test_openssl_accepts_keys_and_signature(signed: bytes, key: Path, public: Path, tmp_path: Path) -> None:
    derived = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], capture_output=True, check=True).stdout
    assert derived == public.read_bytes()
    document = json.loads(signed)
    payload = base64.b64decode(document["payload"])
    (tmp_path / "pae").write_bytes(
        b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    )
    (tmp_path / "sig").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", "pae", "-sigfile", "sig"]
    subprocess.run(check, cwd=tmp_path, check=True, capture_output=True)


def test_keys_of_openssl_are_accepted(tmp_path: Path) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k"], check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "k", "-pubout", "-out", tmp_path / "p"], check=True)
    assert sign(SMALL, tmp_path / "k", tmp_path / "out") == read_public_key(tmp_path / "p").keyid
    assert signed_statement((tmp_path / "out").read_bytes(), tmp_path / "p") == SMALL


# Hostile envelopes.


def envelope_of(inner: Any, **changes: Any) -> bytes:
    """An envelope that is well formed but for what is asked for, with a signature that nobody looks at."""
    data = inner if isinstance(inner, bytes) else canonical(inner)
    signature = {"keyid": DIGEST, "sig": "AAAA"}
    document = {"payload": base64.b64encode(data).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return canonical({**document, **changes})


ONE = {"keyid": DIGEST, "sig": "AAAA"}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "x is not valid JSON"),
    "not JSON": (b"\x7fELF", "x is not valid JSON"),
    "a list": (canonical([]), "x is not a DSSE envelope (payload, payloadType, signatures)"),
    "a key too many": (envelope_of(SMALL, extra=1), "x is not a DSSE envelope"),
    "a key missing": (canonical({"payload": "", "signatures": []}), "x is not a DSSE envelope"),
    "a key twice": (envelope_of(SMALL).replace(b'"payloadType"', b'"payload": "",\n  "payloadType"'), "a key stands twice"),
    "another layout": (json.dumps(json.loads(envelope_of(SMALL))).encode(), "x is not canonical JSON"),
    "too long": (b" " * (LONGEST + 1), f"x has more than the {LONGEST:,} bytes allowed"),
    "deep": (b"[" * 900 + b"]" * 900, "x is not valid JSON (nested more than 64 levels deep)"),
    "another payload type": (envelope_of(SMALL, payloadType="text/plain"), "x has payloadType 'text/plain', not application/"),
    "no signature": (envelope_of(SMALL, signatures=[]), "x holds 0 signatures, not one"),
    "two signatures": (envelope_of(SMALL, signatures=[ONE, ONE]), "x holds 2 signatures, not one"),
    "a signature that is text": (envelope_of(SMALL, signatures=["AAAA"]), "x has a signature that is not a keyid and a sig"),
    "a signature with a certificate": (envelope_of(SMALL, signatures=[{**ONE, "cert": ""}]), "not a keyid and a sig"),
    "a keyid that is no digest": (envelope_of(SMALL, signatures=[{**ONE, "keyid": "../.."}]), "not a keyid and a sig"),
    "a sig that is a number": (envelope_of(SMALL, signatures=[{**ONE, "sig": 1}]), "not a keyid and a sig"),
    "a payload that is no base64": (envelope_of(SMALL, payload="e30=!"), "x has a payload that is not standard base64"),
    "the other alphabet": (envelope_of(SMALL, payload="_-8="), "x has a payload that is not standard base64"),
    "white space": (envelope_of(SMALL, payload="e3\n0="), "x has a payload that is not standard base64"),
    "loose bits": (envelope_of(SMALL, payload="e31="), "x has a payload that is not standard base64"),
    "not ASCII": (envelope_of(SMALL, payload="é"), "x has a payload that is not standard base64"),
    "a sig that is no base64": (envelope_of(SMALL, signatures=[{**ONE, "sig": "="}]), "x has a sig that is not standard base64"),
    "a payload that is no JSON": (envelope_of(b"{"), "the payload of x is not valid JSON"),
    "a deep payload": (envelope_of(b"[" * 900 + b"]" * 900), "the payload of x is not valid JSON (nested"),
    "NaN": (envelope_of(canonical(SMALL).replace(b'"exact"', b"NaN")), "the payload of x is not valid JSON (NaN"),
    "a float": (envelope_of(canonical(SMALL).replace(b'"exact"', b"1.5")), "is the float 1.5"),
    "half a character": (envelope_of(canonical(SMALL).replace(b'"exact"', rb'"\ud800"')), "text that is not Unicode"),
    "a key twice in the payload": (envelope_of(canonical(SMALL).replace(b'"_type"', b'"_type": "",\n  "_type"')), "a key stands twice"),
    "a payload laid out otherwise": (envelope_of(json.dumps(SMALL).encode()), "the payload of x is not canonical JSON"),
    "an older statement": (envelope_of({**SMALL, "_type": "https://in-toto.io/Statement/v0.1"}), "x holds no in-toto statement v1"),
    "a statement of another shape": (envelope_of({"_type": STATEMENT}), "x holds no in-toto statement v1"),
    "no subject": (envelope_of({**SMALL, "subject": []}), "x has a subject that is not a name with a SHA-256"),
    "a subject without digest": (envelope_of({**SMALL, "subject": [{"name": "x"}]}), "x has a subject that is not"),
    "a subject with SHA-1": (envelope_of({**SMALL, "subject": [{"name": "x", "digest": {"sha1": "a"}}]}), "x has a subject"),
    "a short SHA-256": (envelope_of({**SMALL, "subject": [{"name": "x", "digest": {"sha256": "a"}}]}), "x has a subject"),
    "a subject twice": (envelope_of({**SMALL, "subject": SMALL["subject"] * 2}), "x names a subject twice"),
    "a signature of nobody": (envelope_of(SMALL), "x is not signed by the key "),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_envelopes(data: bytes, words: str, public: Path) -> None:
    with pytest.raises((FormatError, AttestationError)) as error:
        signed_statement(data, public, "x")
    assert words in str(error.value)
    assert str(error.value).isprintable(), "one line, and nothing that a terminal would obey"


def test_another_key_is_named(signed: bytes, key: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "other")
    with pytest.raises(AttestationError) as error:
        signed_statement(signed, tmp_path / "other.pub", "x")
    assert f"it is signed with the key {read_private_key(key).public_key.keyid}" in str(error.value)


def test_a_payload_under_the_signature_of_another(signed: bytes, public: Path) -> None:
    document = json.loads(signed)
    other = canonical({**SMALL, "predicate": {"verdict": "near"}})
    with pytest.raises(AttestationError, match="its bytes were changed"):
        signed_statement(canonical({**document, "payload": base64.b64encode(other).decode()}), public)


# Bundles.

OTHER = {**SMALL, "predicateType": "https://example.com/other"}


@pytest.fixture(scope="module")
def bundle(key: Path) -> bytes:
    out = key.with_name("bundle")
    assert sign_bundle([SMALL, OTHER], key, out) == read_private_key(key).public_key.keyid
    return out.read_bytes()


def test_a_bundle_has_an_envelope_on_each_line(bundle: bytes, public: Path) -> None:
    """As in-toto's specification has it; other tools read it line by line."""
    found = SSlibKey.from_crypto(load_pem_public_key(public.read_bytes()))
    for line, statement in zip(bundle.splitlines(), (SMALL, OTHER), strict=True):
        envelope = Envelope.from_dict(json.loads(line))
        assert [*envelope.verify([found], 1)] == [found.keyid]
        assert json.loads(envelope.payload) == statement
    assert [signed_statement(each, public) for each in bundled(bundle, "x")] == [SMALL, OTHER]


def test_a_single_envelope_is_a_bundle_too(signed: bytes) -> None:
    assert bundled(signed, "x") == [signed]


def test_what_others_added_is_passed_over(bundle: bytes) -> None:
    first, second = bundle.splitlines(keepends=True)
    added = b"\n".join([b"", b"not JSON", b"[1]", b'{"payload": 1}', b"\xff\xfe", b""])
    assert bundled(first + added + second, "x") == bundled(bundle, "x")
    assert bundled(second, "x") == bundled(bundle, "x")[1:]
    # One text for one envelope: nobody can change a byte that the signature does not cover.
    assert bundled(first.replace(b":", b": ", 1) + second, "x") == bundled(bundle, "x")[1:]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"{}\n", b"[" * 999, b"{" * 99 + b"\n"])
def test_no_bundle(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^x holds no statement in a DSSE envelope: get the file again$"):
        bundled(data, "x")


def test_a_bundle_that_is_too_long() -> None:
    with pytest.raises(FormatError, match=f"^x has more than the {LONGEST:,} bytes allowed"):
        bundled(b" " * (LONGEST + 1), "x")
