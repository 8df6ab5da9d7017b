"""Every key that a schema allows, as a Markdown table: the schemas describe themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from support.checkout import ROOT

TYPES = {
    "object": "mapping",
    "array": "list",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "`null`",
}


def schema(name: str) -> dict[str, Any]:
    """``workflow/schemas/<name>.schema.yaml``."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "workflow" / "schemas" / f"{name}.schema.yaml").read_text("utf-8"))
    return found


def key_table(name: str) -> str:
    """Every key of a schema; of one that allows several kinds of things, a table for each."""
    root = schema(name)
    if "oneOf" not in root:
        return _table(root, root)
    kinds = [_resolved(kind, root) for kind in root["oneOf"]]
    return "\n\n".join(f"{_described(kind).capitalize()}:\n\n{_table(kind, root)}" for kind in kinds)


def _table(part: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    rows = [f"| `{key}` | {needed} | {value} | {meaning} |" for key, needed, value, meaning in _keys(part, root, "")]
    return "\n".join(["| key | required | value | meaning |", "|---|---|---|---|", *rows])


def _keys(part: Mapping[str, Any], root: Mapping[str, Any], key: str) -> Iterator[tuple[str, str, str, str]]:
    children = [
        (f"{key}.{name}".lstrip("."), "yes" if name in part.get("required", ()) else "no", child)
        for name, child in part.get("properties", {}).items()
    ]
    if isinstance(part.get("additionalProperties"), Mapping):
        children.append((f"{key}.<name>", "", part["additionalProperties"]))
    children += [(f"{key}.<file>", "", child) for child in part.get("patternProperties", {}).values()]
    if "items" in part:
        children.append((f"{key}[]", "", part["items"]))
    for name, needed, child in children:
        resolved = _resolved(child, root)
        yield name, needed, _value(resolved, root), _described(resolved)
        yield from _keys(resolved, root, name)


def _resolved(part: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A ``$ref`` with the keys that stand beside it; one to another schema stays."""
    if not part.get("$ref", "").startswith("#"):
        return dict(part)
    named = _resolved(root["$defs"][part["$ref"].removeprefix("#/$defs/")], root)
    return {**named, **{key: value for key, value in part.items() if key != "$ref"}}


def _value(part: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    if "anyOf" in part:
        return " or ".join(_value(_resolved(choice, root), root) for choice in part["anyOf"])
    if "$ref" in part:
        title = schema(part["$ref"].removesuffix(".schema.yaml"))["title"]
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return " or ".join(TYPES[kind] for kind in kinds)


def _described(part: Mapping[str, Any]) -> str:
    return str(part["description"]).strip().replace("|", "\\|")
