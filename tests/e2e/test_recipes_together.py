"""Several recipes in one run: each release is the one that its recipe gives alone."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.plans import HERE, planned
from support.workplace import Workplace, digests, tiny_recipe

SMALL = {"context": 64, "batch": 64, "ubatch": 64}


def recipe(name: str, chunks: int, quant: str) -> dict[str, Any]:
    found = tiny_recipe(name=name, quants=[quant])
    found["model"]["name"] = "Tiny-1"
    found["calibration"] |= {**SMALL, "chunks": chunks}
    return found


@pytest.mark.long
def test_together_and_alone(make_workplace: Callable[..., Workplace]) -> None:
    recipes = [recipe("Tiny-a", 1, "Q4_K_M"), recipe("Tiny-b", 2, "Q8_0")]
    together = make_workplace("together")
    for each in recipes:
        (together.folder / f"{each['name']}.yaml").write_text(yaml.safe_dump(each))
    together.write({"recipes": [str(together.folder / f"{each['name']}.yaml") for each in recipes]})
    said = together.run()
    assert said.count("converting the weights") == said.count("generating the random model") == 1
    results = together.folder / "results"
    assert not [
        *results.glob("Tiny-[ab]/bf16"),
        *results.glob("Tiny-[ab]/generated"),
        *results.glob("Tiny-[ab]/corpus"),
    ]
    for each in recipes:
        alone = make_workplace(each["name"], each)
        alone.run()
        release = alone.folder / "results" / each["name"] / "release"
        assert digests(release) == digests(results / each["name"] / "release")
    assert "Nothing to be done" in together.run()


@pytest.mark.long
def test_fifty_recipes_are_planned_in_seconds(tmp_path: Path) -> None:
    paths = []
    for number in range(50):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(recipe(f"Tiny-{number}", 1 + number, "Q4_K_M")))
        paths.append(path.name)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"recipes": paths}))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = planned(*HERE, "--configfile", "all.yaml", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert sum(jobs.values()) > 400
    # Of processors, not of clocks: others may work beside it.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
