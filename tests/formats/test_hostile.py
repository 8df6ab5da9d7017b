"""Everything that parses bytes from outside, given the worst: it refuses in a sentence, soon and in little memory.

What single parsers refuse is in their own tests; here is what all must survive, and what costs much for little. ``make
fuzz`` looks for more.
"""

import base64
import json
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import seeds, targets
from fuzz.limits import MEMORY, SECONDS, limited
from fuzz.mutations import LENGTHS, mutated
from fuzz.targets import TARGETS
from requant.ground.canonical import canonical
from requant.ground.errors import RequantError
from support.gguf_files import array, gguf_bytes, pair, string, tensor

BINARY = ("gguf", "part", "metadata", "imatrix", "legacy_imatrix", "safetensors")
MIB = 1 << 20


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_accepted(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing behind the first check would ever be reached."""
    accepted = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
            accepted.append(seed)
        except RequantError:
            pass

    monkeypatch.setattr(targets, "refusals", noting)
    for seed in seeds.seeds(target):
        TARGETS[target](seed)
    assert {*accepted} == {*seeds.seeds(target)}


@pytest.mark.parametrize("target", TARGETS)
def test_truncated(target: str) -> None:
    for seed in seeds.seeds(target):
        for length in range(0, len(seed), 1 if target in BINARY else -(-len(seed) // 100)):
            TARGETS[target](seed[:length])


@pytest.mark.parametrize("target", ["gguf", "part", "imatrix", "legacy_imatrix", "safetensors"])
def test_every_length_field(target: str) -> None:
    """Whatever is a length or a count gets each of these values, wherever it stands."""
    seed = seeds.seeds(target)[0]
    for value in (
        length.to_bytes(width, "little") for length in LENGTHS for width in (4, 8) if length < 1 << 8 * width
    ):
        for at in range(len(seed) - len(value) + 1):
            TARGETS[target](seed[:at] + value + seed[at + len(value) :])


@pytest.mark.parametrize("target", TARGETS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_mutations(target: str, seed: int) -> None:
    random = Random(seed)
    TARGETS[target](mutated(random.choice(seeds.seeds(target)), random))


def changed(document: bytes, *path: str | int, to: Any) -> bytes:
    """Canonical JSON with another value at ``path``."""
    root = holder = json.loads(document)
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = to
    return canonical(root)


def framed(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def model(*pairs: bytes) -> bytes:
    return gguf_bytes([pair("general.architecture", 8, string("qwen3")), *pairs])


def many_tensors(count: int) -> bytes:
    infos = [tensor(f"{index:064}", [1, 1, 1, 1], 0, 32 * index) for index in range(count)]
    return gguf_bytes([], infos, bytes(32 * count))


def matrix(*pairs: bytes, squares: int = 8, offset: int = 32) -> bytes:
    count = struct.pack("<I", 2)
    known = [pair("general.type", 8, string("imatrix")), pair("imatrix.chunk_count", 4, count)]
    infos = [tensor("a.in_sum2", [squares]), tensor("a.counts", [1], 0, offset)]
    return gguf_bytes([*known, pair("imatrix.chunk_size", 4, count), *pairs], infos, bytes(64))


def datasets(count: int) -> bytes:
    return pair("imatrix.datasets", 9, array(8, count, string("") * count))


def manifest(*path: str | int, to: Any) -> bytes:
    return changed(seeds.manifest(), *path, to=to)


def statement(*path: str | int, to: Any) -> bytes:
    return changed(seeds.seeds("statement")[0], *path, to=to)


def config(**changes: Any) -> bytes:
    return seeds.text({**seeds.CONFIG, **changes})


def tokenizer(name: str, **changes: Any) -> bytes:
    return seeds.text({**seeds.TOKENIZER_OBJECT, name: {**seeds.TOKENIZER_OBJECT[name], **changes}})


LINE = b"%064d  " % 0
NESTED = b"[" * 100_000 + b"]" * 100_000
BOMB = b"[" + b"{}," * (8 * MIB) + b"{}]"
FACE = "\U0001f642".encode()
"""One such letter makes Python keep the whole text in four bytes per letter."""
IMPOSTOR = {"name": "x", "size": "many", "sha256": "y"}
TENSOR = {"name": "a", "type": "F32", "shape": [1], "sha256": "0" * 64}
JSON_TARGETS = ("index", "config", "tokenizer", "manifest", "attestation", "statement")

HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{f"{target}: 100,000 nested arrays": (target, lambda: NESTED) for target in JSON_TARGETS},
    **{f"{target}: 8 Mi objects": (target, lambda: BOMB) for target in JSON_TARGETS},
    **{f"{target}: a number of 10**6 digits": (target, lambda: b'{"a": 1%s}' % (b"0" * 10**6)) for target in JSON_TARGETS},
    **{f"{target}: an escape in a key": (target, lambda: b'{"a\\u001b[2J": 0.5, "\\u001b": 0.5}') for target in JSON_TARGETS},
    **{f"{target}: a key of a million letters": (target, lambda: b'{"%s": 0.5}' % (b"a" * 10**6)) for target in JSON_TARGETS},
    **{f"{target}: half a character": (target, lambda: b'{"\\ud800": "\\udfff"}') for target in JSON_TARGETS},
    **{f"{target}: UTF-16": (target, lambda: '{"a": 1}'.encode("utf-16")) for target in JSON_TARGETS},
    **{f"{target}: big-endian": (target, lambda: b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(64)) for target in BINARY},
    **{f"{target}: a mebibyte of zeros": (target, lambda: bytes(MIB)) for target in TARGETS},
    "gguf: 2**20 empty strings": ("gguf", lambda: model(pair("k", 9, array(8, 1 << 20, bytes(8 << 20))))),
    "gguf: 2**20 short strings": ("gguf", lambda: model(pair("k", 9, array(8, 1 << 20, string(FACE * 11) * (1 << 20))))),
    "gguf: one string of 63 MiB": ("gguf", lambda: model(pair("k", 8, string(FACE + b"a" * (63 * MIB))))),
    "gguf: 65,536 keys": ("gguf", lambda: gguf_bytes([pair(f"{index:100}".replace(" ", "k"), 7, b"\1") for index in range(65536)])),
    "gguf: 2**15 nested arrays": ("gguf", lambda: model(pair("k", 9, array(9, 1 << 15, array(0, 0, b"") * (1 << 15))))),
    "gguf: 2**16 tensors": ("gguf", lambda: many_tensors(1 << 16)),
    "gguf: 2**17 tensors and nothing else": ("gguf", lambda: gguf_bytes(counts=(1 << 17, 0)) + bytes(33 << 17)),
    "gguf: the largest alignment": ("gguf", lambda: gguf_bytes([pair("general.alignment", 4, struct.pack("<I", MIB))], [tensor("a", [1])], bytes(MIB), alignment=MIB)),
    "metadata: 16 million numbers": ("metadata", lambda: model(pair("tokenizer.ggml.token_type", 9, array(5, 15 * MIB, bytes(60 * MIB))))),
    "metadata: other numbers": ("metadata", lambda: model(pair("tokenizer.ggml.token_type", 9, array(5, 3, bytes(12))))),
    "metadata: 2**20 tokens": ("metadata", lambda: model(pair("tokenizer.ggml.tokens", 9, array(8, 1 << 20, string("ab") * (1 << 20))))),
    "metadata: a template of 60 MiB": ("metadata", lambda: model(pair("tokenizer.chat_template", 8, string(b"\n" * (60 * MIB))))),
    "metadata: 60 million numbers that differ": ("metadata", lambda: model(pair("k", 9, array(0, 60 * MIB, bytes(range(256)) * (60 << 12))))),
    "metadata: 2**64-1 base models": ("metadata", lambda: model(pair("general.base_model.count", 10, b"\xff" * 8))),
    "metadata: every type of file type": ("metadata", lambda: model(pair("general.file_type", 4, b"\xff" * 4))),
    "imatrix: tensors that overlap": ("imatrix", lambda: matrix(datasets(1), offset=0)),
    "imatrix: past the end": ("imatrix", lambda: matrix(datasets(1), offset=2**63 - 32)),
    "imatrix: 2**61 columns": ("imatrix", lambda: matrix(datasets(1), squares=2**61 - 1)),
    "imatrix: 2**19 names": ("imatrix", lambda: matrix(datasets(1 << 19))),
    "safetensors: 31 MiB of text with one wide letter": ("safetensors", lambda: framed(b'{"__metadata__": {"a": "%s"}}' % (FACE + b"a" * (31 * MIB)))),
    "safetensors: 1.5 Mi keys": ("safetensors", lambda: framed(b"{%s}" % b",".join(b'"%d":1' % index for index in range(3 * MIB // 2 - 2)))),
    "safetensors: 2**14 tensors": ("safetensors", lambda: framed(seeds.text({f"{index:0100}": {"dtype": "U8", "shape": [0] * 8, "data_offsets": [0, 0]} for index in range(1 << 14)}))),
    "safetensors: a shape of 10**5": ("safetensors", lambda: framed(seeds.text({"a": {"dtype": "U8", "shape": [2**62] * 10**5, "data_offsets": [0, 0]}}))),
    "index: 31 MiB of text with one wide letter": ("index", lambda: b'{"a": "%s"}' % (FACE + b"a" * (31 * MIB))),
    "index: 2**15 files": ("index", lambda: seeds.text({"weight_map": {str(index): f"{index}.safetensors" for index in range(1 << 15)}})),
    "index: a total beyond all": ("index", lambda: seeds.text({"metadata": {"total_size": 10**4000}, "weight_map": seeds.MAP})),
    "config: all sizes at their limits": ("config", lambda: config(hidden_size=1 << 17, num_hidden_layers=1 << 10, num_attention_heads=1 << 12, num_key_value_heads=1 << 12, head_dim=1 << 12, intermediate_size=1 << 20, vocab_size=1 << 21)),
    "config: infinite": ("config", lambda: seeds.CONFIG_FILE.replace(b"1e-06", b"1e999").replace(b"1000000", b"-1e999")),
    "config: rope_scaling of everything": ("config", lambda: seeds.text({**seeds.LLAMA, "rope_scaling": {**seeds.ROPE, "low_freq_factor": 1, "high_freq_factor": 1 + 1e-15, "factor": 1e15}})),
    "config: architectures in a key": ("config", lambda: config(architectures=[["x"] * 10**5])),
    "tokenizer: a vocabulary of 2**21": ("tokenizer", lambda: seeds.text({**seeds.TOKENIZER_OBJECT, "config.json": {**seeds.CONFIG, "vocab_size": 1 << 21}})),
    "tokenizer: 50,000 merges": ("tokenizer", lambda: tokenizer("tokenizer.json", model={"type": "BPE", "vocab": {}, "merges": [["a", "b"]] * 50_000})),
    "tokenizer: a huge normalizer": ("tokenizer", lambda: tokenizer("tokenizer.json", normalizer=[[]] * 200_000)),
    "tokenizer: 3,000 processors": ("tokenizer", lambda: tokenizer("tokenizer.json", post_processor={"processors": [seeds.TEMPLATE] * 3_000})),
    "tokenizer: 20,000 templates": ("tokenizer", lambda: tokenizer("tokenizer_config.json", chat_template=[{"name": str(index), "template": ""} for index in range(20_000)])),
    "tokenizer: ids in other digits": ("tokenizer", lambda: tokenizer("tokenizer_config.json", added_tokens_decoder={"\u0666": {"content": "x"}, "²": {"content": "y"}})),
    "sums: a name of 300 letters": ("sums", lambda: LINE + b"a" * 300 + b"\n"),
    "sums: a name of 86 wide letters": ("sums", lambda: LINE + "世".encode() * 86 + b"\n"),
    "sums: a name of a mebibyte": ("sums", lambda: LINE + b"a" * (MIB - 67) + b"\n"),
    "sums: 10,000 names": ("sums", lambda: b"".join(LINE + b"%d\n" % index for index in range(10_000))),
    "sums: a name with NUL": ("sums", lambda: LINE + b"a\0b\n"),
    "sums: a name that goes back": ("sums", lambda: LINE + "a\u202eb\n".encode()),
    "sums: no names": ("sums", lambda: b"\n" * 10**6),
    "manifest: a block of 5,000 digits": ("manifest", lambda: manifest("quants", 0, "fallbacks", to=[{"name": f"blk.{'9' * 5000}.x", "type": "F32", "row": 1}])),
    "manifest: a block in other digits": ("manifest", lambda: manifest("quants", 0, "fallbacks", to=[{"name": "blk.\u0666.x", "type": "F32", "row": 1}])),
    "manifest: the largest shapes": ("manifest", lambda: manifest("quants", 0, "tensors", to=[{**TENSOR, "shape": [2**63 - 1] * 4}] * 100)),
    "manifest: 3,000 tensors of one name": ("manifest", lambda: manifest("quants", 0, "tensors", to=[TENSOR] * 3_000)),
    "manifest: 20,000 wrong tensors": ("manifest", lambda: manifest("quants", 0, "tensors", to=[0] * 20_000)),
    "manifest: 12,000 quants of several kinds": ("manifest", lambda: manifest("recipe", "document", "quants", to=[*range(12_000), *map(str, range(12_000))])),
    "manifest: weights that were not generated": ("manifest", lambda: canonical(drop(json.loads(seeds.manifest()), "inputs", "model", "generate"))),
    "manifest: 60 levels around 30,000 values": ("manifest", lambda: manifest("recipe", "document", to=nested(56, [[]] * 30_000))),
    "manifest: a string of 23 MiB": ("manifest", lambda: manifest("recipe", "document", "name", to="\U0001f642" + "a" * (23 * MIB))),
    "manifest: a key of a mebibyte above 10**5 values": ("manifest", lambda: manifest("recipe", "document", to={"a" * MIB: [0] * 10**5})),
    "attestation: a payload of 4 MiB": ("attestation", lambda: seeds.envelope(b"a" * (4 * MIB))),
    "attestation: 12 MiB of text with one wide letter": ("attestation", lambda: b'{"a": "%s"}' % (FACE + b"a" * (12 * MIB))),
    "attestation: an empty signature": ("attestation", lambda: changed(seeds.seeds("attestation")[0], "signatures", 0, "sig", to="")),
    "attestation: a long signature": ("attestation", lambda: changed(seeds.seeds("attestation")[0], "signatures", 0, "sig", to=base64.b64encode(bytes(MIB)).decode())),
    "attestation: a signature of zeros": ("attestation", lambda: changed(seeds.seeds("attestation")[0], "signatures", 0, "sig", to=base64.b64encode(bytes(64)).decode())),
    "attestation: another key": ("attestation", lambda: changed(seeds.seeds("attestation")[0], "signatures", 0, "keyid", to="0" * 64)),
    "statement: a file that is none": ("statement", lambda: statement("predicate", "buildDefinition", "buildType", to=IMPOSTOR)),
    "statement: files that are none": ("statement", lambda: statement("predicate", "buildDefinition", "buildType", to=[IMPOSTOR, {**IMPOSTOR, "size": None}])),
    "statement: 2,000 subjects": ("statement", lambda: statement("subject", to=[{"name": str(index), "digest": {"sha256": "0" * 64}} for index in range(2_000)])),
    "statement: an escape as a key": ("statement", lambda: statement("predicate", "\x1b[2J", to=0)),
    "statement: another type": ("statement", lambda: statement("predicateType", to="\x1b[2J")),
}  # fmt: skip


def drop(document: Any, *path: str) -> Any:
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return document


def nested(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux's accounting")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_cost_little(case: str) -> None:
    target, make = HOSTILE[case]
    problem, seconds, peak = limited(target, make())
    assert not problem
    assert peak <= MEMORY and seconds <= SECONDS
