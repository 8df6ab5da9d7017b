"""The loopback Hub against the real clients: what huggingface_hub, datasets and modelscope_hub do with it.

Several tests record a client's habit that the pipeline has to live with (no digest check, no resume after a
kill); if one of them fails after an upgrade, the client has changed, and requant may drop a precaution.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from support.files import SHARD
from support.hub import Fault, LoopbackHub, Snapshot
from support.hub.clients import Call, Client

MIB = 1 << 20
NOBODY = "0" * 40
OWNER, MEMBER, ANYONE = "hf_owner", "hf_member", "hf_anyone"

needs_hf = pytest.mark.skipif(not importlib.util.find_spec("huggingface_hub"), reason="huggingface_hub is missing")
needs_datasets = pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="datasets is missing")
needs_modelscope = pytest.mark.skipif(
    not importlib.util.find_spec("modelscope_hub"), reason="modelscope_hub is missing"
)


def hf(function: str, **kwargs: Any) -> Call:
    return "huggingface_hub", function, kwargs


def fetch(name: str, revision: str, folder: Path, repo_id: str = "Qwen/Tiny", **kwargs: Any) -> Call:
    return hf("hf_hub_download", repo_id=repo_id, filename=name, revision=revision, local_dir=str(folder), **kwargs)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "home")


@pytest.fixture
def big(hub: LoopbackHub, tmp_path: Path) -> Snapshot:
    """24 MiB: huggingface_hub writes, and resumes, in steps of 10 MiB."""
    root = tmp_path / "big"
    root.mkdir()
    with (root / SHARD).open("wb") as shard:
        shard.truncate(24 * MIB)
        shard.seek(12 * MIB)
        shard.write(b"not all zero")
    return hub.add_model("Qwen/Big", root)


# ---- huggingface_hub


@needs_hf
def test_pinned_download(client: Client, tiny: Snapshot, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    names = ("config.json", "docs/note.md", SHARD)
    outcomes = client.run(*(fetch(name, tiny.commit, target) for name in names))
    assert [outcome.value for outcome in outcomes] == [str(target / name) for name in names]
    assert all((target / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert len(client.hub.seen("/cdn/*", "GET")) == 1
    assert not client.hub.seen("/cdn/*", "HEAD"), "metadata comes with the redirect"
    before = len(client.hub.seen("*resolve*"))
    client.one(fetch(SHARD, tiny.commit, target))
    assert len(client.hub.seen("*resolve*")) == before, "a pinned file that is there is not asked for again"


@needs_hf
def test_a_pin_survives_a_moved_branch(client: Client, tiny: Snapshot, folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    (moved / "config.json").write_text("{}")
    client.hub.page_size = 2
    newer = client.hub.add_model("Qwen/Tiny", moved)
    old, new = tmp_path / "old", tmp_path / "new"
    client.run(
        hf("snapshot_download", repo_id="Qwen/Tiny", revision=tiny.commit, local_dir=str(old)),
        hf("snapshot_download", repo_id="Qwen/Tiny", local_dir=str(new), allow_patterns=["*.json"]),
    )
    assert (old / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert sha256(old / SHARD) == tiny.files[SHARD].sha256
    assert [path.name for path in new.iterdir() if path.is_file()] == ["config.json"]
    assert (new / "config.json").read_text() == "{}"
    assert newer.commit != tiny.commit


@needs_hf
def test_metadata(client: Client, tiny: Snapshot) -> None:
    client.hub.page_size = 2
    info, tree, some = client.run(
        hf("model_info", repo_id="Qwen/Tiny", revision="main", files_metadata=True),
        hf("list_repo_tree", repo_id="Qwen/Tiny", revision=tiny.commit, recursive=True),
        hf("get_paths_info", repo_id="Qwen/Tiny", revision=tiny.commit, paths=[SHARD, "docs", "absent"], expand=True),
    )
    assert info.value["sha"] == tiny.commit
    siblings = {sibling["rfilename"]: sibling for sibling in info.value["siblings"]}
    shard = tiny.files[SHARD]
    assert siblings[SHARD]["lfs"] == {"size": shard.size, "sha256": shard.sha256, "pointer_size": shard.pointer_size}
    config = siblings["config.json"]
    assert (config["blob_id"], config["lfs"]) == (tiny.files["config.json"].blob_id, None)
    assert {entry["path"] for entry in tree.value} == {*tiny.files, "docs"}
    assert len(client.hub.seen("/api/models/Qwen/Tiny/tree/*")) == 2
    assert [entry["path"] for entry in some.value] == [SHARD, "docs"]


@needs_hf
def test_truncated_transfer_resumes_within_a_call(client: Client, big: Snapshot, tmp_path: Path) -> None:
    client.hub.faults.add(Fault("/cdn/*", "truncate", times=1, after=16 * MIB))
    outcome = client.one(fetch(SHARD, big.commit, tmp_path / "t", repo_id="Qwen/Big"))
    assert sha256(Path(outcome.value)) == big.files[SHARD].sha256
    first, second = client.hub.seen("/cdn/*")
    assert (first.range, first.sent) == (None, 16 * MIB)
    assert (second.range, second.status, second.sent) == (f"bytes={10 * MIB}-", 206, 14 * MIB)


@needs_hf
def test_a_killed_download_starts_over(client: Client, big: Snapshot, tmp_path: Path) -> None:
    target = tmp_path / "t"
    client.hub.faults.add(Fault("/cdn/*", "slow", times=1, rate=10 * MIB))
    leftovers: list[Path] = []
    deadline = time.monotonic() + 20
    with client.start(fetch(SHARD, big.commit, target, repo_id="Qwen/Big")) as child:
        while time.monotonic() < deadline and not any(path.stat().st_size >= 10 * MIB for path in leftovers):
            time.sleep(0.02)
            leftovers = list((target / ".cache/huggingface/download").glob("*.incomplete"))
        child.kill()
    assert [path.stat().st_size for path in leftovers] == [10 * MIB]
    assert not (target / SHARD).exists()
    outcome = client.one(fetch(SHARD, big.commit, target, repo_id="Qwen/Big"))
    assert sha256(Path(outcome.value)) == big.files[SHARD].sha256
    again = client.hub.seen("/cdn/*")[1]
    assert (again.range, again.sent) == (None, 24 * MIB), "huggingface_hub would not resume"
    assert leftovers[0].exists(), "nor does it remove what the killed process left"


def test_http_get_resumes_across_processes(client: Client, big: Snapshot, tmp_path: Path) -> None:
    """The way out of the last test: metadata first, then http_get on a partial file of our own."""
    client_module = pytest.importorskip("huggingface_hub.file_download")
    part = tmp_path / "shard.part"
    source = big.files[SHARD].source
    part.write_bytes(source.read_bytes()[: 13 * MIB])
    url = f"{client.hub.url}/Qwen/Big/resolve/{big.commit}/{SHARD}"
    with part.open("ab") as stream:
        client_module.http_get(url, stream, resume_size=13 * MIB, expected_size=24 * MIB)
    assert sha256(part) == big.files[SHARD].sha256
    assert [(each.range, each.sent) for each in client.hub.seen("/cdn/*")] == [(f"bytes={13 * MIB}-", 11 * MIB)]


@needs_hf
def test_503_that_recovers(client: Client, tiny: Snapshot, tmp_path: Path) -> None:
    client.hub.faults.add(Fault("*model-00001*", kind="status", status=503, times=2))
    outcome = client.one(fetch(SHARD, tiny.commit, tmp_path / "t"))
    assert sha256(Path(outcome.value)) == tiny.files[SHARD].sha256
    assert [each.status for each in client.hub.seen("*resolve*", "HEAD")] == [503, 503, 302]


@needs_hf
def test_503_that_does_not(client: Client, tiny: Snapshot, tmp_path: Path) -> None:
    client.hub.faults.add(Fault("/cdn/*", status=503))
    client.hub.faults.add(Fault("*/resolve/*config.json", status=503, headers={"Retry-After": "0"}))
    client.hub.faults.add(Fault("/api/models/*", status=503))
    during_get, during_head, api = client.run(
        fetch(SHARD, tiny.commit, tmp_path / "t"),
        fetch("config.json", tiny.commit, tmp_path / "t"),
        hf("model_info", repo_id="Qwen/Tiny"),
    )
    assert (during_get.errors[0], during_get.status) == ("HfHubHTTPError", 503)
    assert len(client.hub.seen("/cdn/*")) == 1, "a 503 in the transfer itself is not retried"
    assert (during_head.errors[0], during_head.cause) == ("LocalEntryNotFoundError", "HfHubHTTPError")
    assert len(client.hub.seen("*config.json", "HEAD")) == 7, "once, then six times with waits in between"
    assert (api.errors[0], api.status) == ("HfHubHTTPError", 503)


@needs_hf
def test_wrong_bytes_are_accepted(client: Client, tiny: Snapshot, tmp_path: Path) -> None:
    """The client compares sizes, never digests: the pipeline must hash what it was given."""
    client.hub.faults.add(Fault("/cdn/*", "corrupt", times=1, after=1000))
    outcome = client.one(fetch(SHARD, tiny.commit, tmp_path / "t"))
    path = Path(outcome.value)
    assert path.stat().st_size == tiny.files[SHARD].size
    assert sha256(path) != tiny.files[SHARD].sha256
    again = client.one(fetch(SHARD, tiny.commit, tmp_path / "t"))
    assert sha256(Path(again.value)) != tiny.files[SHARD].sha256, "and the second call trusts the first"


@needs_hf
def test_refusals(client: Client, tiny: Snapshot, folder: Path, tmp_path: Path) -> None:
    client.hub.add_model("Qwen/Private", folder, token=OWNER)
    client.hub.add_model("Qwen/Gated", folder, token=MEMBER, gated=True)
    to = tmp_path / "t"
    outcomes = client.run(
        fetch("config.json", tiny.commit, to, repo_id="Qwen/Absent"),
        fetch("config.json", tiny.commit, to, repo_id="Qwen/Absent", token=ANYONE),
        fetch("config.json", "main", to, repo_id="Qwen/Private"),
        fetch("config.json", "main", to, repo_id="Qwen/Gated"),
        fetch("config.json", "main", to, repo_id="Qwen/Gated", token=ANYONE),
        fetch("config.json", NOBODY, to),
        fetch("absent.json", tiny.commit, to),
        hf("model_info", repo_id="Qwen/Tiny", revision=NOBODY),
        hf("snapshot_download", repo_id="Qwen/Absent", local_dir=str(tmp_path / "empty")),
        hf("snapshot_download", repo_id="Qwen/Absent", local_dir=str(to)),
    )
    careless = outcomes.pop()
    assert careless.value == str(to), "snapshot_download takes any folder that is not empty for a download of old"
    assert [(outcome.errors[0], outcome.status) for outcome in outcomes] == [
        ("RepositoryNotFoundError", 401),
        ("RepositoryNotFoundError", 404),
        ("RepositoryNotFoundError", 401),
        ("GatedRepoError", 401),
        ("GatedRepoError", 403),
        ("RevisionNotFoundError", 404),
        ("RemoteEntryNotFoundError", 404),
        ("RevisionNotFoundError", 404),
        ("RepositoryNotFoundError", 401),
    ]


@needs_hf
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("*config.json", "unauthorized"), ("HfHubHTTPError", 401)),
        (Fault("*config.json", "forbidden"), ("GatedRepoError", 403)),
        (Fault("*config.json", "missing"), ("RemoteEntryNotFoundError", 404)),
    ],
)
def test_injected_refusals(
    client: Client, tiny: Snapshot, tmp_path: Path, fault: Fault, expected: tuple[str, int]
) -> None:
    client.hub.faults.add(fault)
    outcome = client.one(fetch("config.json", tiny.commit, tmp_path / "t"))
    assert (outcome.errors[0], outcome.status) == expected
    client.hub.faults.clear()
    assert client.one(fetch("config.json", tiny.commit, tmp_path / "t")).value


@needs_hf
def test_token_stays_with_the_hub(client: Client, folder: Path, tmp_path: Path) -> None:
    snapshot = client.hub.add_model("Qwen/Private", folder, token=OWNER)
    outcome = client.one(fetch(SHARD, snapshot.commit, tmp_path / "t", repo_id="Qwen/Private"), HF_TOKEN=OWNER)
    assert outcome.value
    assert all(each.authorized for each in client.hub.seen("*resolve*"))
    assert not any(each.authorized for each in client.hub.seen("/cdn/*"))


@needs_hf
def test_offline(client: Client, tiny: Snapshot, tmp_path: Path) -> None:
    download, info = client.run(
        fetch("config.json", tiny.commit, tmp_path / "t"), hf("model_info", repo_id="Qwen/Tiny"), HF_HUB_OFFLINE="1"
    )
    assert (download.errors[0], download.cause) == ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
    assert info.errors[0] == "OfflineModeIsEnabled"
    assert not client.hub.requests


# ---- datasets


@pytest.fixture
def wikitext(hub: LoopbackHub, tmp_path: Path) -> tuple[Snapshot, dict[str, list[str]]]:
    """Shaped like Salesforce/wikitext: a `configs:` block in the card and one parquet file per split."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = tmp_path / "wikitext"
    config = "wikitext-2-raw-v1"
    (root / config).mkdir(parents=True)
    splits = {split: ["", f" = {split} = \n", "one \n"] for split in ("train", "validation", "test")}
    card = ["---", "configs:"]
    for name in ("wikitext-103-raw-v1", config):
        card += [f"- config_name: {name}", "  data_files:"]
        card += [line for split in splits for line in (f"  - split: {split}", f"    path: {name}/{split}-*")]
    (root / "README.md").write_text("\n".join([*card, "---", ""]))
    for split, rows in splits.items():
        parquet.write_table(arrow.table({"text": rows}), root / config / f"{split}-00000-of-00001.parquet")
    (root / "wikitext-103-raw-v1").mkdir()
    for split in splits:
        shutil.copy(root / config / f"{split}-00000-of-00001.parquet", root / "wikitext-103-raw-v1")
    return hub.add_dataset("Salesforce/wikitext", root), splits


@needs_datasets
def test_load_dataset(client: Client, wikitext: tuple[Snapshot, dict[str, list[str]]]) -> None:
    snapshot, splits = wikitext
    load = {"path": "Salesforce/wikitext", "name": "wikitext-2-raw-v1", "revision": snapshot.commit}
    outcome = client.one(("datasets", "load_dataset", load))
    assert {split: [row["text"] for row in rows] for split, rows in outcome.value.items()} == splits
    fetched = {each.path.rpartition("/")[2] for each in client.hub.seen("/cdn/*", "GET")}
    assert fetched == {f"{split}-00000-of-00001.parquet" for split in splits}
    assert all("wikitext-2-raw-v1" in each.path for each in client.hub.seen("/cdn/*"))
    again = client.one(("datasets", "load_dataset", load), HF_HUB_OFFLINE="1")
    assert again.value == outcome.value


# ---- ModelScope


def ms(method: str, **kwargs: Any) -> Call:
    return "modelscope_hub", f"HubApi().{method}", {"repo_id": "Qwen/Big", "repo_type": "model", **kwargs}


@needs_modelscope
def test_modelscope_client(client: Client, big: Snapshot, tmp_path: Path) -> None:
    shard = big.files[SHARD]
    download = {"file_path": SHARD, "local_dir": str(tmp_path / "t"), "expected_sha256": shard.sha256}
    listing, path, missing = client.run(
        ms("list_repo_files", revision=big.commit),
        ms("download_file", revision=big.commit, **download),
        ms("download_file", revision=NOBODY, **{**download, "file_path": "absent"}),
    )
    assert [(each["path"], each["size"], each["sha256"]) for each in listing.value] == [
        (SHARD, shard.size, shard.sha256)
    ]
    assert sha256(Path(path.value)) == shard.sha256
    assert (missing.errors[0], missing.status) == ("NotExistError", 404)


@needs_modelscope
def test_modelscope_client_checks_and_resumes(client: Client, big: Snapshot, tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    shard = big.files[SHARD]
    (target / f"{SHARD}.incomplete").write_bytes(shard.source.read_bytes()[: 13 * MIB])
    client.hub.faults.add(Fault("/cdn/*", "truncate", times=1, after=4 * MIB))
    call = ms("download_file", revision=big.commit, file_path=SHARD, local_dir=str(target))
    outcome = client.one(call)
    assert sha256(Path(outcome.value)) == shard.sha256
    assert [each.range for each in client.hub.seen("/cdn/*")] == [f"bytes={13 * MIB}-", f"bytes={17 * MIB}-"]
