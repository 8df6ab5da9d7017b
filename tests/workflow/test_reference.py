"""The pages of reference are made from the code: what the command takes, and what its documents hold.

``make fix`` writes them again.
"""

import sys
from pathlib import Path

import click
import pytest

from requant.cli.main import GROUPS, main
from support.checkout import ROOT
from support.key_tables import key_table, schema

FIX = "run make fix"
WIDTH = 80
FORMS = ("manifest", "evaluation", "published", "audit", "imatrix-audit", "survey", "derivation", "verify", "diff",
         "compare", "rebuild", "suite")  # fmt: skip
"""Schemas of what is written or read beside recipe and pins, whose keys stand in config/README.md."""


def command_page() -> str:
    """The help of the command and of every verb, as it is shown."""
    parts = [
        "# The command",
        "What `requant --help` and `requant VERB --help` show; written by `make fix`.",
        _shown(main, "requant"),
    ]
    for group, verbs in GROUPS.items():
        parts.append(f"## {group}")
        for verb in verbs:
            parts += [f"### {verb.name}", _shown(verb, f"requant {verb.name}")]
    return "\n\n".join(parts) + "\n"


def _shown(verb: click.Command, name: str) -> str:
    said = verb.get_help(click.Context(verb, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH))
    return "\n".join(["```text", *(line.rstrip() for line in said.splitlines()), "```"])


def forms_page() -> str:
    """Every key of every document, under the title of its schema."""
    parts = [
        "# Forms",
        "Every key of what requant writes, and of the items of a suite, from the schemas in `workflow/schemas`; written by `make fix`.",
        "Keys of recipes and of the pin table stand in [config/README.md](../config/README.md#keys-of-a-recipe). `[]` is each entry of a list.",
    ]
    for name in FORMS:
        described = schema(name)
        parts += [
            f"## {described['title']}",
            f"`{name}.schema.yaml`: {described['description']}.",
            key_table(name),
        ]
    return "\n\n".join(parts) + "\n"


PAGES = {"command": command_page, "forms": forms_page}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_reference_is_what_the_code_says(name: str) -> None:
    assert page(name).read_text(encoding="utf-8") == PAGES[name](), FIX


def test_every_schema_is_listed() -> None:
    files = {path.name.removesuffix(".schema.yaml") for path in (ROOT / "workflow" / "schemas").glob("*.yaml")}
    assert files == {*FORMS, "recipe", "pins"}


def page(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit(f"usage: {sys.argv[0]} --fix")
    for name, made in PAGES.items():
        page(name).write_text(made(), encoding="utf-8")
