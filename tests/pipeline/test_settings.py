"""requant.pipeline.settings: parts of a recipe as types, and back; what is left open stays so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from requant.pipeline.settings import Behaviour, Calibration, Fidelity, Settings, Speed
from support.checkout import ROOT

RECIPES = [
    yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("config.yaml", "tiny.yaml", "smollm2.yaml")
]
PARTS: list[tuple[type[Settings], dict[str, Any]]] = [
    *((Calibration, recipe["calibration"]) for recipe in RECIPES),
    *((Fidelity, recipe["evaluation"]["fidelity"]) for recipe in RECIPES if "evaluation" in recipe),
    *((Speed, recipe["evaluation"]["speed"]) for recipe in RECIPES if "evaluation" in recipe),
    (Behaviour, {"arithmetic": "native", "suites": ["a.jsonl"], "thinking": "on"}),
    (Behaviour, {"arithmetic": "cuda-sm121", "suites": [], "thinking": "off", "items": 3, "max_tokens": 9, "seed": 0}),
]


@pytest.mark.parametrize(("kind", "part"), PARTS, ids=lambda value: getattr(value, "__name__", ""))
def test_there_and_back(kind: type[Settings], part: dict[str, Any]) -> None:
    assert kind.of(part).as_recipe() == part
    assert kind.of(part).variant == part["arithmetic"]


def test_every_key_of_the_schema_has_a_field() -> None:
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "recipe.schema.yaml").read_text())["properties"]
    kinds = {Fidelity: "fidelity", Speed: "speed", Behaviour: "behaviour"}
    parts = {kind: schema["evaluation"]["properties"][name]["properties"] for kind, name in kinds.items()}
    for each, keys in {**parts, Calibration: schema["calibration"]["properties"]}.items():
        fields = {"arithmetic" if name == "variant" else name for name in each.__dataclass_fields__}
        assert fields == set(keys)
