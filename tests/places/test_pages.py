"""requant.places.pages: an address that a browser shows is the place that it shows, or one sentence with the right one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from requant.ground.errors import PlaceError
from requant.places.pages import HUGGING_FACE, MODELSCOPE, require_here, spelled
from requant.places.place import open_place
from support.hub import LoopbackHub, Snapshot

HF, MS, REPO = "https://huggingface.co", "https://modelscope.cn/models", "Qwen/Qwen3-4B"
COMMIT = "a" * 40
PAGES: dict[str, str] = {
    f"{HF}/{REPO}": f"hf://{REPO}",
    f"{HF}/{REPO}/": f"hf://{REPO}",
    f"{HF}/{REPO}#usage": f"hf://{REPO}",
    f"{HF}/{REPO}?library=transformers": f"hf://{REPO}",
    f"{HF}/{REPO}/tree/main": f"hf://{REPO}@main",
    f"{HF}/{REPO}/tree/{COMMIT}": f"hf://{REPO}@{COMMIT}",
    f"{HF}/{REPO}/commit/{COMMIT}": f"hf://{REPO}@{COMMIT}",
    f"{HF}/{REPO}/commits/v1.0": f"hf://{REPO}@v1.0",
    f"{HF}/{REPO}/tree/refs%2Fpr%2F1": f"hf://{REPO}@refs/pr/1",
    f"{HF}/{REPO}/blob/refs/pr/1/x.gguf": f"hf://{REPO}@refs/pr/1/x.gguf",
    f"{HF}/{REPO}/blob/main/x.gguf": f"hf://{REPO}@main/x.gguf",
    f"{HF}/{REPO}/blob/main/Q4_K_M/x-00001-of-00002.gguf": f"hf://{REPO}@main/Q4_K_M/x-00001-of-00002.gguf",
    f"{HF}/{REPO}/blob/{COMMIT}/x%20y%23.gguf#L3": f"hf://{REPO}@{COMMIT}/x y#.gguf",
    f"{HF}/{REPO}/resolve/main/x.gguf?download=true": f"hf://{REPO}@main/x.gguf",
    f"{HF}/{REPO}/raw/main/x.gguf": f"hf://{REPO}@main/x.gguf",
    f"{HF}/{REPO}?show_file_info=x.gguf": f"hf://{REPO}/x.gguf",
    f"{HF}/{REPO}/tree/main?show_file_info=deep%2Fx.gguf": f"hf://{REPO}@main/deep/x.gguf",
    f"https://user:secret@huggingface.co/{REPO}/blob/main/x.gguf": f"hf://{REPO}@main/x.gguf",
    f"http://www.HuggingFace.co/{REPO}": f"hf://{REPO}",
    f"https://hf.co/{REPO}": f"hf://{REPO}",
    f"{HF}/Qwen/models": "hf://Qwen/models",
    f"huggingface.co/{REPO}/blob/main/x.gguf": f"hf://{REPO}@main/x.gguf",
    f"hf.co/{REPO}-GGUF:Q4_K_M": f"hf://{REPO}-GGUF:Q4_K_M",
    f"https://hf.co/{REPO}-GGUF:UD-Q4_K_XL": f"hf://{REPO}-GGUF:UD-Q4_K_XL",
    f"{MS}/{REPO}": f"ms://{REPO}",
    f"{MS}/{REPO}/summary": f"ms://{REPO}",
    f"{MS}/{REPO}/files": f"ms://{REPO}",
    f"{MS}/{REPO}/tree/master": f"ms://{REPO}@master",
    f"{MS}/{REPO}/file/view/master/config.json?status=1": f"ms://{REPO}@master/config.json",
    f"{MS}/{REPO}/file/view/master/deep%2Fx.gguf?status=2": f"ms://{REPO}@master/deep/x.gguf",
    f"{MS}/{REPO}/file/view/master?fileName=deep%2Fx.gguf&status=1": f"ms://{REPO}@master/deep/x.gguf",
    f"{MS}/{REPO}/resolve/v1/x.gguf": f"ms://{REPO}@v1/x.gguf",
    f"https://www.modelscope.cn/models/{REPO}": f"ms://{REPO}",
}


@pytest.fixture(autouse=True)
def no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)


@pytest.mark.parametrize(("text", "place"), PAGES.items(), ids=list(PAGES))
def test_pages(text: str, place: str) -> None:
    assert spelled(text) == place
    assert spelled(place) == place


@pytest.mark.parametrize(
    "text",
    [
        "model.gguf", "a/b", "", "hf://a/b@main", "ms://a/b", "s3://a/b", "https:/huggingface.co/a/b", "huggingface.com/a/b",
        "https://example.com/a/b/blob/main/x.gguf", "https://huggingface.co.example.com/a/b", "https://[::1/x", "https:///x",
        "https://host:99999/x", f"{HF}/api/models/{REPO}", f"{HF}/datasets/a/b/resolve/main/x.gguf",
        f"{MS.replace('models', 'datasets')}/a/b/resolve/master/x", "https://modelscope.cn/api/v1/models/a/b/repo?FilePath=x",
    ],
)  # fmt: skip
def test_whatever_is_no_page_stays(text: str) -> None:
    assert spelled(text) == text


WRONG: dict[str, str] = {
    HF: "shows no model and no file of one: write hf://owner/name[@revision][/file] or ms://",
    f"{HF}/gpt2": "shows no model and no file of one",
    f"{HF}/docs/hub": "shows no model",
    f"{HF}/datasets/a/b/blob/main/x.gguf": "shows no model",
    f"{HF}/spaces/a/b": "shows no model",
    f"{HF}/{REPO}/discussions/1": "shows no model",
    f"{HF}/{REPO}/blob/main": "shows no model",
    f"{HF}/{REPO}/blob/a%2Fb/x.gguf": "shows no model",
    f"{HF}/a--b/c": "shows no model",
    f"{HF}/{REPO}/blob/main/x%0Ay": "shows no model",
    f"{HF}/{REPO}/tree/main/Q4_K_M": f"shows a folder: write hf://{REPO}@main/ and a file of it",
    f"{MS}/{REPO}/file/view/master": "shows no model",
    "https://modelscope.cn/datasets/a/b": "shows no model",
    f"https://modelscope.ai/models/{REPO}": (
        "is a page of https://www.modelscope.ai, but https://modelscope.cn would be asked: "
        "set MODELSCOPE_ENDPOINT=https://www.modelscope.ai"
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.items(), ids=list(WRONG))
def test_what_cannot_be_meant(text: str, words: str) -> None:
    with pytest.raises(PlaceError) as found:
        spelled(text.replace("://", "://user:secret@") + "?token=secret")
    assert str(found.value).startswith(f"{text} {words}") and "secret" not in str(found.value)


MIRROR = "https://mirror.example:8443/hub"
MIRRORED: dict[str, str] = {
    f"{MIRROR}/{REPO}": f"hf://{REPO}",
    f"{MIRROR}/{REPO}/blob/main/x.gguf": f"hf://{REPO}@main/x.gguf",
    f"{MIRROR}/models/{REPO}/file/view/master/x.gguf": f"ms://{REPO}@master/x.gguf",
    f"{HF}/{REPO}": f"hf://{REPO}",
    f"https://modelscope.ai/models/{REPO}": f"ms://{REPO}",
}


@pytest.mark.parametrize(("text", "place"), MIRRORED.items(), ids=list(MIRRORED))
def test_pages_of_mirrors(monkeypatch: pytest.MonkeyPatch, text: str, place: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", MIRROR)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", MIRROR.removeprefix("https://"))
    assert spelled(text) == place


@pytest.mark.parametrize(
    "text",
    [
        f"{MIRROR}/files/x.gguf",
        "https://mirror.example:8443/a/b",
        "https://mirror.example/hub/a/b",
        f"{MIRROR}/a/b/c/d",
    ],
)
def test_other_files_of_a_mirror_stay(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", MIRROR)
    assert spelled(text) == text


@pytest.mark.parametrize("endpoint", ["http://[x", "http://h:99999", "http://h:0", "https://", "[::1", "ftp://h"])
def test_an_endpoint_that_is_no_address(
    library: Callable[..., str], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """A hub's own client fails on it where it is imported."""
    for variable, place in (("HF_ENDPOINT", "hf"), ("MODELSCOPE_ENDPOINT", "ms")):
        said = library("requant.places.place.open_place", f"{place}://{REPO}", env={variable: endpoint})
        assert said == f"PlaceError: {variable} is no address: write one such as https://hub.example, or unset it"
        monkeypatch.setenv(variable, endpoint)
    for page in (f"{HF}/{REPO}", f"{MS}/{REPO}"):
        with pytest.raises(PlaceError, match="is no address"):
            spelled(page)


def test_an_endpoint_without_a_scheme(library: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client takes it as it is; ModelScope's completes it."""
    for endpoint, right in (
        ("hub.invalid", "https://hub.invalid"), ("me:secret@hub.invalid:1/x", "https://hub.invalid:1/x"), ("", HF),
    ):  # fmt: skip
        said = library("requant.places.place.open_place", f"hf://{REPO}", env={"HF_ENDPOINT": endpoint})
        assert said == f"PlaceError: HF_ENDPOINT lacks https:// before its host: write {right}"
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "hub.invalid")
    MODELSCOPE.require_endpoint()
    for endpoint in ("http://hub.invalid", "HTTPS://hub.invalid"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        HUGGING_FACE.require_endpoint()


@pytest.mark.parametrize("endpoint", ["https://www.modelscope.ai", "modelscope.ai"])
def test_the_international_site(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", endpoint)
    assert spelled(f"https://www.modelscope.ai/models/{REPO}") == f"ms://{REPO}"
    with pytest.raises(PlaceError, match=r"set MODELSCOPE_ENDPOINT=https://modelscope\.cn$"):
        spelled(f"{MS}/{REPO}")


ELSEWHERE: dict[str, str] = {
    f"{HF}/{REPO}/blob/main/x y.gguf": f"hf download {REPO} 'x y.gguf' --revision main --local-dir Qwen3-4B",
    f"hf://{REPO}": f"hf download {REPO} --local-dir Qwen3-4B",
    f"{MS}/{REPO}/tree/v1": f"modelscope download --model {REPO} --revision v1 --local_dir Qwen3-4B",
    f"ms://{REPO}/x.gguf": f"modelscope download --model {REPO} x.gguf --local_dir Qwen3-4B",
    "https://user:secret@example.com/x.gguf?secret": "curl -LO or the like",
    "s3://bucket/x": "curl -LO or the like",
    "hf://x": "curl -LO or the like",
}


@pytest.mark.parametrize(("text", "command"), ELSEWHERE.items(), ids=list(ELSEWHERE))
def test_what_lies_elsewhere_is_fetched_first(text: str, command: str) -> None:
    with pytest.raises(PlaceError) as found:
        require_here(text)
    assert str(found.value).endswith(f" does not lie on this machine: fetch it first, with {command}")
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("text", ["x.gguf", "/a/b", "a:b", "C:\\x", ""])
def test_what_lies_here_is_not(text: str) -> None:
    require_here(text)


# ---- read


SHARD, CONFIG = "model.safetensors", "deep/config.json"


@pytest.fixture
def tiny(clients: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    (tmp_path / "tiny" / "deep").mkdir(parents=True)
    (tmp_path / "tiny" / CONFIG).write_text("{}\n")
    (tmp_path / "tiny" / SHARD).write_bytes(bytes(range(256)) * 64)
    monkeypatch.setenv("HF_ENDPOINT", clients.url)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", clients.url)
    return clients.add_model("Qwen/Tiny", tmp_path / "tiny")


READ: dict[str, tuple[str | None, bool]] = {
    "Qwen/Tiny": (None, True),
    "Qwen/Tiny/tree/main": (None, True),
    f"Qwen/Tiny/blob/main/{SHARD}": (SHARD, True),
    f"Qwen/Tiny/resolve/COMMIT/{CONFIG}?download=true": (CONFIG, True),
    "models/Qwen/Tiny/summary": (None, False),
    f"models/Qwen/Tiny/file/view/master/{CONFIG.replace('/', '%2F')}?status=1": (CONFIG, False),
    f"models/Qwen/Tiny/resolve/COMMIT/{SHARD}": (SHARD, False),
}


@pytest.mark.parametrize(("page", "file", "tells"), [(page, *found) for page, found in READ.items()], ids=list(READ))
def test_a_page(hub: LoopbackHub, tiny: Snapshot, page: str, file: str | None, tells: bool) -> None:
    """What a browser shows of a hub is what lies there, at the commit that the page shows."""
    with open_place(f"{hub.url}/{page.replace('COMMIT', tiny.commit)}") as place:
        assert (place.names, place.file) == ([CONFIG, SHARD], file)
        assert place.revision == (tiny.commit if tells or "COMMIT" in page else None)
        assert place.open(SHARD).read(300, 2) == b"\x2c\x2d"


def test_a_page_of_no_file(hub: LoopbackHub, tiny: Snapshot) -> None:
    with pytest.raises(PlaceError, match=r"shows a folder: write hf://Qwen/Tiny@main/ and a file of it"):
        open_place(f"{hub.url}/Qwen/Tiny/tree/main/deep")
    with pytest.raises(PlaceError, match=r"holds no 'absent\.gguf': correct the name"):
        open_place(f"{hub.url}/Qwen/Tiny/blob/main/absent.gguf")


def test_a_folder_whose_name_does_not_print(tmp_path: Path) -> None:
    (tmp_path / "a\x1b").mkdir()
    with pytest.raises(PlaceError, match="has a name that does not print: rename it"):
        open_place(str(tmp_path / "a\x1b"))
    with pytest.raises(PlaceError, match="names no place"):
        open_place("\x1b" * 300)
