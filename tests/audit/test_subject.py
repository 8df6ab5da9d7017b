"""requant.audit.subject.subject: what our manifest beside a quant says of its making, and that one of another kind says nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.audit.subject.subject import open_subject
from requant.documents.file_names import MANIFEST
from requant.ground.canonical import canonical, parse
from requant.ground.errors import FormatError, UnsupportedError
from support.manifests import STRANGE
from support.small_release import QUANT, write_release

Change = Callable[[dict[str, Any]], object]


def opened(folder: Path, change: Change) -> tuple[bool, str | None]:
    """Whether a manifest is taken for that of the quant, and where the quant then says that its weights lie."""
    release = write_release(folder / "release")
    document = parse((release / MANIFEST).read_bytes(), MANIFEST)
    change(document)
    (release / MANIFEST).write_bytes(canonical(document))
    subject = open_subject(str(release / QUANT))
    subject.place.close()
    return subject.manifest is not None, subject.weights


MANIFESTS: dict[str, tuple[Change, tuple[bool, str | None]]] = {
    "of generated weights": (lambda _: None, (True, None)),
    "of weights at a hub": (
        lambda document: document["inputs"]["model"].update(repo="Org/Big", revision="a" * 40),
        (True, f"hf://Org/Big@{'a' * 40}"),
    ),
    "of another quant": (lambda document: document["quants"][0]["file"].update(name="Other.gguf"), (False, None)),
    "of somebody else": (lambda document: document.update(schema="their/manifest"), (False, None)),
}


@pytest.mark.parametrize(("change", "found"), MANIFESTS.values(), ids=list(MANIFESTS))
def test_a_manifest_beside_it(tmp_path: Path, change: Change, found: tuple[bool, str | None]) -> None:
    assert opened(tmp_path, change) == found


@pytest.mark.parametrize("text", STRANGE.values(), ids=list(STRANGE))
def test_somebody_elses_manifest_is_passed_over(tmp_path: Path, text: str) -> None:
    release = write_release(tmp_path / "release")
    (release / MANIFEST).write_text(text)
    subject = open_subject(str(release / QUANT))
    subject.place.close()
    assert subject.manifest is None


def test_a_manifest_of_a_later_version_is_no_stranger(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"has schema requant/manifest/v9: install a requant that knows it"):
        opened(tmp_path, lambda document: document.update(schema="requant/manifest/v9"))


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"^manifest\.json: quants is missing"):
        opened(tmp_path, lambda document: document.pop("quants"))
