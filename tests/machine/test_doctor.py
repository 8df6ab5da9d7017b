"""requant doctor where parts of a machine are hidden: what it says of each, and the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from requant.documents.pins import TABLE, read_pins
from requant.ground.errors import UnsupportedError
from requant.ground.exit_codes import ExitCode
from requant.ground.gpus import GPU
from requant.machine import doctor
from requant.machine.finding import Finding, State
from requant.machine.network import ask_hub, ask_index
from requant.pipeline import layout
from requant.places.pages import HUGGING_FACE, MODELSCOPE
from support.checkout import ROOT
from support.command import CODE, PYTHONPATH
from support.hub import Fault, LoopbackHub

PINS = read_pins(TABLE, "the pin table")
TOOLCHAIN = next(iter(PINS.toolchains.values()))
NOBODY = "http://127.0.0.1:9"
"""A port on which nobody listens."""
PROGRAMS = ("gcc", "g++", "git")
PROGRAM = "#!/bin/sh\necho $0 12.2.0\n"


def index(folder: Path, version: str) -> str:
    """A package index that has one version of what llama.cpp's source comes in."""
    assert TOOLCHAIN.sdist is not None
    page = folder / "simple" / TOOLCHAIN.sdist.project / "index.html"
    page.parent.mkdir(parents=True)
    name = f"{TOOLCHAIN.sdist.project.replace('-', '_')}-{version}.tar.gz"
    page.write_text(f'<a href="{name}">{name}</a>')
    return (folder / "simple").as_uri()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, with nothing but three programs on the PATH, and nothing to reach."""
    for name in ("CC", "CXX", "CUDACXX", "HF_HUB_OFFLINE", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    for name in PROGRAMS:
        (tmp_path / "bin" / name).write_text(PROGRAM)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_INDEX_URL", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, NOBODY)
    return tmp_path


def without(*names: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def remove(machine: Path, _: pytest.MonkeyPatch) -> None:
        for name in names:
            (machine / "bin" / name).unlink()

    return remove


def full_disk(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**8))


def small_disk(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 * 10**9))


def large_disk(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**11))


def no_home(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", home)


def kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine))
    (machine / "requant").mkdir()
    (machine / "requant" / "library").write_bytes(bytes(1500))
    (machine / "requant" / "link").symlink_to(machine / "requant" / "library")


def old_compiler(machine: Path, _: pytest.MonkeyPatch) -> None:
    (machine / "bin" / "gcc").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")


def no_isolation(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UnsupportedError("no new namespaces (Operation not permitted): allow user namespaces")

    monkeypatch.setattr(doctor, "require_isolation", refuse)


def no_nvcc(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_for", lambda variant: f"variant {variant} needs nvcc 13")


def no_proxy(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:9")


def as_it_is(_: Path, __: pytest.MonkeyPatch) -> None:
    pass


def only_another_snakemake(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on the PATH, and nothing of it in this environment."""
    (machine / "bin" / "snakemake").symlink_to("/bin/true")
    monkeypatch.setattr(sys, "path", [str(machine)])


GB10, RTX = GPU("NVIDIA GB10", "12.1", None), GPU("NVIDIA GeForce RTX 4090", "8.9", 24 << 30)


def no_address(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a form that the Hub's client cannot even be imported with."""
    monkeypatch.setenv("HF_ENDPOINT", "http://[x")


def no_scheme(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.invalid")


CASES: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], Callable[[], Finding], State, str]] = {
    "compilers": (as_it_is, doctor.compiler, State.OK, r"gcc 12\.2\.0; .*g\+\+ 12\.2\.0; git"),
    "no C++": (without("g++"), doctor.compiler, State.MISSING, r"no C\+\+ compiler .*: install one \(Debian: apt install g\+\+\)"),
    "no compiler": (without("gcc", "g++"), doctor.compiler, State.MISSING, "no C compiler .* or name it in CC"),
    "no git": (without("git"), doctor.compiler, State.MISSING, r"no git is on the PATH, .*: install it"),
    "a broken compiler": (old_compiler, doctor.compiler, State.MISSING, "failed: broken: name another compiler in CC"),
    "a full disk": (full_disk, doctor.disk, State.MISSING, "the demo with llama.cpp needs .*: make room"),
    "a small disk": (small_disk, doctor.disk, State.LIMITED, r"2\.0 GB free in .*: the default recipe takes 22\.0 GB"),
    "a large disk": (large_disk, doctor.disk, State.OK, r"100\.0 GB free in "),
    "no home": (no_home, doctor.caches, State.LIMITED, "there is no home folder .*: set HOME, or XDG_CACHE_HOME"),
    "caches": (kept, doctor.caches, State.OK, r"audits 1\.5 kB in "),
    "an installed package": (as_it_is, lambda: doctor.workflow(Path.cwd()), State.MISSING, "clone requant, run make setup"),
    "a checkout": (as_it_is, lambda: doctor.workflow(ROOT), State.OK, r"snakemake 9\."),
    "another environment's snakemake": (only_another_snakemake, lambda: doctor.workflow(ROOT), State.MISSING, "^snakemake is missing from this environment: run make setup$"),
    "no namespaces": (no_isolation, doctor.sandbox, State.LIMITED, "suites with code are not run: no new namespaces"),
    "a profile without GPU": (as_it_is, lambda: doctor.profile([]), State.OK, "^default, loaded by itself: .venv/bin/snakemake"),
    "a profile without nvcc": (no_nvcc, lambda: doctor.profile([GB10]), State.OK, "^default, loaded by itself"),
    "no index": (as_it_is, lambda: ask_index(TOOLCHAIN), State.MISSING, "check the network, or set PIP_INDEX_URL"),
    "no Hub": (as_it_is, lambda: ask_hub("hub", HUGGING_FACE, "/api"), State.LIMITED, f"^{NOBODY} cannot be reached .*HF_ENDPOINT"),
    "no ModelScope": (as_it_is, lambda: ask_hub("ms", MODELSCOPE, "/api"), State.LIMITED, "name a mirror in MODELSCOPE_ENDPOINT"),
    "a Hub that is no address": (no_address, lambda: ask_hub("hub", HUGGING_FACE, "/api"), State.LIMITED, "^HF_ENDPOINT is no address"),
    "a Hub without https://": (no_scheme, lambda: ask_hub("hub", HUGGING_FACE, "/api"), State.LIMITED, "^HF_ENDPOINT lacks https:// .*: write https://hf-mirror.invalid$"),
    "caches of a Hub without https://": (no_scheme, doctor.caches, State.LIMITED, "^HF_ENDPOINT lacks https://"),
    "caches of a Hub that is no address": (no_address, doctor.caches, State.LIMITED, "^HF_ENDPOINT is no address"),
    "an unusable proxy": (no_proxy, lambda: ask_hub("hub", HUGGING_FACE, "/api"), State.LIMITED, "proxy or certificates are unusable"),
}  # fmt: skip


@pytest.mark.parametrize(("hide", "look", "state", "words"), CASES.values(), ids=CASES)
def test_what_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch, hide: Callable[[Path, pytest.MonkeyPatch], None],
    look: Callable[[], Finding], state: State, words: str,
) -> None:  # fmt: skip
    hide(machine, monkeypatch)
    found = look()
    assert found.state is state and re.search(words, found.line) and "\n" not in found.line, found


@pytest.mark.parametrize(
    ("gpu", "command"), [(GB10, "--workflow-profile profiles/gb10"), (RTX, "SM=89 .venv/bin/snakemake")]
)
def test_the_profile_of_a_gpu(machine: Path, gpu: GPU, command: str) -> None:
    (machine / "bin" / "nvcc").write_text(PROGRAM)
    (machine / "bin" / "nvcc").chmod(0o755)
    assert command in doctor.profile([gpu]).line


def test_an_index_without_the_pinned_version(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index(machine, "0.0.1"))
    found = ask_index(TOOLCHAIN)
    assert found.state is State.MISSING and found.line.startswith("lacks llama-cpp-python ")
    source = Path(layout.toolchain(TOOLCHAIN.name), "source.json")
    source.parent.mkdir(parents=True)
    source.touch()
    assert ask_index(TOOLCHAIN).state is State.LIMITED


def filled(folder: Path, config: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config)
    return folder


def test_hubs(machine: Path, monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> None:
    for variable in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(variable, hub.url.replace("://", "://me:secret@"))
    (machine / "config.json").write_text("{}")
    hub.add_model("owner/name", machine)
    for site, path in ((HUGGING_FACE, "/api/models/owner/name"), (MODELSCOPE, "/api/v1/models/owner/name")):
        assert ask_hub("hub", site, path) == Finding("hub", State.OK, f"{hub.url} answers")
    hub.add_model("owner/deep", filled(machine / "deep", "[" * 200_000))
    for page in ("/owner/name/resolve/main/bin/git", "/owner/deep/resolve/main/config.json"):
        assert ask_hub("hub", HUGGING_FACE, page).line.endswith(
            "does not speak the hub's protocol: correct HF_ENDPOINT"
        )
    hub.faults.add(Fault())
    assert "answers 503: try again later" in ask_hub("hub", HUGGING_FACE, "/api/models/owner/name").line
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ask_hub("hub", HUGGING_FACE, "/api").line == "not asked: HF_HUB_OFFLINE is set"


# The command.


def command(machine: Path, **changes: str | None) -> tuple[int, list[str]]:
    """Run it where only what is named here is in the environment."""
    known = {"PATH", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "HOME"}
    environment = {name: value for name, value in os.environ.items() if name in known} | changes
    environment["PYTHONPATH"] = os.pathsep.join([PYTHONPATH, *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CODE, "doctor"], capture_output=True, text=True, cwd=machine / "here",
        env={name: value for name, value in environment.items() if value is not None},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_machine_that_lacks_nothing(machine: Path) -> None:
    """Example: requant doctor"""
    assert TOOLCHAIN.sdist is not None
    code, lines = command(machine, PIP_INDEX_URL=index(machine, TOOLCHAIN.sdist.version))
    assert (code, lines[-1]) == (ExitCode.OK, "ready for make demo"), lines
    assert [line.split()[0] for line in lines[:-1]] == [
        "system", "processor", "cores", "memory", "disk", "python", "workflow", "compiler", "sandbox", "gpu", "index",
        "hub", "modelscope", "caches", "profile",
    ]  # fmt: skip
    assert {line.split()[1] for line in lines[:-1]} <= {"ok", "limited"}


def test_a_machine_that_lacks_much(machine: Path) -> None:
    code, lines = command(machine, PATH="/nowhere", HOME=None)
    assert (code, lines[-1]) == (ExitCode.UNCHECKED, "missing for make demo: compiler, index"), lines
