"""requant.release.signing: a release is signed whole or not at all, and model_signing accepts it."""

import json
import re
import shutil
import subprocess
import sys
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

from requant.documents.file_names import ATTESTATION, MODEL_SIGNATURE, SUMS
from requant.documents.sums import read_sums, sums_text
from requant.ground.canonical import canonical
from requant.ground.errors import DiskError, MismatchError, RequantError, StaleError, ToolError
from requant.release.attestation import read_envelope, subjects
from requant.release.method import Method
from requant.release.signing import MAKE_EC, sign_release
from requant.release.verify import verify_release
from requant.release.verify_verdict import Verification
from support.checkout import ROOT
from support.small_release import resum

PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)
ED25519 = Ed25519PrivateKey.generate()
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RSA = rsa.generate_private_key(65537, 2048)
PLAIN = ED25519.private_bytes(*PKCS8, NoEncryption())


def test_a_release_that_contradicts_itself_is_not_signed(release: Path, key: Path) -> None:
    (release / "README.md").write_text("# Another\n")
    with pytest.raises(MismatchError, match=r"differs at README\.md .* and is not signed: see requant verify"):
        sign_release(release, key)
    resum(release)
    with pytest.raises(MismatchError, match=r"differs at README\.md: "):
        sign_release(release, key)
    assert not (release / ATTESTATION).exists()


@pytest.mark.parametrize("name", ["model.sigma-Q4_K_M.gguf", "attestation.intoto.jsonl"])
def test_a_name_that_begins_as_a_signature_is_none(release: Path, key: Path, name: str) -> None:
    (release / name).write_bytes(b"x")
    with pytest.raises(MismatchError, match=f"differs at {name}"):
        sign_release(release, key)


def test_the_page_says_which_key_each_method_takes() -> None:
    page = (ROOT / "docs" / "attestation.md").read_text()
    _, _, table = page.partition("| `--method` | `--key` |\n")
    assert re.findall(r"^\| `([a-z-]+)`", table.partition("\n\n")[0], re.MULTILINE) == [*Method]
    assert MAKE_EC.removeprefix("make one with ") in table


def test_a_stale_attestation_is_replaced(release: Path, key: Path) -> None:
    (release / ATTESTATION).write_text("old")
    sign_release(release, key)
    assert len((release / ATTESTATION).read_bytes()) > 1000


def test_nothing_is_half_written(release: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("requant.release.attestation.write_bytes", full)
    with pytest.raises(DiskError, match="cannot be written \\(No space left on device\\)"):
        sign_release(release, key)
    assert not (release / ATTESTATION).exists()


@pytest.fixture
def ec_key(tmp_path: Path) -> Path:
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", tmp_path / "ec"]
    subprocess.run(make, check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "ec", "-pubout", "-out", tmp_path / "ec.pub"], check=True)
    return tmp_path / "ec"


def model_signing(folder: Path, public: Path) -> "subprocess.CompletedProcess[str]":
    command = ["verify", "key", "--signature", folder / MODEL_SIGNATURE, "--public_key", public, folder]
    return subprocess.run([sys.executable, "-m", "model_signing", *command], capture_output=True, text=True)


def test_model_signing_accepts_the_release(release: Path, key: Path, ec_key: Path, tmp_path: Path) -> None:
    assert sign_release(release, ec_key, Method.MODEL_SIGNING) == release / MODEL_SIGNATURE
    # The attestation may come before or after, and the folder may lie elsewhere.
    sign_release(release, key)
    moved = release.rename(tmp_path / "moved")
    done = model_signing(moved, ec_key.with_name("ec.pub"))
    assert done.returncode == 0, done.stderr
    (moved / "README.md").write_text("# Another\n")
    assert model_signing(moved, ec_key.with_name("ec.pub")).returncode != 0


def left_beside(folder: Path) -> None:
    """What is not looked at by requant verify, and not brought to hubs."""
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    for name in (".DS_Store", ".cache/huggingface/x.lock", ".gitattributes", "configuration.json"):
        (folder / name).write_text("x")


def test_what_is_not_published_is_not_signed(release: Path, key: Path, ec_key: Path, tmp_path: Path) -> None:
    names = [*read_sums(release), SUMS, ATTESTATION, MODEL_SIGNATURE]
    left_beside(release)
    sign_release(release, key)
    sign_release(release, ec_key, Method.MODEL_SIGNING)
    published = tmp_path / "published"
    published.mkdir()
    for name in names:
        shutil.copy(release / name, published)
    public = ec_key.with_name("ec.pub")
    assert model_signing(release, public).returncode == model_signing(published, public).returncode == 0
    (published / SUMS).unlink()
    assert model_signing(published, public).returncode != 0


def test_what_hubs_add_later_leaves_the_signature_as_it_is(release: Path, ec_key: Path) -> None:
    sign_release(release, ec_key, Method.MODEL_SIGNING)
    left_beside(release)
    (release / ".DS_Store").unlink()
    assert model_signing(release, ec_key.with_name("ec.pub")).returncode == 0


@pytest.mark.parametrize(("method", "name"), [(Method.DSSE, "manifest.json"), *((Method.MODEL_SIGNING, name) for name in ("manifest.json", "README.md", SUMS))])  # fmt: skip
def test_what_was_replaced_after_it_was_verified_is_not_signed(
    release: Path, key: Path, ec_key: Path, monkeypatch: pytest.MonkeyPatch, method: Method, name: str
) -> None:
    def verified(folder: Path) -> Verification:
        found = verify_release(folder)
        document = json.loads((folder / "manifest.json").read_text())
        document["recipe"]["document"]["name"] = "Another"
        (folder / name).write_bytes(canonical(document))
        return found

    monkeypatch.setattr("requant.release.signing.verify_release", verified)
    with pytest.raises(StaleError, match=f"{name} .*changed while .* is not signed"):
        sign_release(release, key if method == Method.DSSE else ec_key, method)
    assert not (release / ATTESTATION).exists() and not (release / MODEL_SIGNATURE).exists()


def test_sums_that_were_replaced_after_they_were_verified_are_not_signed(
    release: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verified(folder: Path) -> Verification:
        found = verify_release(folder)
        (folder / SUMS).write_text(sums_text(dict.fromkeys(read_sums(folder), "0" * 64)))
        return found

    wanted = read_sums(release)
    monkeypatch.setattr("requant.release.signing.verify_release", verified)
    _, statement = read_envelope(sign_release(release, key).read_bytes(), ATTESTATION)
    assert subjects(statement) == wanted


BAD_SIGNING: dict[str, tuple[bytes | None, str, str]] = {
    "no key": (None, "dsse", "give --key, or make one with requant new-key"),
    "no model key": (None, "model-signing", "give --key, or make one with openssl genpkey"),
    "a key for sigstore": (PLAIN, "sigstore", "sigstore asks for an identity and takes no key: leave out --key"),
    "Ed25519 for model-signing": (PLAIN, "model-signing", "which is no EC key of P-256 to P-521: make one with openssl"),
    "RSA for model-signing": (RSA.private_bytes(*PKCS8, NoEncryption()), "model-signing", "which is no EC key"),
    "another curve": (ec.generate_private_key(ec.SECP256K1()).private_bytes(*PKCS8, NoEncryption()), "model-signing", "which is no EC key"),
    "encrypted for model-signing": (ED25519.private_bytes(*PKCS8, BestAvailableEncryption(b"x")), "model-signing", "is encrypted"),
    "no PEM for model-signing": (b"x", "model-signing", "is not a private key in a PEM file"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "method", "words"), BAD_SIGNING.values(), ids=list(BAD_SIGNING))
def test_what_cannot_sign(release: Path, tmp_path: Path, data: bytes | None, method: str, words: str) -> None:
    key = None
    if data is not None:
        key = tmp_path / "k"
        key.write_bytes(data)
    before = sorted(release.iterdir())
    with pytest.raises(RequantError) as error:
        sign_release(release, key, Method(method))
    assert words in str(error.value)
    assert str(error.value).isprintable()
    assert sorted(release.iterdir()) == before


def test_sigstore_without_network(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever this machine reaches: nothing listens there.
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(release.parent))
    with pytest.raises(ToolError) as error:
        sign_release(release, None, Method.SIGSTORE)
    assert str(error.value).startswith("sigstore could not sign (")
    assert str(error.value).endswith("): it needs the network and an identity")
    assert not (release / MODEL_SIGNATURE).exists()


def test_without_model_signing(release: Path, ec_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(ToolError, match=r"model-signing needs model-signing .*: pip install 'requant\[signing\]'"):
        sign_release(release, ec_key, Method.MODEL_SIGNING)
