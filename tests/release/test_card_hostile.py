"""The model card is safe whatever the recipe says: text changes neither its structure nor its links."""

import re
from collections.abc import Callable

import pytest
from huggingface_hub import ModelCard

from support.cards import markdown, render
from support.manifests import Manifest, hub_model, packaged_model, poison

HOSTILE = [
    "a | b | c", "`tick` ``two`` `", "one\n\n| x | y |\n\ntwo", "---", "a\n---\nlicense: gpl-3.0", "{{ 7 * 7 }}{% raw %}",
    "<script>alert(1)</script><!--", "# heading", "```\nfence", "\\| \\", "1. item", "> quote", "[x](javascript:y)",
    "&lt;b&gt; *b* _i_ ~~s~~ $x$", "!!python/object:os.system", "'\": [", "a\r\nb\u2028c\x85d",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("kind", [hub_model, packaged_model])
def test_hostile_text_changes_no_structure(kind: Callable[[], Manifest], value: str) -> None:
    def structure(card: str) -> list[str]:
        inside = {"link_open", "link_close", "code_inline", "text", "softbreak"}
        kept = []
        for token in markdown(card):
            children = [child.type for child in token.children or [] if child.type not in inside]
            kept.append(f"{token.type} {children}")
        return kept

    def columns(card: str) -> list[int]:
        """Cell borders in each row: readers drop surplus cells, so the structure does not show them."""
        body = card.split("---\n", 2)[2]
        return [len(re.findall(r"(?<!\\)\|", line)) for line in body.splitlines() if line.startswith("|")]

    plain, card = render(kind()), render(poison(kind(), value))
    assert structure(card) == structure(plain)
    assert columns(card) == columns(plain)
    links = [
        child.attrs["href"] for token in markdown(card) for child in token.children or [] if child.type == "link_open"
    ]
    assert all(str(link).startswith(("https://", "#")) for link in links)
    keys = {*ModelCard(plain).data.to_dict(), "license_name", "license_link"}
    data = ModelCard(card, ignore_metadata_errors=False).data.to_dict()
    assert set(data) <= keys and data["license"] == "other"
    if "base_model" in data:
        assert data["base_model"] == " ".join(value.split())
