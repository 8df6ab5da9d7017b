"""requant.pipeline.convert: what no converter may let through, and what it must say of what it rounded."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from requant.ground.errors import FormatError
from requant.pipeline import convert
from requant.pipeline.describe import describe


def small(path: Path, tokens: int, kind: type[np.generic] = np.float32) -> Path:
    """A GGUF with so many tokens, an embedding of 4 rows and one matrix more."""
    writer = GGUFWriter(path, "llama")
    writer.add_token_list([str(number) for number in range(tokens)])
    for name in ("token_embd.weight", "blk.0.attn_q.weight"):
        writer.add_tensor(name, np.ones((4, 32), kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tokens_and_rows_must_be_as_many(tmp_path: Path) -> None:
    convert.require_vocabulary(describe(small(tmp_path / "right.gguf", 4)))
    with pytest.raises(FormatError, match=r"^the model has 5 tokens, its embedding 4 rows: correct the vocab_size"):
        convert.require_vocabulary(describe(small(tmp_path / "wrong.gguf", 5)))


@pytest.mark.parametrize(
    ("stored", "written", "rounded"),
    [
        (np.float16, np.float16, []),
        (np.float32, np.float32, []),
        (np.float16, np.int16, ["F16"]),
        (np.float32, np.int16, ["F32"]),
    ],
    ids=["F16 kept", "F32 kept", "F16 rounded", "F32 rounded"],
)
def test_what_was_rounded_is_said(
    tmp_path: Path, stored: type[np.generic], written: type[np.generic], rounded: list[str]
) -> None:
    """Sixteen whole bits stand for BF16 here: no float of numpy is one."""
    names = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight")
    save_file(
        {**dict.fromkeys(names, np.ones((4, 32), stored)), "norm": np.ones(32, np.float32)},
        tmp_path / "model.safetensors",
    )
    description = describe(small(tmp_path / "model.gguf", 4, written))
    found = convert.rounded_types([tmp_path / "model.safetensors", tmp_path / "config.json"], description)
    assert found == rounded


@pytest.mark.parametrize(
    "said",
    ["Tokenizer class TokenizersBackend does not exist", "AttributeError: 'list' object has no attribute 'keys'"],
)
def test_a_tokenizer_of_transformers_5(said: str) -> None:
    with pytest.raises(FormatError, match=r"saved by transformers 5, .*: save it again with transformers 4"):
        convert.explain(said)
