"""Check YAML documents against the JSON schemas in ``workflow/schemas``, one sentence per error."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from requant import DATA
from requant.documents.yaml_text import yaml_of
from requant.ground.errors import RecipeError
from requant.ground.text import did_you_mean, printable

SCHEMAS = DATA / "schemas"
SUFFIX = ".schema.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def read_yaml(path: Path) -> Any:
    """Read one YAML file; only plain data, no tags.

    Raises:
        RecipeError: when the file is missing or not YAML, naming the line.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecipeError(f"{path} is no file: name one")
        return yaml_of(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = (
            f" at line {error.problem_mark.line + 1}"
            if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
            else ""
        )
        raise RecipeError(f"{path} is not valid YAML{place}: fix the syntax there") from error
    except ValueError as error:  # a NUL in the path
        raise RecipeError(f"{printable(str(path))} is no path: correct it") from error


def fault(document: object, schema: str, where: str) -> str | None:
    """What is wrong with ``document`` by ``workflow/schemas/<schema>.schema.yaml``, or ``None``.

    It is one sentence naming the key, what was found and what to write; whose fault that is, the caller knows.
    """
    definition = _definition(schema)
    odd = next(_odd_keys(document, ()), None)
    if odd is not None:
        return f"{where}: {odd} is not one line of text; write it in quotes"
    error = best_match(VALIDATOR(definition).iter_errors(document))
    return None if error is None else f"{where}: {_sentence(error)}"


@cache
def _definition(schema: str) -> Any:
    # Ours, so without the bounds of read_yaml; every step and every verb reads some.
    root = yaml.load((SCHEMAS / f"{schema}{SUFFIX}").read_bytes(), LOADER)  # noqa: S506 - a safe one
    return _inlined(root, root.get("$defs", {}))


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema without ``$ref``: jsonschema looks each one up anew for every value that it checks.

    A reference names a definition of the same file, or another whole schema by its file.
    """
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    while "$ref" in part:
        own = {key: value for key, value in part.items() if key != "$ref"}
        file, _, name = part["$ref"].partition("#/$defs/")
        part = {**(definitions[name] if name else _definition(file.removesuffix(SUFFIX))), **own}
    return {key: _inlined(value, definitions) for key, value in part.items() if key != "$defs"}


def _odd_keys(document: object, place: tuple[object, ...]) -> Iterator[str]:
    """Keys that YAML reads as numbers, dates or truth values (``on``, ``no``), or that hold a line end."""
    for key, value in document.items() if isinstance(document, Mapping) else ():
        if not (isinstance(key, str) and key.isprintable()):
            yield ".".join(map(str, (*place, str(key) if not isinstance(key, str) else repr(key))))
        yield from _odd_keys(value, (*place, key))
    for index, value in enumerate(document if isinstance(document, list) else ()):
        yield from _odd_keys(value, (*place, index))


def _whole_pattern(validator: Any, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    """Our patterns are anchored, but Python's ``$`` also matches before a line end at the end of a text."""
    if validator.is_type(instance, "string") and not re.fullmatch(pattern, str(instance)):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(_validator: Any, unique: bool, instance: object, _schema: object) -> Iterator[ValidationError]:
    """jsonschema compares all pairs of what it cannot sort, which takes hours for a list that is long enough."""
    items = [repr(item) for item in instance] if isinstance(instance, list) else []
    if unique and len({*items}) < len(items):
        yield ValidationError("something is listed twice")


VALIDATOR = extend(Draft202012Validator, {"pattern": _whole_pattern, "uniqueItems": _unique_items})  # type: ignore[no-untyped-call]


def _sentence(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "the document"
    rule, schema = error.validator, error.schema
    # These are set on every error that comes out of a validator.
    found: Any = error.instance
    value: Any = error.validator_value
    assert isinstance(schema, Mapping)
    wanted = str(schema.get("description", "")).rstrip(".")
    if rule == "additionalProperties":
        return _unknown_key(key, found, schema)
    if rule == "required":
        missing = next(name for name in value if name not in found)
        # Of keys that only a pattern describes, what holds them tells more.
        hint = schema.get("properties", {}).get(missing, schema).get("description", "").rstrip(".")
        return f"{_below(key, missing)} is missing; write {hint}"
    if rule == "type":
        kinds = [value] if isinstance(value, str) else value
        return f"{key} is {_show(found)}; write {' or '.join(NAMES[kind] for kind in kinds)}: {wanted}"
    if rule == "enum":
        choices = ", ".join(str(choice) for choice in value)
        return f"{key} is {_show(found)}; write one of {choices}{did_you_mean(str(found), map(str, value))}"
    if rule == "pattern":
        return f"{key} is {_show(found)}; write {wanted}"
    if rule in ("minimum", "exclusiveMinimum", "maximum", "minItems", "minLength", "minProperties", "const"):
        return f"{key} is {_show(found)}; write {wanted}"
    if rule == "uniqueItems":
        return f"{key} lists something twice; write each entry once"
    return f"{key}: {error.message}; write {wanted}"


def _unknown_key(key: str, found: Mapping[str, object], schema: Mapping[str, Any]) -> str:
    known = list(schema.get("properties", {}))
    patterns = "|".join(schema.get("patternProperties", {}))
    extra = next(name for name in found if name not in known and not (patterns and re.search(patterns, name)))
    if patterns and not known:
        return f"{_below(key, extra)} is not a valid name; write {str(schema.get('description', '')).rstrip('.')}"
    return f"{_below(key, extra)} is not a known key{did_you_mean(extra, known)}; write only {', '.join(known)}"


def _below(key: str, name: str) -> str:
    return name if key == "the document" else f"{key}.{name}"


def _show(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    return "empty" if value is None else printable(repr(value))
