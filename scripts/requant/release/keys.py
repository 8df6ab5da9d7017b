"""Ed25519 keys in PEM files, as ``openssl genpkey -algorithm ed25519`` writes them."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey

from requant.ground.digests import read_small
from requant.ground.errors import DiskError, FormatError, RecipeError

# A PEM file of such a key has 119 bytes.
LONGEST = 1 << 14
PUBLIC_SUFFIX = ".pub"


def new_key(path: Path) -> str:
    """Write a new private key to ``path``, for its owner only, and its public half to ``path`` + ``.pub``.

    Returns the id of the key.

    Raises:
        RecipeError: when one of the two is there already, which is never overwritten.
        DiskError: when they cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    pem, public_pem = private_pem(private), public_pem_of(private.public_key())
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    _write_new(path, pem, 0o600)
    try:
        _write_new(public, public_pem, 0o644)
    except (RecipeError, DiskError):
        path.unlink()
        raise
    return SSlibKey.from_crypto(private.public_key()).keyid


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """A private key as unencrypted PKCS #8."""
    nothing = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, nothing)


def public_pem_of(key: Ed25519PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        # O_EXCL: no other program can slip a file or link in between looking and writing.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise RecipeError(f"{path} is there already: a key is never overwritten, name another file") from error
    except OSError as error:
        raise DiskError(f"{path} cannot be written ({error.strerror or error}): name another file") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise DiskError(f"{path} cannot be written ({error.strerror or error}): make room and run again") from error


def read_private_key(path: Path) -> CryptoSigner:
    """Read what to sign with.

    Raises:
        FormatError: naming the file, when it is not an Ed25519 private key in an unencrypted PEM file.
    """
    data = read_small(path, LONGEST)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise FormatError(
            f"{path} is encrypted: decrypt it with openssl pkey, or make another key with requant new-key"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{path} is not a private key in a PEM file: make one with requant new-key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FormatError(f"{path} is a private key of another kind than Ed25519: make one with requant new-key")
    return CryptoSigner(key)


def read_public_key(path: Path) -> SSlibKey:
    """Read what to check signatures with.

    Raises:
        FormatError: naming the file, when it is not an Ed25519 public key in a PEM file.
    """
    data = read_small(path, LONGEST)
    if b"PRIVATE KEY" in data:
        raise FormatError(f"{path} holds a private key: name the public one, which ends in {PUBLIC_SUFFIX}")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{path} is not a public key in a PEM file: ask the signer for it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise FormatError(f"{path} is a public key of another kind than Ed25519: ask the signer for that one")
    return SSlibKey.from_crypto(key)
