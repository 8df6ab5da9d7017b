"""requant.release.keys: a key file is made once and private, and no other is taken for one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from requant.ground.errors import DiskError, FormatError, RecipeError
from requant.release.keys import new_key, read_private_key, read_public_key


def test_a_new_key_is_private_and_never_overwrites(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        keyid = new_key(tmp_path / "k")
    finally:
        os.umask(old)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert keyid == read_public_key(tmp_path / "k.pub").keyid == read_private_key(tmp_path / "k").public_key.keyid
    before = (tmp_path / "k").read_bytes()
    with pytest.raises(RecipeError, match="k is there already: a key is never overwritten"):
        new_key(tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == before
    (tmp_path / "k").unlink()
    with pytest.raises(RecipeError, match=r"k\.pub is there already"):
        new_key(tmp_path / "k")
    assert not (tmp_path / "k").exists(), "half a pair is no pair"
    (tmp_path / "link").symlink_to(tmp_path / "away")
    with pytest.raises(RecipeError, match="link is there already"):
        new_key(tmp_path / "link")
    with pytest.raises(DiskError, match="cannot be written"):
        new_key(tmp_path / "none" / "k")


PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)
ED25519 = Ed25519PrivateKey.generate()
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RSA = rsa.generate_private_key(65537, 2048)
PLAIN = ED25519.private_bytes(*PKCS8, NoEncryption())
BAD_PRIVATE: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "is not a file that can be read: check the path"),
    "empty": (b"", "is not a private key in a PEM file: make one with requant new-key"),
    "not PEM": (b"\x00" * 32, "is not a private key in a PEM file"),
    "damaged": (PLAIN.replace(b"MC4C", b"MC4D"), "is not a private key in a PEM file"),
    "encrypted": (ED25519.private_bytes(*PKCS8, BestAvailableEncryption(b"x")), "is encrypted: decrypt it with openssl pkey"),
    "RSA": (RSA.private_bytes(*PKCS8, NoEncryption()), "is a private key of another kind than Ed25519"),
    "EC": (ec.generate_private_key(ec.SECP256R1()).private_bytes(*PKCS8, NoEncryption()), "of another kind than Ed25519"),
    "public": (ED25519.public_key().public_bytes(*SPKI), "is not a private key in a PEM file"),
    "huge": (b"A" * (1 << 20), "has more than the 16,384 bytes allowed"),
}  # fmt: skip
BAD_PUBLIC: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "is not a file that can be read: check the path"),
    "empty": (b"", "is not a public key in a PEM file"),
    "raw": (ED25519.public_key().public_bytes_raw(), "is not a public key in a PEM file"),
    "private": (PLAIN, "holds a private key: name the public one, which ends in .pub"),
    "RSA": (RSA.public_key().public_bytes(*SPKI), "is a public key of another kind than Ed25519"),
    "huge": (b"A" * (1 << 20), "has more than the 16,384 bytes allowed"),
}


@pytest.mark.parametrize(
    ("read", "data", "words"),
    [*((read_private_key, *bad) for bad in BAD_PRIVATE.values()), *((read_public_key, *bad) for bad in BAD_PUBLIC.values())],
    ids=[*(f"private {name}" for name in BAD_PRIVATE), *(f"public {name}" for name in BAD_PUBLIC)],
)  # fmt: skip
def test_bad_keys(tmp_path: Path, read: Callable[[Path], object], data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / "k").write_bytes(data)
    with pytest.raises(FormatError) as error:
        read(tmp_path / "k")
    assert str(error.value).startswith(f"{tmp_path / 'k'} ")
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "k")
    with pytest.raises(FormatError, match="is not a file that can be read"):
        read_private_key(tmp_path / "k")


def test_a_key_may_be_a_link(tmp_path: Path, public: Path) -> None:
    (tmp_path / "link").symlink_to(public)
    assert read_public_key(tmp_path / "link").keyid == read_public_key(public).keyid
