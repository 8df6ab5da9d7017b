"""Upstream's own library for GGUF files, gguf-py, as it lies in a proven tree; it needs numpy and PyYAML, no torch."""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from requant.formats.gguf import Field
from requant.ground.errors import FormatError
from requant.ground.programs import WorkFolder
from requant.toolchain.pre_tokenizers import BASE, PreTokenizers

TOKENIZER = "tokenizer.json"
PROGRAM = Path(__file__).with_name("write_header.py")


@dataclass(frozen=True)
class HeaderRequest:
    """What a header shall hold beside what gguf-py finds in the checkpoint's folder by itself.

    ``folder`` is a name in the work folder. ``parameters``, ``tokenizer`` and ``last`` are keys with their values, in
    order; ``tensors`` are name, shape (row length first) and type. ``pre`` asks for the pre-tokenizer to be recognised.
    """

    folder: str
    architecture: str
    parameters: Iterable[tuple[str, Field]]
    tokenizer: Iterable[tuple[str, Field]]
    last: Iterable[tuple[str, Field]]
    tensors: Iterable[tuple[str, tuple[int, ...], str]]
    pre: bool

    def as_json(self, pre: str | None, templates: bool) -> dict[str, Any]:
        """The request as ``write_header.py`` reads it; ``pre`` is the pre-tokenizer's name."""
        return {
            "folder": self.folder,
            "architecture": self.architecture,
            "parameters": [_plain(*entry) for entry in self.parameters],
            "tokenizer": [_plain(*entry) for entry in self.tokenizer],
            "last": [_plain(*entry) for entry in self.last],
            "tensors": [[name, [*reversed(shape)], kind] for name, shape, kind in self.tensors],
            "pre": pre,
            "templates": templates,
        }


def write_header(work: WorkFolder, tree: Path, request: HeaderRequest, log: Path) -> bytes:
    """Let gguf-py write a header: all that stands before the tensors' bytes, without the padding at its end.

    Raises:
        FormatError: when upstream does not recognise the tokenizer.
        ToolError: when it fails otherwise.
    """
    work.link(tree, "llama.cpp")
    work.link(PROGRAM, PROGRAM.name)
    folder = work.path / request.folder
    document = request.as_json(_pre_tokenizer(tree, folder) if request.pre else None, has_template_files(folder))
    (work.path / "request.json").write_text(json.dumps(document), encoding="utf-8")
    env = {"PYTHONPATH": "llama.cpp/gguf-py", "PYTHONHASHSEED": "0"}
    work.run([sys.executable, PROGRAM.name, "request.json", "header"], log, env=env, explain=_explain)
    return (work.path / "header").read_bytes()


def has_template_files(folder: Path) -> bool:
    """Whether templates come from a folder of their own, which they do where tokenizer_config.json has none."""
    settings = folder / "tokenizer_config.json"
    own = settings.exists() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
    return (folder / "additional_chat_templates").is_dir() and not own


def _pre_tokenizer(tree: Path, folder: Path) -> str:
    known = PreTokenizers.of_source((tree / BASE).read_text(encoding="utf-8"))
    name = known.name((folder / TOKENIZER).read_bytes())
    if name is None:
        raise FormatError("the pinned llama.cpp does not recognise the model's tokenizer: pin a newer one")
    return name


def _plain(key: str, field: Field) -> list[Any]:
    value = field.value.tolist() if isinstance(field.value, np.ndarray) else field.value
    return [key, field.type.name, value]


def _explain(said: str) -> str | None:
    if match := re.search(r"(?:\w+Error|\w+Exception): (.+)", said):
        return f"upstream's gguf-py refused the model: {match[1].strip()}"
    return None
