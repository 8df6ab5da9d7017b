"""A GGUF's header by upstream's own gguf-py; a program by itself, run with the proven ``gguf-py`` on its path.

    python write_header.py REQUEST.json HEADER
    python write_header.py --pre BASE.py FOLDER

``REQUEST.json`` is what ``requant.toolchain.gguf_py`` writes. It calls what ``ModelBase.prepare_metadata`` in
``conversion/base.py`` calls, in the same order. A pre-tokenizer is recognised as ``get_vocab_base_pre`` there does it:
by the numbers that the tokenizer makes of a fixed text, with upstream's own text and list, read from its source. The
second form says nothing but that; a stranger's tokenizer may take for ever, so it has a minute and some gigabytes.
"""

import ast
import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

SECONDS, MEMORY = 60, 8 << 30


def write_header(request: dict[str, Any], out: Path) -> None:
    """Write everything that stands before the tensors' bytes, except the padding at its end.

    Raises:
        ValueError: when upstream does not recognise the tokenizer.
    """
    folder = Path(request["folder"])
    writer = gguf.GGUFWriter(None, request["architecture"])
    for name, shape, kind in request["tensors"]:
        quantization = gguf.GGMLQuantizationType[kind]
        nbytes = int(np.prod(shape)) * gguf.GGML_QUANT_SIZES[quantization][1]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, quantization)
    counts = writer.get_total_parameter_count()
    metadata = gguf.Metadata.load(None, folder, None, counts[0])
    metadata.name = metadata.name or folder.name
    metadata.size_label = metadata.size_label or gguf.size_label(*counts)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    _add(writer, request["parameters"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for entry in request["tokenizer"]:
        _add(writer, [entry])
        if entry[0] == gguf.Keys.Tokenizer.MODEL and request["pre"]:
            writer.add_tokenizer_pre(recognised(Path(request["pre"]), folder))
    vocabulary = {key: value for key, _, value in request["tokenizer"]}
    pieces = vocabulary.get(gguf.Keys.Tokenizer.MODEL) == "llama"
    size = len(vocabulary[gguf.Keys.Tokenizer.LIST]) if pieces else None
    special = gguf.SpecialVocab(folder, load_merges=not pieces, n_vocab=size)
    if request["templates"] and isinstance(special.chat_template, list):
        # Those in files of their own come in the order of the disk, which is another on every machine.
        special.chat_template[1:] = sorted(special.chat_template[1:], key=lambda choice: choice["name"])
    special.add_to_gguf(writer, quiet=True)
    _add(writer, request["last"])
    writer.write_header_to_file(out)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, entries: list[list[Any]]) -> None:
    for key, kind, value in entries:
        if kind == "ARRAY":
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType[kind])


def recognised(source: Path, folder: Path) -> str:
    """The name of the pre-tokenizer of ``folder``'s tokenizer.json by the list in ``source``, ``conversion/base.py``.

    Raises:
        ValueError: when upstream does not know it.
    """
    from tokenizers import Tokenizer

    body = _function(ast.parse(source.read_text(encoding="utf-8")), "get_vocab_base_pre")
    text = next(value for name, value in _assignments(body) if name == "chktxt")
    numbers = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    found = hashlib.sha256(str(numbers).encode()).hexdigest()
    for branch in (node for node in ast.walk(body) if isinstance(node, ast.If)):
        test = branch.test
        if isinstance(test, ast.Compare) and [ast.unparse(test)] == [f"chkhsh == {found!r}"]:
            return next(value for name, value in _assignments(branch) if name == "res")
    raise ValueError("BPE pre-tokenizer was not recognized")


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def _assignments(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that get a text below ``node``, with that text."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
            for target in part.targets:
                yield ast.unparse(target), part.value.value


if __name__ == "__main__":
    if sys.argv[1] == "--pre":
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        sys.stdout.write(recognised(Path(sys.argv[2]), Path(sys.argv[3])))
        sys.exit()
    write_header(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
