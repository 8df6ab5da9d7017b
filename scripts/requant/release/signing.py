"""Signing a release: with an attestation of ours, or with a model signature of the OpenSSF.

A release is verified first, so nobody signs what contradicts itself; and what is signed is what was verified.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from requant.documents.file_names import (
    ATTESTATION,
    LEFT_BY_CLIENTS,
    LEFT_BY_HUBS,
    MANIFEST,
    MODEL_SIGNATURE,
    SIGNATURES,
    SUMS,
)
from requant.documents.manifest import read_manifest
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes, digest_file, named_when_whole, read_small
from requant.ground.errors import AttestationError, FormatError, MismatchError, RequantError, StaleError, ToolError
from requant.release.attestation import build_statement, sign
from requant.release.keys import LONGEST
from requant.release.method import Method
from requant.release.verify import verify_release
from requant.release.verify_verdict import Verification

CURVES = ("secp256r1", "secp384r1", "secp521r1")
MAKE_EC = "make one with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"


def sign_release(folder: Path, key: Path | None, method: Method = Method.DSSE) -> Path:
    """Verify a release and sign it; returns the file written: ``attestation.intoto.json`` or ``model.sig``.

    Args:
        folder: the release.
        key: the private key file: Ed25519 for ``dsse``, EC (P-256, P-384 or P-521) for ``model-signing``, none for
            ``sigstore``, which asks for an identity.
        method: how.

    Raises:
        MismatchError: when the release does not agree with itself.
        StaleError: when it was changed after it was verified.
        FormatError: when the release or the key cannot be read.
        AttestationError: when the method cannot sign with this key.
        ToolError: when ``model-signing`` is not installed or fails, or Sigstore cannot be reached.
    """
    if key is None and method != Method.SIGSTORE:
        make = "make one with requant new-key" if method == Method.DSSE else MAKE_EC
        raise AttestationError(f"{method} signs with a private key: give --key, or {make}")
    if key is not None and method == Method.SIGSTORE:
        raise AttestationError(f"{method} asks for an identity and takes no key: leave out --key")
    files = _verified(folder)
    if method != Method.DSSE:
        return _sign_model(folder, key, method, files)
    assert key is not None
    manifest = read_manifest(folder / MANIFEST)
    _require_same(folder, files, files | {MANIFEST: digest_bytes(canonical(manifest.document)).sha256})
    statement = build_statement(manifest, {name: sha256 for name, sha256 in files.items() if name != SUMS})
    sign(statement, key, folder / ATTESTATION)
    return folder / ATTESTATION


def _verified(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a release that agrees with itself, ``SHA256SUMS`` among them."""
    sums = folder / SUMS
    # Before they are read, so that others in their place do not go unseen.
    beside = {SUMS: digest_file(sums).sha256} if sums.is_file() else {}
    found: Verification = verify_release(folder)
    if found.schema is None and not found.findings:
        raise FormatError(f"{folder} holds no {MANIFEST} and is not signed: name a release that requant made")
    # What an older signature said is about to be replaced.
    differing = [finding for finding in found.findings if finding.where.partition(": ")[0] not in SIGNATURES]
    if differing:
        first = differing[0]
        raise MismatchError(
            f"{folder} differs at {first.where} (expected {first.expected}, found {first.actual}) and is not signed: "
            "see requant verify"
        )
    return {entry["name"]: entry["sha256"] for entry in found.files} | beside


def _require_same(folder: Path, verified: Mapping[str, str], found: Mapping[str, str]) -> None:
    changed = [name for name in sorted({*verified, *found}) if verified.get(name) != found.get(name)]
    if changed:
        raise StaleError(f"{folder / changed[0]} was changed while {folder} was verified and is not signed: try again")


def _sign_model(folder: Path, key: Path | None, method: Method, files: Mapping[str, str]) -> Path:
    """Sign ``files`` and nothing else of the folder with OpenSSF model-signing, into ``model.sig``.

    Such signatures are not reproducible: ECDSA draws a random number, and Sigstore a certificate.
    """
    if key is not None:
        _require_ec_key(key)
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise ToolError(f"{method} needs model-signing ({error}): pip install 'requant[signing]'") from error
    out = folder / MODEL_SIGNATURE
    # Left out on both sides: the signatures, which can be made in any order, what lies here and is not published, and
    # what hubs and their clients add later.
    here = [path.name for path in folder.iterdir()]
    left_out = {*here, *SIGNATURES, *LEFT_BY_HUBS, *LEFT_BY_CLIENTS} - files.keys()
    config = signing.Config().set_hashing_config(
        hashing.Config().set_ignored_paths(paths=left_out, ignore_git_paths=True)
    )

    def run() -> None:
        if key is None:
            config.use_sigstore_signer(use_ambient_credentials=True)
        else:
            config.use_elliptic_key_signer(private_key=key)
        with named_when_whole(out) as temporary:
            config.sign(folder, temporary)
            _require_same(folder, files, _signed_files(temporary))

    _in_one_sentence(run, method)
    return out


def _signed_files(signature: Path) -> dict[str, str]:
    """The SHA-256 of every file that a model signature speaks of."""
    payload = json.loads(base64.b64decode(json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]))
    return {each["name"]: each["digest"] for each in payload["predicate"]["resources"]}


def _in_one_sentence(run: Callable[[], None], method: Method) -> None:
    try:
        run()
    except RequantError:
        raise
    except Exception as error:
        # Network, identity, certificates: what the library raises has no common base.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        advice = (
            "it needs the network and an identity"
            if method == Method.SIGSTORE
            else "see what model_signing sign key says"
        )
        raise ToolError(f"{method} could not sign ({said}): {advice}") from error


def _require_ec_key(path: Path) -> None:
    data = read_small(path, LONGEST)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise FormatError(f"{path} is encrypted: decrypt it with openssl pkey, or {MAKE_EC}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{path} is not a private key in a PEM file: {MAKE_EC}") from error
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES):
        raise AttestationError(
            f"model-signing cannot sign with {path}, which is no EC key of P-256 to P-521: {MAKE_EC}"
        )
