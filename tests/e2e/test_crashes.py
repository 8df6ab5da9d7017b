"""Killed in the middle of anything, run again: the same bytes. Two runs in one folder: one of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import TOOLCHAINS
from support.faults import Power
from support.workplace import QUANT, TOOLCHAIN, Workplace, digests, prepare, tiny_recipe


def long_recipe() -> dict[str, object]:
    recipe = tiny_recipe()
    recipe["calibration"]["chunks"] = 12
    return recipe


@pytest.fixture(scope="module")
def two_runs(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, str]:
    """A folder in which one run made a release, and what a second one said meanwhile."""
    workplace = prepare(tmp_path_factory.mktemp("two") / "work", long_recipe())
    with workplace.start() as first:
        work = workplace.results / "calibration" / "work"
        while not work.exists():
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.05)
        refused = workplace.run(ok=False)
        output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output
    return workplace, refused


def test_two_runs_in_one_folder(two_runs: tuple[Workplace, str]) -> None:
    _, refused = two_runs
    assert "another run is working in" in refused
    assert "Traceback" not in refused


def test_killed_while_calibrating_and_while_quantizing(
    make_workplace: Callable[..., Workplace], two_runs: tuple[Workplace, str], tmp_path: Path
) -> None:
    """The first time the power goes as well: of all that was made only what was flushed is left."""
    workplace, power = make_workplace(recipe=long_recipe()), Power.on(tmp_path / "power")
    calibration = workplace.results / "calibration" / "work"
    workplace.kill_when(lambda: (calibration / "model.gguf").exists(), **power.env)
    assert power.cut(workplace) > 5
    quantizing = workplace.results / "quants" / "work-Q4_K_M"
    workplace.kill_when(lambda: quantizing.exists() and any(quantizing.glob("Tiny*")))
    assert not (workplace.release / QUANT).exists()
    workplace.run()
    assert digests(workplace.release) == digests(two_runs[0].release)
    assert not calibration.exists()


@pytest.mark.long
def test_killed_while_building(demo: Workplace, tmp_path: Path) -> None:
    """The inference backend stands for every build: same function, half a minute instead of three."""
    folder = tmp_path / "work"
    toolchain = folder / "results" / "toolchains" / TOOLCHAIN
    toolchain.mkdir(parents=True)
    shared = TOOLCHAINS / TOOLCHAIN
    (toolchain / "source").symlink_to(shared / "source")
    (toolchain / "source.json").symlink_to(shared / "source.json")
    workplace = Workplace(folder)
    workplace.write(tiny_recipe())
    target = f"results/toolchains/{TOOLCHAIN}/portable/build.json"
    # Not all of the build folder: CMake makes and removes folders of its own beside it, which must not vanish under us.
    built = toolchain / "portable" / "build" / "out" / "llama.cpp"
    workplace.kill_when(lambda: len(list(built.rglob("*.o"))) > 3, target)
    assert not (toolchain / "portable" / "build.json").exists()
    workplace.run(target)
    one, other = (json.loads((place / "portable" / "build.json").read_text()) for place in (toolchain, shared))
    assert one["binaries"] == other["binaries"], "the same library from two folders"
