"""requant.places.repository: what names a repository, and what is said of one that does not deliver."""

from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelscope_hub.errors import HubError, NetworkError, NotExistError, PermissionDeniedError

from requant.ground.digests import Known
from requant.ground.errors import AccessError, SourceError
from requant.places import hub, modelscope
from requant.places.repository import ID, NAME, PATH, RECORDED_ID, Advice, FolderRepository, Sentence, explained

Parts = tuple[str, str | None, str | None]
# What is named as follows hf:// or ms://; and whether the same text alone could be nothing else.
NAMES: dict[str, tuple[Parts | None, bool]] = {
    "Qwen/Qwen3-4B": (("Qwen/Qwen3-4B", None, None), True),
    "a/b": (("a/b", None, None), True),
    "_a/b_.c": (("_a/b_.c", None, None), True),
    "a/b@main": (("a/b", "main", None), True),
    "a/b@refs/pr/1": (("a/b", "refs/pr/1", None), True),
    "a/b@v1.0/deep/x.gguf": (("a/b", "v1.0", "deep/x.gguf"), True),
    "a/b@refs/convert/parquet/x": (("a/b", "refs/convert/parquet", "x"), True),
    "a/b/x.gguf": (("a/b", None, "x.gguf"), False),
    "a/b/x@y": (("a/b", None, "x@y"), False),
    f"{'a' * 96}/{'b' * 96}": ((f"{'a' * 96}/{'b' * 96}", None, None), True),
    f"a/{'b' * 97}": (None, False),
    "a": (None, False),
    "a/": (None, False),
    "a/b@": (None, False),
    "../b": (None, False),
    "./b": (None, False),
    "a/.b": (None, False),
    "a/b-": (None, False),
    "a/b--c": (None, False),
    "a..b/c": (None, False),
    "a/b\n": (None, False),
    "ä/b": (None, False),
}


@pytest.mark.parametrize(("text", "parts", "alone"), [(text, *found) for text, found in NAMES.items()], ids=list(NAMES))
def test_names(text: str, parts: Parts | None, alone: bool) -> None:
    found = PATH.fullmatch(text)
    assert (found and found.group("repo", "revision", "file")) == parts
    named = NAME.fullmatch(text)
    assert (named and named.group("repo", "revision", "file")) == (parts if alone else None)
    assert bool(ID.fullmatch(text)) == (parts is not None and parts[1:] == (None, None))


@given(st.from_regex(ID, fullmatch=True))
def test_whatever_a_hub_allows_may_stand_in_a_document(name: str) -> None:
    assert RECORDED_ID.fullmatch(name)


def answer(status: int) -> Exception:
    return hub.HfHubHTTPError("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://hub")))


BUSY = HubError("{named_by} is no place of ours\nand more")
HUB, MODELSCOPE = (*hub.SENTENCES, hub.FOREIGN), modelscope.SENTENCES
EXPLAINED: dict[str, tuple[Exception, tuple[Sentence, ...], Advice, str]] = {
    "refused": (answer(403), HUB, hub.PINNED, "refuses access: set HF_TOKEN to a token that may read it (403)"),
    "absent": (answer(404), HUB, hub.ADDRESSED, "does not exist: correct the address (404)"),
    "busy": (
        answer(503),
        HUB,
        hub.ADDRESSED,
        "keeps answering 503: wait and run again, or name a mirror in HF_ENDPOINT, or audit files that lie on this machine",
    ),
    "unreachable": (
        httpx2.ConnectError("{elsewhere}"),
        HUB,
        hub.PINNED,
        "cannot be reached: name a mirror in HF_ENDPOINT, take the weights from elsewhere (--config source=...), or try the tiny recipe",
    ),
    "no hub": (KeyError("sha"), HUB, hub.PINNED, "does not speak the Hub's protocol: correct HF_ENDPOINT"),
    "ModelScope lacks it": (
        NotExistError("no"),
        MODELSCOPE,
        modelscope.PINNED,
        "lacks the repository or a file: correct the pin (404)",
    ),
    "ModelScope refuses": (
        PermissionDeniedError("no"),
        MODELSCOPE,
        modelscope.PINNED,
        "refuses access: set MODELSCOPE_API_TOKEN",
    ),
    "ModelScope is unreachable": (
        NetworkError("no"),
        MODELSCOPE,
        modelscope.ADDRESSED,
        "cannot be reached: check the network, or name another source",
    ),
    "ModelScope fails": (BUSY, MODELSCOPE, modelscope.PINNED, f"failed: {str(BUSY).splitlines()[0]}"),
}


@pytest.mark.parametrize(("error", "sentences", "advice", "words"), EXPLAINED.values(), ids=list(EXPLAINED))
def test_explained(error: Exception, sentences: tuple[Sentence, ...], advice: Advice, words: str) -> None:
    found = explained(error, advice, "x/y", sentences)
    assert type(found) is (AccessError if "HF_TOKEN" in words else SourceError)
    assert str(found) == f"x/y {words}"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(28, "No space left on device")], ids=repr)
def test_what_is_no_hubs_fault_is_not_explained(error: Exception) -> None:
    assert explained(error, hub.PINNED, "x/y", HUB) is None
    assert explained(error, modelscope.PINNED, "x/y", MODELSCOPE) is None


def test_a_folder_records_sizes_and_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    folder = FolderRepository(tmp_path)
    assert folder.record(["config.json", "absent"]) == {"config.json": Known(2)}
    assert not folder.record(["config.json"])["config.json"].proves_content
    assert folder.cached("config.json") == tmp_path / "config.json"
    assert folder.shown == f"the folder {tmp_path}"
