"""Which pre-tokenizer a ``tokenizer.json`` has: recognised as upstream does it, by what it makes of a fixed text.

``get_vocab_base_pre`` in llama.cpp's ``conversion/base.py`` holds text and list. An audit reads them from the package,
where ``make wasm`` writes what stands in the first llama.cpp of the pin table; nothing is fetched for it.
"""

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from requant import DATA
from requant.ground.errors import ToolError
from requant.ground.programs import capture

BASE = "conversion/base.py"
PACKAGED = DATA / "upstream" / "pre_tokenizers.json"
PROGRAM = Path(__file__).with_name("encode_text.py")
SECONDS = 60
"""A stranger's tokenizer may take for ever."""


@dataclass(frozen=True)
class PreTokenizers:
    """Upstream's text, and its names by the SHA-256 of the numbers that a tokenizer makes of the text."""

    text: str
    names: Mapping[str, str]

    @classmethod
    def of_source(cls, source: str) -> Self:
        """Those of one ``conversion/base.py``; of several names for the same numbers upstream takes the last."""
        functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
        body = next(node for node in functions if node.name == "get_vocab_base_pre")
        text = next(value for name, value in _assigned(body) if name == "chktxt")
        names = {}
        for node in ast.walk(body):
            match node:
                case ast.If(test=ast.Compare(left=ast.Name("chkhsh"), comparators=[ast.Constant(str(found))])):
                    names[found] = next(value for name, value in _assigned(node) if name == "res")
        return cls(text, names)

    @classmethod
    def of_package(cls) -> Self:
        """Those that an audit goes by."""
        return cls(**json.loads(PACKAGED.read_text(encoding="utf-8")))

    def as_json(self) -> str:
        """As they stand in the package."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    def name(self, tokenizer: bytes) -> str | None:
        """What upstream calls the pre-tokenizer of a tokenizer.json; ``None`` where it knows none that does the same.

        The stranger's file is read by a process of its own.
        """
        with TemporaryDirectory() as folder:
            Path(folder, "text").write_text(self.text, encoding="utf-8", newline="")
            Path(folder, "tokenizer.json").write_bytes(tokenizer)
            try:
                found = capture([sys.executable, "-P", str(PROGRAM)], Path(folder), seconds=SECONDS)
            except ToolError:
                return None
        return self.names.get(found)


def _assigned(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that get a text below ``node``, with that text."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
            for target in part.targets:
                yield ast.unparse(target), part.value.value
