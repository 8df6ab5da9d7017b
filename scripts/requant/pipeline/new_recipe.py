"""A new recipe for a pinned model: it can be run as it is, and says what a person should look at first."""

from pathlib import Path

import yaml

from requant import DATA
from requant.documents.pins import ModelPin, read_pins
from requant.ground.digests import write_bytes
from requant.ground.errors import RecipeError
from requant.pipeline.recipe import DEFAULT_PINS, load_recipe

FORM = """\
# A release of {name}, written by requant new-recipe. Every key: config/README.md.
recipe: 1
name: {name}
model:
  pin: {name}
{machine}corpus:
  pin: wikitext-2-raw
  calibration: train
  evaluation: test
toolchain: llama.cpp-0c1e57098bba
calibration:
  arithmetic: portable
  chunks: 100
  context: 512
  batch: 512
  ubatch: 512
  flash_attention: false
quants:
  - Q4_K_M
# Without this key nothing is measured, and the card says so.
evaluation:
  fidelity: {{arithmetic: native, chunks: 50, context: 512}}
  speed: {{arithmetic: native, prompt: 512, generate: 128, rounds: 3}}
card:
  publisher: {publisher}
  # The original repository as owner/name, or none; the Hub shows the release below it.
  base_model: {base_model}
  languages: [zh, en]
  # What the model is, in a sentence or two each.
  summary:
    zh: {name} 的 GGUF 量化版。
    en: GGUF quantizations of {name}.
  # Tokens that the card's commands give a conversation; thinking is always, optional or none.
  chat:
    context: 8192
    thinking: none
  # Scores that the vendor published for the original weights, and where.
  vendor_benchmarks:
    source: none
    rows: []
"""


def new_recipe(pin_name: str, table: Path, out: Path, publisher: str) -> None:
    """Write a recipe for the model ``pin_name`` of a pin table to the new file ``out``, and see that it can be run.

    Raises:
        RecipeError: when the table has no such model, or ``out`` exists.
    """
    models = read_pins(table).models
    if pin_name not in models:
        raise RecipeError(
            f"{table} has no models.{pin_name}; write one of {', '.join(models)}, or let requant pin add it"
        )
    if out.exists():
        raise RecipeError(f"{out} exists already: give the new recipe another name")
    text = FORM.format(
        name=pin_name,
        publisher=_quoted(publisher),
        base_model=_base_model(models[pin_name]),
        machine=_machine(models[pin_name], table),
    )
    load_recipe({**yaml.safe_load(text), "pins": str(table), "source": str(out.absolute().parent)}, DATA, str(out))
    write_bytes(out, text.encode())


def _base_model(pin: ModelPin) -> str:
    return pin.repo if pin.repo is not None and pin.public else "none"


def _machine(pin: ModelPin, table: Path) -> str:
    """What does not belong to every recipe: another pin table, and where weights lie that are not on the Hub."""
    lines = [] if table == Path(DEFAULT_PINS) else [f"pins: {_quoted(str(table))}"]
    if pin.repo is None:
        lines.append("# The weights lie on no hub: write their folder here (source: FOLDER).")
    elif pin.revision is None and pin.package is None:
        lines.append("source: modelscope")
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A text as YAML, quoted where it would be read as something else."""
    return yaml.safe_dump(text, width=1 << 20).removesuffix("...\n").strip()
