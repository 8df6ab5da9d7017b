"""What the converter writes about a checkpoint's chat templates: ``SpecialVocab`` in ``gguf-py/gguf/vocab.py``.

The file and the commit are those of ``requant.conversion.vocabulary``.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from requant.conversion.expected import ExpectedMetadata
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.ground.canonical import parse
from requant.ground.errors import FormatError

SETTINGS = "tokenizer_config.json"
TEMPLATE, NAMES = "tokenizer.chat_template", "tokenizer.chat_templates"
PLAIN, OBJECT = "chat_template.jinja", "chat_template.json"
MORE = "additional_chat_templates"
"""A folder of further templates, a file each, which are read beside ``PLAIN``."""


def is_more(name: str) -> bool:
    """Whether a file of a checkpoint is one of the further templates."""
    path = PurePosixPath(name)
    return path.parent.as_posix() == MORE and path.suffix == ".jinja"


def add_template(expected: ExpectedMetadata, files: Mapping[str, bytes], settings: Mapping[str, Any] | None) -> None:
    """Expect the chat templates: tokenizer_config.json, parsed as ``settings``, goes before the files of their own.

    Raises:
        FormatError: naming the file that is damaged.
    """
    if not settings:
        return
    found: object = (read_object(files, OBJECT) or {}).get("chat_template")
    if PLAIN in files:
        found = _text(files, PLAIN)
        if more := sorted(filter(is_more, files)):
            named = [{"name": PurePosixPath(name).stem, "template": _text(files, name)} for name in more]
            found = [{"name": "default", "template": found}, *named]
    alone = "chat_template" not in settings and PLAIN in files
    found = settings.get("chat_template", found)
    if isinstance(found, str):
        expected.values[TEMPLATE] = Field(ValueType.STRING, found)
    elif isinstance(found, Sequence):
        _add_templates(expected, found)
        if alone:
            # Converters of 2025 took the plain file, and did not look into the folder beside it.
            expected.overlooked |= {NAMES, *(key for key in expected.values if key.startswith(f"{TEMPLATE}."))}


def read_object(files: Mapping[str, bytes], name: str) -> dict[str, Any] | None:
    """Parse one of the JSON files, if it is there.

    Raises:
        FormatError: when it is not one JSON object.
    """
    if name not in files:
        return None
    document = parse(files[name], name)
    if not isinstance(document, dict):
        raise FormatError(f"{name} is not a JSON object: get the file again")
    return document


def _text(files: Mapping[str, bytes], name: str) -> str:
    """A file read as text, which turns every kind of line end into one."""
    try:
        return files[name].decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name} is not UTF-8: get the file again") from error


def _add_templates(expected: ExpectedMetadata, choices: Sequence[object]) -> None:
    """Several templates: the default one has the plain key, and of the others there is a list in any order."""
    names: set[str | bytes] = set()
    for choice in choices:
        name, template = (choice.get("name"), choice.get("template")) if isinstance(choice, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(template, str):
            raise FormatError(f"{SETTINGS} has a chat_template without name and template: it is damaged")
        plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
        if plain == "default":
            expected.values[TEMPLATE] = Field(ValueType.STRING, template)
        elif plain:
            names.add(plain)
            expected.values[f"{TEMPLATE}.{plain}"] = Field(ValueType.STRING, template)
    if names:
        expected.values[NAMES] = Field(ValueType.ARRAY, sorted(names), ValueType.STRING)
