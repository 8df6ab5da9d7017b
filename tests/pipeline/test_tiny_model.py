"""Laws of the tiny model: same bytes everywhere, every tensor once, weights like a trained model's."""

import json
import resource
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFWriter, TokenType

from requant.ground.digests import digest_bytes
from requant.ground.errors import DiskError, FormatError, RecipeError
from requant.pipeline.tiny_model import (
    CONTROL_TOKENS,
    MARKUP_TOKENS,
    TEMPLATE_FILE,
    VOCAB_FILE,
    make_tensor,
    tensor_dims,
    write_tiny_model,
)
from requant.pipeline.tiny_shape import BLOCK, INDEX, SHARDS, TINY_FILES, TinyShape

SHAPE = TinyShape(layers=3, hidden=256, ffn=512, heads=2, kv_heads=1, head_dim=128, seed=2507)
WORDS = [chr(0x100 + index) for index in range(200)]
MERGES = [f"{left} {right}" for left, right in pairwise(WORDS)]
ROWS = 256
TEMPLATE = "{{- '<think>\\n' }} 你好"

Tensors = dict[str, npt.NDArray[np.float32]]


def write_vocabulary(tree: Path, tokens: Sequence[str]) -> None:
    path = tree / VOCAB_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(tokens))
    kinds = [TokenType.NORMAL] * len(WORDS) + [TokenType.CONTROL] * 3
    writer.add_token_types(kinds + [TokenType.USER_DEFINED] * (len(tokens) - len(kinds)))
    writer.add_token_merges(MERGES)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with as little in it as the tiny model needs: 256 tokens, laid out as upstream's file is."""
    tree = tmp_path / "llama.cpp"
    write_vocabulary(tree, [*WORDS, *CONTROL_TOKENS[:3], *(f"[PAD{index}]" for index in range(203, ROWS))])
    (tree / TEMPLATE_FILE).parent.mkdir(parents=True)
    (tree / TEMPLATE_FILE).write_text(TEMPLATE, encoding="utf-8")
    return tree


def read_bytes(paths: Sequence[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def as_floats(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (bits.astype("<u4") << 16).view("<f4").astype(np.float32)


def read_shard(path: Path) -> Tensors:
    """Read BF16 tensors after https://huggingface.co/docs/safetensors: header length, JSON header, data."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    assert header.pop("__metadata__") == {"format": "pt"}
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16"
        first, last = entry["data_offsets"]
        bits = np.frombuffer(content[start + first : start + last], dtype="<u2")
        tensors[name] = as_floats(bits).reshape(entry["shape"])
    return tensors


def test_the_same_bytes_twice_under_the_fixed_names(tree: Path, tmp_path: Path) -> None:
    first = write_tiny_model(tree, tmp_path / "a", SHAPE)
    again = write_tiny_model(tree, tmp_path / "b" / "deeper", SHAPE)
    assert [path.name for path in first] == list(TINY_FILES)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(TINY_FILES)
    assert read_bytes(first) == read_bytes(again)


def test_the_bytes_are_these_on_every_machine() -> None:
    matrix = make_tensor(2507, "model.layers.0.mlp.up_proj.weight", (512, 256))
    norm = make_tensor(2507, "model.norm.weight", (256,))
    assert digest_bytes(matrix.tobytes()).sha256 == "1caaaac0e523d64b198b2b5b089f45ba8797b94565239c7c8e9c1c4f75b03ef7"
    assert digest_bytes(norm.tobytes()).sha256 == "b7164a490e3cab8da0b4e55f307e7f5ea940483ffdde313eaf65006ca55c3389"
    assert matrix[0, :4].tolist() == [0xBC69, 0x3B9E, 0x3CE0, 0xBB97]


def test_two_shards_hold_every_tensor_once(tree: Path, tmp_path: Path) -> None:
    write_tiny_model(tree, tmp_path / "out", SHAPE)
    first, second = (read_shard(tmp_path / "out" / name) for name in SHARDS)
    index = json.loads((tmp_path / "out" / INDEX).read_bytes())
    where = dict.fromkeys(first, SHARDS[0]) | dict.fromkeys(second, SHARDS[1])
    assert not first.keys() & second.keys()
    assert index["weight_map"] == where
    assert list(index["weight_map"]) == sorted(where)
    tensors = first | second
    assert index["metadata"]["total_size"] == 2 * sum(tensor.size for tensor in tensors.values())
    assert len(tensors) == 11 * SHAPE.layers + 2
    assert tensors["model.embed_tokens.weight"].shape == (ROWS, SHAPE.hidden)
    assert "lm_head.weight" not in tensors


def test_rows_are_whole_blocks_and_values_are_those_of_a_trained_model(tree: Path, tmp_path: Path) -> None:
    write_tiny_model(tree, tmp_path, SHAPE)
    for name, tensor in (read_shard(tmp_path / SHARDS[0]) | read_shard(tmp_path / SHARDS[1])).items():
        assert np.isfinite(tensor).all(), name
        if tensor.ndim == 1:
            assert tensor.min() >= 0.75, name
            assert tensor.max() < 1.5, name
            assert tensor.std() > 0.1, name
            continue
        assert tensor.shape[1] % BLOCK == 0, name
        assert (tensor != 0).all(), name
        assert 0.015 < tensor.std() < 0.026, name
        assert abs(tensor.mean()) < 0.001, name
        columns = np.sort(tensor.std(axis=0))
        assert columns[-1] > 2.5 * columns[0], name


def test_a_tensor_depends_on_its_name_and_the_seed_alone(tree: Path, tmp_path: Path) -> None:
    write_tiny_model(tree, tmp_path, SHAPE)
    written = read_shard(tmp_path / SHARDS[0]) | read_shard(tmp_path / SHARDS[1])
    for name in sorted(written, reverse=True):
        alone = as_floats(make_tensor(SHAPE.seed, name, written[name].shape))
        np.testing.assert_array_equal(alone, written[name])
    # Tensors of one shape share nothing, and rows of a taller tensor do not depend on its height.
    assert len({tensor.tobytes() for tensor in written.values()}) == len(written)
    np.testing.assert_array_equal(make_tensor(1, "x", (900, 256))[:300], make_tensor(1, "x", (300, 256)))


def test_another_seed_changes_every_tensor() -> None:
    for dims in tensor_dims(SHAPE, ROWS):
        for name, shape in dims.items():
            ours, theirs = make_tensor(2507, name, shape), make_tensor(2508, name, shape)
            assert (ours != theirs).mean() > 0.9, name


def test_text_files_say_what_the_weights_are(tree: Path, tmp_path: Path) -> None:
    write_tiny_model(tree, tmp_path, SHAPE)
    config = json.loads((tmp_path / "config.json").read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert (config["vocab_size"], config["hidden_size"], config["num_hidden_layers"]) == (ROWS, 256, 3)
    assert config["tie_word_embeddings"] is True
    assert (config["bos_token_id"], config["eos_token_id"]) == (200, 202)
    assert tokenizer["chat_template"] == TEMPLATE
    added = tokenizer["added_tokens_decoder"]
    assert [added[str(200 + index)]["content"] for index in range(26)] == [*CONTROL_TOKENS, *MARKUP_TOKENS]
    assert [key for key, token in added.items() if token["special"]] == [str(200 + index) for index in range(14)]
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert vocabulary == {word: index for index, word in enumerate(WORDS)}
    assert (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines() == MERGES


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", INDEX])
def test_json_is_canonical(name: str, tree: Path, tmp_path: Path) -> None:
    write_tiny_model(tree, tmp_path, SHAPE)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("hidden", {"hidden": 320}),
        ("ffn", {"ffn": 300}),
        ("heads \\* head_dim", {"head_dim": 64}),
        ("layers", {"layers": 0}),
        ("kv_heads", {"kv_heads": 0}),
        ("kv_heads", {"kv_heads": 3}),
        ("head_dim", {"heads": 256, "kv_heads": 256, "head_dim": 1}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 1 << 64}),
    ],
)
def test_an_impossible_shape_names_the_key(key: str, change: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=f"^{key} is "):
        replace(SHAPE, **change)


@pytest.mark.parametrize("name", [VOCAB_FILE, TEMPLATE_FILE])
def test_a_missing_tree_file_is_named_and_nothing_is_written(name: str, tree: Path, tmp_path: Path) -> None:
    (tree / name).unlink()
    with pytest.raises(FormatError, match=name):
        write_tiny_model(tree, tmp_path / "out", SHAPE)
    assert not (tmp_path / "out").exists()


def test_no_room_is_one_sentence(tree: Path, tmp_path: Path) -> None:
    """A limit on files stands for a full disk: the library that writes them says both in its own way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(DiskError, match=f"{SHARDS[0]} cannot be written .*: make room, and run again"):
            write_tiny_model(tree, tmp_path / "out", SHAPE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_another_vocabulary_is_refused(tree: Path, tmp_path: Path) -> None:
    for tokens in ([*WORDS, "<s>", "</s>", "<unk>"], [*WORDS, *CONTROL_TOKENS[:3]]):
        write_vocabulary(tree, tokens)
        with pytest.raises(FormatError, match="another model's vocabulary"):
            write_tiny_model(tree, tmp_path / "out", SHAPE)


@pytest.mark.parametrize("content", [b"", b"not a GGUF, though long enough", b"GGUF\3\0\0\0"])
def test_a_file_that_is_no_vocabulary_is_refused(content: bytes, tree: Path, tmp_path: Path) -> None:
    (tree / VOCAB_FILE).write_bytes(content)
    with pytest.raises(FormatError, match="not a GGUF"):
        write_tiny_model(tree, tmp_path / "out", SHAPE)
