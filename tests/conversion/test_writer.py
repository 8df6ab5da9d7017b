"""requant.conversion.writer: what is not known well enough is upstream's to convert; the bytes are compared in e2e."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from requant.conversion.layout import plan
from requant.conversion.writer import conversion
from requant.formats.safetensors import Checkpoint, StoredTensor
from requant.ground.errors import UnsupportedError
from support.small_checkpoint import CONFIG, SETTINGS, TOKENIZER, checkpoint

PLAIN = {"tokenizer_config__json": SETTINGS | {"tokenizer_class": "PreTrainedTokenizerFast"}}


def weights(**changes: Any) -> Checkpoint:
    """The tensors of ``CONFIG``, of which nothing is read."""
    file = cast(Any, SimpleNamespace(name="model.safetensors"))
    found = {
        origin.name: StoredTensor(origin.name, "BF16", origin.shape[::-1], file, 0, 0)
        for origin in plan(CONFIG).tensors.values()
    }
    return Checkpoint("the weights", found | changes, ("model.safetensors",))


def test_a_pre_tokenizer_that_is_not_known_is_to_be_recognised() -> None:
    found = conversion(checkpoint(**PLAIN), weights())
    assert found.pre
    assert found.tensors == tuple(sorted(found.tensors, key=lambda name: found.plan.tensors[name].name))


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["spaced", "compact"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_space_before_texts_is_noticed(separators: tuple[str, str], nested: bool) -> None:
    byte_level = {"type": "ByteLevel", "add_prefix_space": True}
    pieces = {"type": "Sequence", "pretokenizers": [byte_level]} if nested else byte_level
    data = json.dumps(TOKENIZER | {"pre_tokenizer": pieces}, separators=separators).encode()
    with pytest.raises(UnsupportedError, match="adds a space before texts"):
        conversion(checkpoint(**PLAIN, tokenizer__json=data), weights())


def test_another_class_is_upstreams() -> None:
    files = checkpoint(tokenizer_config__json=SETTINGS | {"tokenizer_class": "LlamaTokenizerFast"})
    with pytest.raises(UnsupportedError, match="what transformers makes of a 'LlamaTokenizerFast' is not known"):
        conversion(files, weights())


def test_a_rope_base_that_is_null_is_upstreams() -> None:
    config = CONFIG | {"rope_parameters": {"rope_theta": None, "rope_type": "default"}}
    with pytest.raises(UnsupportedError, match="rope_theta that is null"):
        conversion(checkpoint(**PLAIN, config__json=config), weights())


def test_what_the_index_does_not_name_is_refused_as_upstream_refuses_it() -> None:
    odd = replace(weights(), unnamed=("x\x1b",))
    with pytest.raises(UnsupportedError, match=r"^the weights holds 'x\\x1b', which its index does not name"):
        conversion(checkpoint(**PLAIN), odd)
