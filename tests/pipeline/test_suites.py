"""requant.pipeline.suites: the names that recipes write, in the schema, the pin table and the harness alike."""

import re

from requant.documents.pins import read_pins
from requant.documents.schemas import SCHEMAS, read_yaml
from requant.evaluation.behaviour.berkeley import SETS
from requant.evaluation.behaviour.harness import LAYOUT
from requant.pipeline.suites import BERKELEY, CARD_ROWS, HARNESS, KNOWLEDGE, suite_pin
from support.checkout import ROOT

NAMES = (*BERKELEY, *KNOWLEDGE)
SUITES = read_yaml(SCHEMAS / "recipe.schema.yaml")["properties"]["evaluation"]["properties"]["behaviour"]["properties"][
    "suites"
]


def test_a_recipe_may_name_these_and_files() -> None:
    pattern = SUITES["items"]["pattern"]
    assert pattern == f"^({'|'.join(NAMES)}|.+\\.jsonl)$"
    assert re.fullmatch(pattern, "suites/code.jsonl") and not re.fullmatch(pattern, "mmlu_pro")


def test_the_schema_tells_each_of_them_and_who_asks() -> None:
    assert [name for name in (*NAMES, HARNESS) if name not in SUITES["description"]] == []


def test_each_comes_from_a_place_in_the_pin_table() -> None:
    pins = read_pins(ROOT / "config" / "pins.yaml").suites
    assert {suite_pin(name) for name in NAMES} == set(pins)
    assert suite_pin("suites/code.jsonl") is None


def test_who_asks_knows_each_of_them() -> None:
    assert tuple(SETS) == BERKELEY and tuple(LAYOUT) == KNOWLEDGE


def test_what_the_card_tells_of_is_a_set_or_a_file_here() -> None:
    assert [
        name for name in CARD_ROWS if name not in KNOWLEDGE and not (ROOT / "suites" / f"{name}.jsonl").exists()
    ] == []
