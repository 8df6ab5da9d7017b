"""requant verify on a small release: it agrees with itself, and every change to any file is found and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from requant.cli.main import main
from requant.documents.consistency import disagreements
from requant.documents.file_names import ATTESTATION, EVALUATION
from requant.documents.manifest import read_manifest
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Digest, digest_file
from requant.ground.errors import FormatError
from requant.ground.text import in_units
from requant.release.card import write_card
from requant.release.keys import new_key
from requant.release.signing import sign_release
from requant.release.verify import _off_card, verify_release
from support.checkout import ROOT
from support.measured import evaluation
from support.small_release import IMATRIX, QUANT, finish, resum, write_release

GOLDEN = ROOT / "tests" / "golden" / "v1"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "key")
    return tmp_path / "key"


def places(release: Path, key: Path | None = None) -> set[str]:
    return {finding.where for finding in verify_release(release, key).findings}


def test_a_release_agrees_with_itself(release: Path) -> None:
    found = verify_release(release)
    assert (found.verdict, found.findings, found.tensors) == ("agrees", (), 3)
    assert {file["name"] for file in found.files} == {IMATRIX, QUANT, "README.md", "manifest.json"}


@pytest.fixture
def measured(release: Path) -> Path:
    """The release with an evaluation."""
    manifest = json.loads((release / "manifest.json").read_text())
    (release / EVALUATION).write_bytes(canonical(evaluation(manifest)))
    finish(release)
    return release


def test_a_measured_release_agrees_with_itself(measured: Path) -> None:
    found = verify_release(measured)
    assert (found.verdict, found.findings) == ("agrees", ())
    assert EVALUATION in {file["name"] for file in found.files}


EVALUATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of another model": (lambda e: e["fidelity"]["baseline"]["file"].update(sha256="0" * 64), "fidelity.baseline"),
    "of another quant": (lambda e: e["fidelity"]["quants"][0]["file"].update(size=1), "fidelity Q4_K_M"),
    "of another quant's speed": (lambda e: e["speed"]["models"][1]["file"].update(sha256="0" * 64), "speed Q4_K_M"),
    "of another quant's tensors": (lambda e: e["tensors"][0].update(type="Q8_0"), "tensors Q8_0"),
    "not finite": (lambda e: e["fidelity"]["baseline"]["perplexity"].update(value="nan"), EVALUATION),
    "of an unknown form": (lambda e: e.update(schema="requant/evaluation/v9"), EVALUATION),
}


@pytest.mark.parametrize(("change", "place"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_an_evaluation_that_is_wrong(measured: Path, change: Callable[[dict[str, Any]], object], place: str) -> None:
    document = json.loads((measured / EVALUATION).read_text())
    change(document)
    (measured / EVALUATION).write_bytes(canonical(document))
    resum(measured)
    assert any(place in found for found in places(measured))


def test_an_evaluation_that_the_card_does_not_show(measured: Path) -> None:
    document = json.loads((measured / EVALUATION).read_text())
    document["fidelity"]["quants"][0]["perplexity"]["value"] = "1.0"
    (measured / EVALUATION).write_bytes(canonical(document))
    resum(measured)
    assert verify_release(measured).verdict == "unchecked"


@pytest.mark.parametrize("name", [IMATRIX, QUANT, "README.md", "manifest.json"])
def test_one_changed_byte(release: Path, name: str) -> None:
    data = bytearray((release / name).read_bytes())
    data[-1] ^= 1
    (release / name).write_bytes(data)
    assert any(place.startswith(name) for place in places(release))


def test_hidden_by_new_sums_the_tensor_is_named(release: Path) -> None:
    """Whoever changes weights and writes the sums anew is found by the manifest."""
    data = bytearray((release / QUANT).read_bytes())
    data[-1] ^= 1
    (release / QUANT).write_bytes(data)
    resum(release)
    found = verify_release(release)
    assert found.verdict == "differs"
    assert any("output_norm.weight" in finding.where for finding in found.findings), found.findings


def change(document: dict[str, Any], path: str, value: object) -> None:
    *keys, last = path.split(".")
    for each in keys:
        document = document[int(each) if each.isdigit() else each]
    document[int(last) if last.isdigit() else last] = value


LIES: dict[str, tuple[str, object]] = {
    "recipe changed under its digest": ("recipe.document.calibration.chunks", 99),
    "digest of the recipe": ("recipe.sha256", "0" * 64),
    "imatrix of another size": ("imatrix.file.size", 1),
    "quant of another digest": ("quants.0.file.sha256", "0" * 64),
    "a tensor of another digest": ("quants.0.tensors.0.sha256", "0" * 64),
    "a material from nowhere": ("steps.1.materials.0.sha256", "0" * 64),
    "a product nobody made": ("steps.2.products.0.sha256", "0" * 64),
}


@pytest.mark.parametrize(("path", "value"), LIES.values(), ids=list(LIES))
def test_a_manifest_that_lies(release: Path, path: str, value: object) -> None:
    """Card and sums made anew do not help: the manifest contradicts itself or the files."""
    document = parse((release / "manifest.json").read_bytes(), "x")
    change(document, path, value)
    (release / "manifest.json").write_bytes(canonical(document))
    finish(release)
    assert verify_release(release).verdict == "differs"


def test_a_card_that_was_retouched(release: Path) -> None:
    card = release / "README.md"
    honest = card.read_text()
    card.write_text(honest.replace("the model as Q4_K_M", "the model as Q8_0"))
    assert card.read_text() != honest
    resum(release)
    assert verify_release(release).verdict == "unchecked"
    assert CliRunner().invoke(main, ["verify", str(release)]).exit_code == 3
    card.write_text(honest.replace("Q4_K_M", "0" * 64))
    resum(release)
    assert verify_release(release).verdict == "differs"


def exchanged(text: str, one: str, other: str) -> str:
    return text.replace(one, "@").replace(other, one).replace("@", other)


# What is made of a card, by the digests and sizes of its two files, and what the findings are about.
RETOUCHED: dict[str, tuple[Callable[[str, Digest, Digest], str], set[str]]] = {
    "more words": (lambda text, a, b: f"{text}More words.\n", set()),
    "other line ends": (lambda text, a, b: text.replace("\n", "\r\n"), set()),
    "digests exchanged": (lambda text, a, b: exchanged(text, a.sha256, b.sha256), {IMATRIX, QUANT}),
    "digests exchanged once": (
        lambda text, a, b: exchanged(text[:9000], a.sha256, b.sha256) + text[9000:], {IMATRIX, QUANT}
    ),
    "a larger size": (lambda text, a, b: text.replace(f"{a.size:,} B", f"5{a.size:,} B"), {IMATRIX}),
    "sizes exchanged": (lambda text, a, b: exchanged(text, f"{a.size:,} B", f"{b.size:,} B"), {IMATRIX, QUANT}),
    "a digest in upper case": (lambda text, a, b: f"{text}{'AB' * 32}\n", {""}),
    "a digest behind a word": (lambda text, a, b: f"{text}sha256_{'ab' * 32}\n", {""}),
    "its own digest in upper case": (lambda text, a, b: f"{text}{a.sha256.upper()}\n", set()),
}  # fmt: skip


@pytest.mark.parametrize(("change", "names"), RETOUCHED.values(), ids=RETOUCHED)
def test_digests_and_sizes_of_a_card(
    release: Path, change: Callable[[str, Digest, Digest], str], names: set[str]
) -> None:
    card, files = release / "README.md", (digest_file(release / name) for name in (IMATRIX, QUANT))
    card.write_bytes(change(card.read_text(), *files).encode())
    resum(release)
    assert places(release) == {f"README.md: {name}" if name else "README.md" for name in names}


@pytest.mark.parametrize("kind", ["golden", "measured", "in shards"])
def test_every_card_of_ours_says_them(measured: Path, tmp_path: Path, kind: str) -> None:
    """Whichever version wrote it: none is accused because this one writes another."""
    cards = {
        "golden": lambda: GOLDEN,
        "measured": lambda: measured,
        "in shards": lambda: write_release(tmp_path / "s", 2),
    }
    folder = cards[kind]()
    text = (folder / "README.md").read_text()
    for name, digest in read_manifest(folder / "manifest.json").files.items():
        assert [*_off_card(text, name, digest)] == []


def test_with_a_key(release: Path, key: Path, tmp_path: Path) -> None:
    public = key.with_name("key.pub")
    assert places(release, public) == {ATTESTATION}, "a signature that was asked for is missing"
    sign_release(release, key)
    found = verify_release(release, public)
    assert found.verdict == "agrees" and found.signed_by
    assert verify_release(release).signed_by is None
    new_key(tmp_path / "other")
    assert places(release, tmp_path / "other.pub") == {ATTESTATION}
    sign_release(release, key)
    envelope = json.loads((release / ATTESTATION).read_bytes())
    envelope["payload"] = envelope["payload"][::-1]
    (release / ATTESTATION).write_bytes(canonical(envelope))
    assert places(release, public) == {ATTESTATION}


def test_what_a_hub_leaves_beside_a_release_is_noted(release: Path) -> None:
    """As ModelScope and its client give a release back: they say nothing of its files."""
    (release / "configuration.json").write_text('{"framework": "pytorch", "task": "text-generation"}')
    for name in (".gitattributes", ".msc", ".mv"):
        (release / name).touch()
    found = verify_release(release)
    assert (found.verdict, found.findings) == ("agrees", ())
    assert "not looked at: .gitattributes, .msc, .mv, configuration.json" in found.notes
    status, lines = said(release)
    assert (status, lines[-1]) == (0, "agrees: none of 4 files and 3 tensors differs")
    assert "note: not looked at: .gitattributes, .msc, .mv, configuration.json" in lines


@pytest.mark.parametrize("name", ["configuration.py", "Configuration.json", "config.json", "configuration.json/x"])
def test_what_no_hub_leaves_is_still_a_difference(release: Path, name: str) -> None:
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).touch()
    assert places(release) == {name.partition("/")[0]}


def test_what_the_sums_name_is_compared_whatever_it_is_called(files: Path) -> None:
    (files / "configuration.json").write_text("{}")
    resum(files)
    assert said(files)[1][-1] == "unchecked: none of 2 files differs, but not all was checked"
    (files / "configuration.json").write_text("{ }")
    assert said(files)[1][-1] == "differs: 1 of 2 files differ"


# What people are shown.


def said(folder: Path, *options: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(main, ["verify", str(folder), *options])
    return done.exit_code, done.stdout.splitlines()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


SUMMARIES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "nothing": (lambda _: None, 0, "agrees: none of 4 files and 3 tensors differs"),
    "a tensor": (lambda release: flip(release / QUANT), 1, "differs: 1 of 4 files and 1 of 3 tensors differ"),
    "a tensor, hidden": (
        lambda release: (flip(release / QUANT), resum(release)),
        1,
        "differs: 1 of 4 files and 1 of 3 tensors differ",
    ),
    "the card": (lambda release: flip(release / "README.md"), 1, "differs: 1 of 4 files and 0 of 3 tensors differ"),
    "a missing file": (lambda release: (release / QUANT).unlink(), 1, "differs: 1 of 4 files differ"),
    "a damaged file": (
        lambda release: (release / QUANT).write_bytes(b"GGUF"),
        1,
        "differs: 1 of 4 files and 3 of 3 tensors differ",
    ),
    "a file more": (
        lambda release: (release / "more").touch(),
        1,
        "differs: none of 4 files and 3 tensors differs, but what else is listed does",
    ),
    "words of the card": (
        lambda release: ((release / "README.md").open("a").write("Hi\n"), resum(release)),
        3,
        "unchecked: none of 4 files and 3 tensors differs, but not all was checked",
    ),
}


@pytest.mark.parametrize(("change", "code", "sentence"), SUMMARIES.values(), ids=SUMMARIES)
def test_the_last_line_cannot_be_misread(
    release: Path, change: Callable[[Path], object], code: int, sentence: str
) -> None:
    change(release)
    status, lines = said(release)
    assert (status, lines[-1]) == (code, sentence)


def test_what_was_checked_is_listed(release: Path) -> None:
    _, lines = said(release)
    digest = hashlib.sha256((release / QUANT).read_bytes()).hexdigest()
    assert lines[0] == f"release: {release}"
    assert f"  {QUANT}  {in_units((release / QUANT).stat().st_size):>8}  {digest}" in lines
    assert len([line for line in lines if line.startswith("  ")]) == 4


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with sums and nothing that says what the files are."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "README.md").write_text("# Tiny\n")
    resum(folder)
    return folder


def test_a_folder_without_a_manifest(files: Path, key: Path) -> None:
    digest = hashlib.sha256(b"# Tiny\n").hexdigest()
    unchecked = "not checked: recipe, inputs, tensors and card: the folder holds no manifest.json"
    assert said(files) == (
        3,
        [
            f"release: {files}",
            f"  README.md       7 B  {digest}",
            unchecked,
            "unchecked: none of 1 file differs, but not all was checked",
        ],
    )
    status, lines = said(files, "--key", f"{key}.pub")
    assert (status, lines[3]) == (3, "not checked: attestation.intoto.json: it speaks of the manifest.json")
    (files / "README.md").write_text("# Other\n")
    status, lines = said(files)
    assert (status, lines[-1]) == (1, "differs: 1 of 1 files differ")


def test_a_folder_without_a_manifest_is_not_signed(files: Path, key: Path) -> None:
    with pytest.raises(FormatError, match=r"holds no manifest\.json and is not signed"):
        sign_release(files, key)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "no sums": lambda release: (release / "SHA256SUMS").unlink(),
    "sums of nothing": lambda release: (release / "SHA256SUMS").write_text(""),
    "another schema": lambda release: rewrite(release, {"schema": "requant/manifest/v9"}),
    "no schema": lambda release: rewrite(release, {"schema": None}),
    "no JSON": lambda release: (release / "manifest.json").write_bytes(b"{") and resum(release),
}


def rewrite(release: Path, changes: dict[str, object]) -> None:
    document = parse((release / "manifest.json").read_bytes(), "x") | changes
    (release / "manifest.json").write_bytes(canonical(document))
    resum(release)


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=list(UNREADABLE))
def test_unreadable(release: Path, spoil: Callable[[Path], object]) -> None:
    spoil(release)
    done = CliRunner().invoke(main, ["verify", str(release)])
    assert done.exit_code in (2, 3) and done.output.splitlines()[-1].startswith("error: "), done.output


def test_the_commands(release: Path, tmp_path: Path) -> None:
    """new-key, attest and verify, one after another."""
    run = CliRunner().invoke
    assert run(main, ["new-key", str(tmp_path / "k")]).exit_code == 0
    assert run(main, ["attest", str(release), "--key", str(tmp_path / "k")]).exit_code == 0
    done = run(main, ["verify", str(release), "--key", str(tmp_path / "k.pub"), "--json", str(tmp_path / "v.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "v.json").read_text())["verdict"] == "agrees"
    (release / "README.md").write_text("other")
    assert run(main, ["verify", str(release), "--key", str(tmp_path / "k.pub")]).exit_code == 1


def test_manifests_of_version_1_verify_forever(tmp_path: Path) -> None:
    assert [*disagreements(read_manifest(GOLDEN / "manifest.json"))] == []
    write_card(GOLDEN / "manifest.json", None, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_bytes() == (GOLDEN / "README.md").read_bytes()
