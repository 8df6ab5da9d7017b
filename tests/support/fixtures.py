"""Every fixture that tests of more than one file ask for: the loopback Hub and calls that know no other, the scripted
endpoint, the sandbox, a small llama.cpp, a small release and a key to sign it, the demo, folders to run the workflow in.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from requant.audit.report import Report
from requant.conversion import vocabulary
from requant.evaluation.behaviour import sandbox
from requant.evaluation.behaviour.endpoint import Endpoint
from requant.ground.errors import UnsupportedError
from requant.release.keys import new_key
from support.browser import Browser
from support.checkout import PLACE, ROOT, TOOLCHAINS, alone, shared_cache
from support.command import CODE, PYTHONPATH, Audit
from support.endpoint import ScriptedEndpoint
from support.files import SHARD
from support.forked import Call, Forks
from support.gguf_files import write_small
from support.hub import TOKEN, LoopbackHub, Snapshot
from support.hub.clients import Client
from support.jails import MARK, jailed, wait_for
from support.reports import good_report
from support.small_checkpoint import BASE, MERGES
from support.small_release import write_release
from support.splits import Splitter
from support.upstream import Upstream, upstream_in
from support.workplace import QUANT, Workplace, prepare, tiny_recipe

SMALL = 4096


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Report]:
    """A full audit that found nothing, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    with good_report(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def clients(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """Let the clients in this process know the loopback Hub only, trust no cache or token here, and wait for nothing."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("modelscope_hub.config._default_config", None)  # made from the environment when first used
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return hub


@pytest.fixture
def writing(clients: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The same with somebody's token, which both hubs know, without Xet, which the loopback Hub does not speak, and with
    ModelScope's storage for files beyond 4 KiB: small releases go there, too.
    """
    clients.accounts[TOKEN] = "somebody"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("modelscope_hub._upload.UPLOAD_LFS_FORCE_THRESHOLD_BYTES", SMALL)
    return clients


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    running = Forks()
    yield running
    running.close()


@pytest.fixture
def asked(hub: LoopbackHub, tmp_path: Path) -> Callable[..., Call]:
    """A call ``target(*arguments, **options)``, such as ``requant.pipeline.fetch_model.fetch_model``, that knows this hub."""

    def make(target: str, *arguments: Any, env: Mapping[str, str] | None = None, **options: Any) -> Call:
        return Call(target, arguments, options, Client(hub, tmp_path / "home").environment(**(env or {})))

    return make


@pytest.fixture
def library(forks: Forks, asked: Callable[..., Call]) -> Callable[..., str]:
    """Make such a call and return ``<error class>: <sentence>``, or nothing where it succeeded."""
    return lambda *arguments, **options: forks.call(asked(*arguments, **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model repository in miniature: two small files, one in a folder, and a shard stored in LFS."""
    root = tmp_path / "tiny"
    (root / "docs").mkdir(parents=True)
    (root / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}\n')
    (root / "docs" / "note.md").write_text("in a folder\n")
    (root / SHARD).write_bytes(bytes(range(256)) * 256)
    return root


@pytest.fixture
def tiny(hub: LoopbackHub, folder: Path) -> Snapshot:
    return hub.add_model("Qwen/Tiny", folder)


@pytest.fixture(scope="session")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A GGUF file that holds a little of everything."""
    return write_small(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


@pytest.fixture
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few tokens of ``small_checkpoint`` be Qwen's."""
    monkeypatch.setattr(vocabulary, "QWEN2", hashlib.sha256("\n".join(BASE + MERGES).encode()).hexdigest())


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    new_key(path)
    return path


@pytest.fixture(scope="session")
def public(key: Path) -> Path:
    return key.with_name("key.pub")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("small") / "release")


@pytest.fixture
def release(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "release"))


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as running:
        yield running


@pytest.fixture
def endpoint(server: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    nap = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: nap(min(seconds, 0.01)))
    made = Endpoint(server.url, seconds=1)
    yield made
    made.close()


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return upstream_in(tmp_path)


@pytest.fixture(scope="module")
def jails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sandbox, where there is one: its processes can be told from others', and when all is over none is left."""
    try:
        sandbox.require_isolation()
    except UnsupportedError as error:
        pytest.skip(str(error))
    real = sandbox.JAIL
    sandbox.JAIL = tmp_path_factory.mktemp(MARK) / "jail.py"
    sandbox.JAIL.write_text(real.read_text().replace('RUNNER = """\n', f'RUNNER = """\n# {MARK}\n'))
    yield
    assert not wait_for(lambda: not jailed(), 20)
    sandbox.JAIL = real


@pytest.fixture(scope="session")
def demo() -> Workplace:
    """What ``make demo`` makes, in the tests' own folder; builds the toolchain that every other test uses."""
    with alone():
        subprocess.run(["make", "demo", f"FOLDER={PLACE}"], cwd=ROOT, check=True)
    return Workplace(PLACE, ROOT / "config" / "tiny.yaml")


@pytest.fixture(scope="session")
def splitter(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Splitter:
    return Splitter.built(tmp_path_factory.mktemp("splitter"))


@pytest.fixture(scope="session")
def upstream_converter(demo: Workplace) -> Path:
    """The Python that upstream's converter runs in; the demo does without it."""
    with alone():
        demo.run("results/toolchains/converter/environment.json")
    return TOOLCHAINS / "converter" / "environment" / "bin" / "python"


@pytest.fixture(scope="session")
def packages(demo: Workplace) -> Path:
    """The record of the packages that read data sets; the demo does without."""
    record = "results/toolchains/datasets/packages.json"
    with alone():
        demo.run(record)
    return demo.folder / record


@pytest.fixture(scope="session")
def cache(demo: Workplace) -> Path:
    """A cache folder for audits, whose toolchains are the tests' own: nothing is fetched twice."""
    return shared_cache()


@pytest.fixture
def audit(cache: Path, tmp_path: Path) -> Audit:
    """Run requant audit; gives the exit code, everything it said, and its JSON report, if it wrote one."""

    def run(*arguments: str | Path, **env: str) -> tuple[int, str, dict[str, Any]]:
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        known = {**os.environ, "PYTHONPATH": PYTHONPATH, "XDG_CACHE_HOME": str(cache), "COLUMNS": "200", **env}
        command = [sys.executable, "-c", CODE, "audit", *map(str, arguments), "--json", str(report)]
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.exists() else {}

    return run


@pytest.fixture
def released(demo: Workplace, tmp_path: Path) -> Path:
    """A folder with the demo's quant, which may be written to, and its importance matrix."""
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("imatrix.gguf", QUANT):
        shutil.copy(demo.release / name, folder / name)
    return folder


@pytest.fixture
def generated(demo: Workplace) -> Path:
    """The demo's checkpoint."""
    return demo.results / "generated"


@pytest.fixture
def make_workplace(demo: Workplace, tmp_path: Path) -> Callable[..., Workplace]:
    """Make folders that share the tests' toolchains."""

    def make(name: str = "work", recipe: dict[str, Any] | None = None) -> Workplace:
        return prepare(tmp_path / name, recipe or tiny_recipe())

    return make


@pytest.fixture
def workplace(make_workplace: Callable[..., Workplace]) -> Workplace:
    return make_workplace()
