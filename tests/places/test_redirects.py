"""Hubs that redirect to another host, with the real clients: followed, but no token goes along, and none leads off TLS."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.ground.digests import Known
from requant.ground.errors import AccessError, SourceError
from requant.places.downloads import fetch_files, known_files
from requant.places.hub import HubRepository
from requant.places.modelscope import ModelScopeRepository
from requant.places.place import open_place
from requant.places.repository import Repository
from support.files import DEEP_CONFIG as CONFIG
from support.files import DEEP_DATA as DATA
from support.files import DEEP_SHARD as SHARD
from support.files import write_deep
from support.hub import Fault, LoopbackHub, Snapshot
from support.hub.tls import Redirector

REPO = "Qwen/Tiny"
TOKENS = {"hf": "HF_TOKEN", "ms": "MODELSCOPE_API_TOKEN"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_deep(tmp_path / "tiny")


@pytest.fixture
def tiny(clients: LoopbackHub, folder: Path) -> Snapshot:
    return clients.add_model(REPO, folder)


@pytest.fixture(params=[301, 302, 307, 308])
def moved(request: pytest.FixtureRequest, hub: LoopbackHub, tiny: Snapshot) -> Snapshot:
    """The hub says of everything that it lies on another host now."""
    hub.faults.add(Fault("*", "moved", status=request.param))
    return tiny


def fetched(repository: Repository, out: Path) -> dict[str, bytes]:
    files = fetch_files(known_files(dict.fromkeys((CONFIG, SHARD), Known()), repository), repository, out)
    return {name: (out / name).read_bytes() for name in files}


def is_elsewhere(hub: LoopbackHub, authorized: bool | None = None) -> bool:
    """Whether requests came to the other host, and none of them (or each) with a token."""
    seen = [each for each in hub.seen() if each.host.startswith("localhost:") and "/cdn/" not in each.path]
    return bool(seen) and all(authorized in (None, each.authorized) for each in seen)


@pytest.mark.parametrize("kind", [HubRepository, ModelScopeRepository])
def test_files_are_fetched(
    hub: LoopbackHub, moved: Snapshot, tmp_path: Path, kind: Callable[[str, str], Repository]
) -> None:
    repository = kind(REPO, moved.commit)
    assert fetched(repository, tmp_path / "out") == {CONFIG: b"{}\n", SHARD: DATA}
    assert sorted(repository.names() or ()) == [CONFIG, SHARD]
    assert is_elsewhere(hub)


def test_a_download_goes_on(hub: LoopbackHub, moved: Snapshot, tmp_path: Path) -> None:
    """Its size is known elsewhere only: a whole file is not asked for again, one that is too long begins anew."""
    repository = HubRepository(REPO, moved.commit)
    for start, ranges in ((DATA[:1000], ["bytes=1000-"]), (DATA, []), (DATA + b"x", [None])):
        hub.requests.clear()
        (tmp_path / SHARD).write_bytes(start)
        repository.fetch(SHARD, tmp_path / SHARD)
        assert (tmp_path / SHARD).read_bytes() == DATA
        assert [each.range for each in hub.seen("/cdn/*", "GET")] == ranges


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_places_are_read(hub: LoopbackHub, moved: Snapshot, scheme: str) -> None:
    with open_place(f"{scheme}://{REPO}") as place:
        assert place.names == [CONFIG, SHARD]
        assert place.open(SHARD).read(300, 2) == b"\x2c\x2d"
        assert place.open(CONFIG).read(0, 3) == b"{}\n"
    assert is_elsewhere(hub)


@pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="datasets is missing")
def test_data_sets_are_read(hub: LoopbackHub, tmp_path: Path, library: Callable[..., str]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "text").mkdir()
    parquet.write_table(arrow.table({"text": ["one", "two"]}), tmp_path / "text" / "train-0.parquet")
    found = hub.add_dataset("Org/text", tmp_path / "text")
    hub.faults.add(Fault("*", "moved", status=302))
    files = {"train-0.parquet": Known(sha256=found.files["train-0.parquet"].sha256)}
    assert library("support.rows.read_rows", "Org/text", "default", found.commit, files, "train") == ""
    assert is_elsewhere(hub)


# ---- what is secret


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_no_token_goes_to_another_host(
    hub: LoopbackHub, moved: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv(TOKENS[scheme], "secret")
    with open_place(f"{scheme}://{REPO}") as place:
        place.open(SHARD).read(0, 9)
        place.open(CONFIG).read(0, 3)
    repository = HubRepository(REPO, moved.commit) if scheme == "hf" else ModelScopeRepository(REPO, moved.commit)
    fetched(repository, tmp_path / "out")
    assert is_elsewhere(hub, authorized=False)
    assert any(each.authorized for each in hub.seen()), "only the hub that was named gets it"


@pytest.mark.parametrize(("scheme", "gated"), [("hf", False), ("hf", True), ("ms", False)])
def test_what_needs_a_token_elsewhere_is_told(
    hub: LoopbackHub, clients: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    scheme: str, gated: bool,
) -> None:  # fmt: skip
    commit = clients.add_model(REPO, folder, token="secret", gated=gated).commit
    monkeypatch.setenv(TOKENS[scheme], "secret")
    hub.faults.add(Fault("*", "moved", status=302))
    repository = HubRepository(REPO, commit) if scheme == "hf" else ModelScopeRepository(REPO, commit)
    with pytest.raises(AccessError) as found:
        fetched(repository, tmp_path / "out")
    words = f"{hub.url} redirects to {hub.elsewhere}, which refuses access "
    assert str(found.value).startswith(words) and "no token goes to another host: name" in str(found.value)
    assert is_elsewhere(hub, authorized=False)


def test_a_page_of_a_listing_on_another_host_gets_no_token(
    hub: LoopbackHub, moved: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's client asks for what the last page names as the next."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.page_size = 1
    assert sorted(HubRepository(REPO, moved.commit).names() or ()) == [CONFIG, SHARD]
    assert len(hub.seen("*/tree/*")) >= 4 and is_elsewhere(hub, authorized=False)


def test_files_on_another_host_that_need_a_token(
    hub: LoopbackHub, clients: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.add_model(REPO, folder, token="secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    hub.faults.add(Fault("*FilePath*", "moved", status=302))
    hub.faults.add(Fault("*FilePath*", status=401))
    with open_place(f"ms://{REPO}") as place, pytest.raises(SourceError) as found:
        place.open(SHARD).read(0, 9)
    assert "may not be read (401 by localhost, where no token goes): name a token" in str(found.value)


# ---- where it leads


def test_round_and_round(hub: LoopbackHub, tiny: Snapshot, tmp_path: Path) -> None:
    hub.faults.add(Fault("*", status=302, headers={"Location": f"{hub.url}/api/x"}))
    online = HubRepository(REPO, tiny.commit)
    # ModelScope's client takes half a minute to find out that it cannot fetch.
    for ask in (online.names, lambda: online.fetch(SHARD, tmp_path / SHARD), ModelScopeRepository(REPO).names):
        with pytest.raises(SourceError, match="is redirected again and again: "):
            ask()


@pytest.mark.parametrize("location", ["ftp://host/x", "http://[::1/x"])
@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_to_nowhere(hub: LoopbackHub, tiny: Snapshot, tmp_path: Path, scheme: str, location: str) -> None:
    hub.faults.add(Fault("*", status=302, headers={"Location": location}))
    repository = HubRepository(REPO, tiny.commit) if scheme == "hf" else ModelScopeRepository(REPO, tiny.commit)
    for ask in (repository.names, lambda: repository.fetch(SHARD, tmp_path / SHARD)):
        with pytest.raises(SourceError, match="no usable address"):
            ask()


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_never_from_https_to_http(
    hub: LoopbackHub, folder: Path, tmp_path: Path, library: Callable[..., str], scheme: str
) -> None:
    hub.add_model(REPO, folder)
    with Redirector(hub.elsewhere, tmp_path / "certificate.pem") as tls:
        trusting = {"SSL_CERT_FILE": str(tls.certificate), "REQUESTS_CA_BUNDLE": str(tls.certificate)}
        known = {"HF_ENDPOINT": tls.url, "MODELSCOPE_ENDPOINT": tls.url, **trusting}
        said = library("requant.places.place.open_place", f"{scheme}://{REPO}", env=known)
    assert said.startswith(f"SourceError: {tls.url}/api/")
    assert said.endswith(" is redirected from https to plain http: take it from another source")
    assert not hub.seen()
