"""A GGUF's header by upstream's own gguf-py; a program by itself, run with the proven ``gguf-py`` on its path.

    python write_header.py REQUEST.json HEADER

``REQUEST.json`` is what ``requant.toolchain.gguf_py`` writes. It calls what ``ModelBase.prepare_metadata`` in
``conversion/base.py`` calls, in the same order.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write_header(request: dict[str, Any], out: Path) -> None:
    """Write everything that stands before the tensors' bytes, except the padding at its end."""
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
            writer.add_tokenizer_pre(request["pre"])
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


if __name__ == "__main__":
    write_header(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
