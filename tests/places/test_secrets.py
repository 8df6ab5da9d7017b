"""A mirror that is named with a password: nothing that is said, written, logged or recorded holds it, come what may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from requant.documents.pins import ModelPin
from requant.ground.digests import Known
from support.forked import Call, Forks
from support.gguf_files import write_model
from support.hub import Fault, LoopbackHub, Snapshot

SECRET = "hunter2"
Asked = Callable[..., Call]


def named(url: str) -> str:
    return url.replace("://", f"://user:{SECRET}@")


@pytest.fixture
def quant(hub: LoopbackHub, tmp_path: Path) -> Snapshot:
    """A quant and its weights in one repository each; nothing in it can be derived, so nothing must be built."""
    for name, kind in (("weights", np.float32), ("quant", np.int8)):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name / f"{name}.gguf", {"a.weight": (np.ones((4, 256), kind), None)})
    hub.add_model("org/weights", tmp_path / "weights")
    return hub.add_model("some/quant", tmp_path / "quant")


FAULTS: dict[str, tuple[str, Fault | None]] = {
    "hf": ("hf", None),
    "hf, busy": ("hf", Fault("*", status=503)),
    "hf, refused": ("hf", Fault("*", "unauthorized")),
    "hf, breaks off": ("hf", Fault("/cdn/*", "truncate", after=1)),
    "hf, storage refuses": ("hf", Fault("/cdn/*", status=403)),
    "hf, round and round": ("hf", Fault("*", status=302, headers={"Location": f"/api/x?key={SECRET}"})),
    "hf, to nowhere": ("hf", Fault("*", status=302, headers={"Location": f"ftp://me:{SECRET}@host/x"})),
    "ms": ("ms", None),
    "ms, busy": ("ms", Fault("*", status=503)),
    "ms, refused": ("ms", Fault("*", status=403)),
}


@pytest.mark.parametrize(("scheme", "fault"), FAULTS.values(), ids=FAULTS)
def test_an_audit_tells_no_password(
    hub: LoopbackHub,
    quant: Snapshot,
    asked: Asked,
    forks: Forks,
    tmp_path: Path,
    scheme: str,
    fault: Fault | None,
) -> None:
    if fault:
        hub.faults.add(fault)
    env = {
        "HF_ENDPOINT": named(hub.url), "MODELSCOPE_ENDPOINT": named(hub.url), "HF_HUB_VERBOSITY": "debug", "COLUMNS": "200",
        "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path),
    }  # fmt: skip
    report, page, said = (tmp_path / name for name in ("report.json", "report.md", "said.txt"))
    arguments = ["audit", f"{scheme}://some/quant", "--source", f"{scheme}://org/weights", "--full"]
    arguments += ["--json", str(report), "--markdown", str(page)]
    forks.call(asked("support.spoken.commands", [arguments], said, env=env))
    told = said.read_text()
    assert told.splitlines()[-1] == "exit code 3", told
    assert (report.exists(), page.exists()) == (fault is None,) * 2, told
    require_none(tmp_path)
    if scheme == "hf" and not fault:
        assert f"org/weights@{hub.repos['models', 'org/weights'].branches['main'][:12]} on {hub.url}" in " ".join(
            told.split()
        )


def require_none(folder: Path) -> None:
    for path in filter(Path.is_file, folder.rglob("*")):
        assert SECRET.encode() not in path.read_bytes(), f"{path.name}:\n{path.read_text(errors='replace')}"


@pytest.mark.parametrize(
    "fault", [None, Fault("*", status=503, times=3), Fault("*", status=503)], ids=["none", "some", "always"]
)
def test_the_workflow_logs_and_records_no_password(
    hub: LoopbackHub, quant: Snapshot, asked: Asked, forks: Forks, tmp_path: Path, fault: Fault | None
) -> None:
    if fault:
        hub.faults.add(fault)
    place = {"repo": "some/quant", "revision": quant.commit}
    pin = ModelPin("quant", "some/quant", quant.commit, "MIT", None, place, {"quant.gguf": Known()})
    folder = tmp_path / "results"
    folder.mkdir()
    env = {"HF_ENDPOINT": named(hub.url), "HF_HUB_VERBOSITY": "debug"}
    forks.call(asked("support.spoken.fetching", pin, folder, tmp_path / "said.txt", env=env))
    log = (folder / "fetch.log").read_text()
    assert ("trying again: " in log) == (fault is not None), log
    assert (folder / "record.json").exists() == (fault is None or fault.times is not None)
    require_none(tmp_path)


ADDRESSES = [
    f"https://user:{SECRET}@nowhere.invalid/x.gguf", f"ftp://user:{SECRET}@nowhere.invalid/x.gguf",
    f"hf://user:{SECRET}@owner/name", f"http://user:{SECRET}@nowhere.invalid/x.gguf", f"https://user:{SECRET}/x@host/x.gguf",
    f"https://huggingface.co/docs?key={SECRET}", f"https://nowhere.invalid/?key={SECRET}", f"https://user:{SECRET}@",
]  # fmt: skip


VERBS = (["audit"], ["audit", "x.gguf", "--source"], ["verify"], ["diff", "x.gguf"], ["pin", "--name", "x"])


def test_what_is_typed_is_not_told(asked: Asked, forks: Forks, tmp_path: Path) -> None:
    proxies = {f"{name}_proxy": f"odd://user:{SECRET}@127.0.0.1:9" for name in ("http", "https")}
    commands = [[*verb, address] for verb in VERBS for address in ADDRESSES]
    forks.call(
        asked("support.spoken.commands", commands, tmp_path / "said.txt", env={"TMPDIR": str(tmp_path), **proxies})
    )
    said = (tmp_path / "said.txt").read_text()
    assert [line[:10] for line in said.splitlines()].count("exit code ") == len(commands), said
    assert "exit code 0" not in said and "bug" not in said, said
    require_none(tmp_path)


def test_a_token_that_cannot_be_sent(hub: LoopbackHub, tiny: Snapshot, library: Callable[..., str]) -> None:
    said = library("requant.places.place.open_place", "hf://Qwen/Tiny", env={"HF_TOKEN": "hf_é"})
    assert "cannot be asked: HF_TOKEN holds characters that no token has, set it again" in said
