"""Some sixty quants of one small model on a hub, honest and not, that the real llama-quantize made; and what is so of each.

A Llama of 1.3 million weights with a vocabulary of pieces: converted by our writer, quantized in a tenth of a second.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from requant.formats.gguf import Field, Header, read_header
from requant.ground.programs import work_folder
from requant.pipeline.write_gguf import open_conversion, write_gguf
from requant.places.place import LocalPlace
from support.checkout import TOOLCHAINS
from support.checkpoints import Model, write_checkpoint
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.hollow import TOOL
from support.hub import LoopbackHub
from support.metadata_changes import Keys, drop, put, swap
from support.quants import contents, replaced
from support.relabelled import half, number, payload, relabelled, text
from support.splits import split
from support.vocabularies import VOCABULARIES
from support.workplace import TOOLCHAIN

TREE = TOOLCHAINS / TOOLCHAIN / "source"
FILES = VOCABULARIES["tokenizer.json with more"]
CONFIG = json.loads(FILES["config.json"]) | {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
COLUMNS = {
    "attn_q": 256,
    "attn_k": 256,
    "attn_v": 256,
    "attn_output": 256,
    "ffn_gate": 256,
    "ffn_up": 256,
    "ffn_down": 512,
}
PLAIN = ("Q2_K", "Q3_K_M", "Q4_1", "Q4_K_M", "Q5_0", "Q6_K", "Q8_0")
WEIGHED = ("Q2_K", "Q3_K_S", "Q4_K_M")
KEY = "blk.0.attn_k.weight"


class Expected(NamedTuple):
    """What an audit must say: its exit code; the four answers as far as they count, or what the sentence holds."""

    exit_code: int
    answers: Mapping[str, str] = {}
    sentence: str = ""


GOOD = Expected(0, {"weights": "exact", "recipe": "stock", "coverage": "sample"})
CUSTOM = Expected(0, {"weights": "exact", "recipe": "custom"})
OTHERS = Expected(1, {"weights": "mismatch"})
CHANGED = Expected(1, {"weights": "exact", "recipe": "stock", "metadata": "changed"})
CONTRADICTED = Expected(1, {"weights": "exact", "recipe": "contradicted"})
OF_ITSELF = Expected(3, {"weights": "exact", "recipe": "stock"}, "named by the subject itself")

CHANGES: dict[str, tuple[Callable[[Keys], object], Expected]] = {
    "template": (put("tokenizer.chat_template", text("{{ messages }} and buy this")), CHANGED),
    "markup": (put("tokenizer.chat_template", text("<script>alert(1)</script> [x](http://evil.example) | @me")), CHANGED),
    "pieces": (swap("tokens", 260, 261), CHANGED),
    "eos": (put("tokenizer.ggml.eos_token_id", number(1)), CHANGED),
    "rope": (put("llama.rope.freq_base", half(500000.0)), CHANGED),
    "epsilon": (put("llama.attention.layer_norm_rms_epsilon", half(1e-3)), CHANGED),
    "label": (put("general.file_type", number(7)), CONTRADICTED),
    "renamed": (put("general.name", text("<b>Mine</b>")), GOOD),
    "older": (drop("general.type"), GOOD),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """The list of a survey, and what must be said of its lines: by number."""

    listed: Path
    expected: Mapping[int, Expected]


def write_weights(folder: Path, seed: int) -> tuple[Path, Path]:
    """A checkpoint, and the BF16 GGUF of it."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    # The config goes with the files, so it is theirs that is written last.
    files = {**FILES, "config.json": json.dumps(CONFIG).encode()}
    write_checkpoint(checkpoint, Model(CONFIG, tokenizer="pieces", files=files), seed)
    with work_folder(folder / "work", keep=True) as work, LocalPlace(checkpoint, "the checkpoint") as place:
        (work.path / "model").symlink_to(checkpoint)
        write_gguf(work, open_conversion(place), "model", TREE, "own.gguf", folder / "log")
    return checkpoint, folder / "work" / "own.gguf"


def write_matrix(path: Path, seed: int = 2) -> Path:
    """An importance matrix of all matrices in the layers."""
    stream, entries = np.random.default_rng(seed), {}
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, columns in COLUMNS.items():
            entries[f"blk.{layer}.{name}.weight.in_sum2"] = (stream.chisquare(3, columns) * 64).astype(np.float32)
            entries[f"blk.{layer}.{name}.weight.counts"] = np.full(1, 64, np.float32)
    return write_imatrix(path, entries, chunks=8)


def quantize(source: Path, out: Path, mix: str, *options: str, cwd: Path | None = None) -> Path:
    """Let llama-quantize make a quant."""
    done = subprocess.run(
        [str(TOOL), *options, str(source), str(out), mix, "1"], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def changed(source: Path, out: Path, change: Callable[[Keys], object]) -> Path:
    """A copy of a quant with other metadata."""
    metadata = dict(read_header(source).metadata)
    before = dict(metadata)
    change(metadata)
    found: dict[str, Field | None] = {key: metadata.get(key) for key in before.keys() | metadata.keys()}
    return relabelled(source, out, {key: value for key, value in found.items() if value is not before.get(key)})


def write_survey(folder: Path, hub: LoopbackHub) -> Scene:
    """Put everything on the hub or into ``folder``, and write the list."""
    checkpoint, weights = write_weights(folder / "one", 0)
    _, other = write_weights(folder / "other", 1)
    hub.add_model("org/Small", checkpoint)
    rows: list[tuple[str, Expected]] = []
    for make in (_honest, _split_weights, _altered, _unread):
        rows += make(folder / make.__name__.strip("_"), hub, weights, other)
    lines, expected = ["# quants of org/Small, and what is none", ""], {}
    for line, outcome in rows:
        lines.append(line)
        expected[len(lines)] = outcome
    listed = folder / "quants.txt"
    listed.write_text("\n".join(lines) + "\n")
    return Scene(listed, expected)


Rows = Iterator[tuple[str, Expected]]


def _honest(folder: Path, hub: LoopbackHub, weights: Path, _: Path) -> Rows:
    folder.mkdir()
    for mix in PLAIN:
        quantize(weights, folder / f"Small-{mix}.gguf", mix)
        yield f"some/Small-GGUF:{mix} org/Small", GOOD
    whole = folder / "Small-Q4_K_M.gguf"
    hub.add_model("some/Small-GGUF", folder)
    # What was made with a matrix, with it beside, and without it.
    weighed = folder / "weighed"
    weighed.mkdir()
    write_matrix(weighed / "imatrix.gguf")
    for mix in WEIGHED:
        quantize(weights, weighed / f"Small-{mix}.gguf", mix, "--imatrix", "imatrix.gguf", cwd=weighed)
        yield f"hf://some/Small-imatrix-GGUF:{mix} org/Small", GOOD
    hub.add_model("some/Small-imatrix-GGUF", weighed)
    secret = folder / "secret"
    secret.mkdir()
    for mix in WEIGHED[1:2]:
        shutil.copy(weighed / f"Small-{mix}.gguf", secret)
        yield f"some/Small-secret-GGUF:{mix} org/Small", Expected(3, {"weights": "consistent", "metadata": "harmless"})
    hub.add_model("some/Small-secret-GGUF", secret)
    custom = folder / "custom"
    custom.mkdir()
    mixes = {
        "L": ("--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"),
        "V": ("--tensor-type", "attn_v=q8_0"),
    }
    for name, options in mixes.items():
        quantize(weights, custom / f"Small-Q4_K_{name}.gguf", "Q4_K_M", *options)
        yield f"some/Small-custom-GGUF:Q4_K_{name} org/Small", CUSTOM
    hub.add_model("some/Small-custom-GGUF", custom)
    split(whole, folder / "split", [6, 8, 7], "Small-Q4_K_M")
    hub.add_model("some/Small-split-GGUF", folder / "split")
    yield "some/Small-split-GGUF org/Small  # all three parts", GOOD
    yield f"{hub.url}/some/Small-GGUF/blob/main/{whole.name} org/Small", GOOD
    yield f"{hub.url}/some/Small-GGUF/resolve/main/{whole.name}?key=s3cret org/Small", GOOD
    told = {
        "general.base_model.count": number(1),
        "general.base_model.0.repo_url": text("https://huggingface.co/org/Small"),
    }
    (folder / "told").mkdir()
    relabelled(whole, folder / "told" / whole.name, told)
    hub.add_model("some/Small-told-GGUF", folder / "told")
    yield "some/Small-told-GGUF", OF_ITSELF
    shutil.copy(whole, folder / "my <b>*small*|@me.gguf")
    yield f'"{folder}/my <b>*small*|@me.gguf" org/Small', GOOD


def _split_weights(folder: Path, hub: LoopbackHub, weights: Path, other: Path) -> Rows:
    split(weights, folder, [0, 10, 11], "Small-BF16")
    hub.add_model("org/Small-BF16-GGUF", folder)
    yield "some/Small-GGUF:Q4_K_M org/Small-BF16-GGUF", GOOD
    yield "some/Small-GGUF:Q6_K hf://org/Small-BF16-GGUF@main/Small-BF16-00002-of-00003.gguf", GOOD
    shutil.copytree(folder, folder.with_name("others"))
    shutil.copy(other, folder.with_name("others") / "Other.gguf")
    yield f"some/Small-GGUF:Q8_0 {folder.with_name('others')}/Other.gguf", OTHERS


def _altered(folder: Path, hub: LoopbackHub, weights: Path, other: Path) -> Rows:
    folder.mkdir()
    honest = quantize(weights, folder / "honest.gguf", "Q4_K_M")
    forged = quantize(other, folder / "forged.gguf", "Q4_K_M")

    def put_on_hub(name: str, make: Callable[[Path], object], file: str = "Small-Q4_K_M.gguf") -> str:
        (folder / name).mkdir()
        make(folder / name / file)
        hub.add_model(f"evil/Small-{name}", folder / name)
        return f"evil/Small-{name} org/Small"

    for name, (change, outcome) in CHANGES.items():
        yield put_on_hub(name, lambda out, change=change: changed(honest, out, change)), outcome
    another = put_on_hub("another-model", lambda out: quantize(other, out, "Q8_0"), "Small-Q8_0.gguf")
    yield another, OTHERS
    theirs, ours = contents(forged), contents(honest)
    norm = "blk.1.ffn_norm.weight"
    swaps = {
        "one-tensor": {KEY: theirs[KEY][2]},
        "a-norm": {norm: theirs[norm][2]},
        "half-the-rows": {KEY: _half(ours, theirs)},
    }
    for name, data in swaps.items():
        yield put_on_hub(name, lambda out, data=data: replaced(honest, out, data)), OTHERS
    yield put_on_hub("noise", lambda out: replaced(honest, out, {KEY: _noise(ours[KEY][2])})), OTHERS
    yield put_on_hub("a-tensor-less", lambda out: _without(honest, out, KEY)), OTHERS
    yield (
        put_on_hub("hidden", lambda out: _hiding(honest, out)),
        Expected(1, {"weights": "exact", "coverage": "hidden"}),
    )
    promised = lambda out: quantize(weights, out, "Q2_K")  # noqa: E731
    yield put_on_hub("promised", promised, "Small-Q6_K.gguf"), CONTRADICTED
    unknown = Expected(3, {"weights": "unchecked", "coverage": "unchecked"})
    yield put_on_hub("fork", lambda out: _of_type(honest, out, 144)), unknown


def _unread(folder: Path, hub: LoopbackHub, weights: Path, _: Path) -> Rows:
    folder.mkdir()
    data = quantize(weights, folder / "whole.gguf", "Q8_0").read_bytes()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    wrong = {
        "text.gguf": b"this is a note", "page.gguf": b"<!DOCTYPE html><html></html>", "pointer.gguf": pointer.encode(),
        "cut.gguf": data[:-100_000], "head.gguf": data[:1000], "empty.gguf": b"",
        "bomb.gguf": gguf_bytes(counts=(2**40, 2**40)),
    }  # fmt: skip
    for name, content in wrong.items():
        (folder / name).write_bytes(content)
        yield f"bad/files/{name} org/Small".replace("bad/files/", "hf://bad/files/"), Expected(2)
    mmproj = [pair("general.architecture", 8, string("clip"))]
    (folder / "mmproj.gguf").write_bytes(gguf_bytes(mmproj, [tensor("v.x", [32])], bytes(128)))
    yield "hf://bad/files/mmproj.gguf org/Small", Expected(3, sentence="which is not checked")
    write_matrix(folder / "imatrix.gguf")
    yield "hf://bad/files/imatrix.gguf org/Small", Expected(3, sentence="is an importance matrix and no quant")
    hub.add_model("bad/files", folder)
    strange = folder / "strange"
    shutil.copytree(weights.parents[1] / "checkpoint", strange)
    (strange / "config.json").write_text(
        json.dumps(CONFIG | {"architectures": ["StrangeForCausalLM"], "model_type": "strange"})
    )
    hub.add_model("org/Strange", strange)
    yield "some/Small-GGUF:Q4_K_M org/Strange", Expected(3, sentence="trange")
    yield "some/Small-GGUF:Q4_K_M some/Small-GGUF:Q8_0", Expected(3, sentence="unquantized")
    yield "some/Small-GGUF:Q4_K_M org/Nothing", Expected(3)
    yield "some/Small-GGUF:Q4_K_M", Expected(2, sentence="give --source")
    yield "some/Small-GGUF org/Small", Expected(2, sentence="name the file")
    yield "some/Small-GGUF:Q7_K org/Small", Expected(2, sentence="name the file")
    yield "hf://some/Small-GGUF/nothing.gguf org/Small", Expected(2, sentence="holds no 'nothing.gguf'")
    yield f"{folder}/nothing.gguf org/Small", Expected(2, sentence="does not exist")
    yield "no/such-repository org/Small", Expected(3)
    yield f"http://me:s3cret@{hub.url.partition('://')[2]}/nothing.gguf org/Small", Expected(3)
    yield "ftp://somewhere/x.gguf org/Small", Expected(2, sentence="no known kind of place")
    yield "some/Small-GGUF:Q4_K_M org/Small and more", Expected(2, sentence="4 names stand in this line")
    yield 'some/Small-GGUF:Q4_K_M "org/Small', Expected(2, sentence="double quotes")
    yield "\x1b[2J\x07 org/Small", Expected(2, sentence="names no place")


def _half(
    ours: Mapping[str, tuple[object, object, bytes]], theirs: Mapping[str, tuple[object, object, bytes]]
) -> bytes:
    middle = len(ours[KEY][2]) // 2
    return ours[KEY][2][:middle] + theirs[KEY][2][middle:]


def _noise(data: bytes) -> bytes:
    """A step in one quant of each block of 144 bytes."""
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 144).copy()
    blocks[:, 20] ^= 1
    return blocks.tobytes()


def _parts(path: Path) -> tuple[Header, list[bytes], bytes]:
    """A quant's header, its pairs as they stand, and its data."""
    header = read_header(path)
    pairs = [pair(key, field.type, payload(field)) for key, field in header.metadata.items()]
    return header, pairs, path.read_bytes()[header.data_offset :]


def _without(path: Path, out: Path, name: str) -> None:
    """A copy that lacks a tensor, and its bytes."""
    header, pairs, data = _parts(path)
    infos, kept = [], b""
    for each in header.tensors:
        start = each.offset - header.data_offset
        if each.name != name:
            infos.append(tensor(each.name, each.shape, each.type, len(kept)))
            kept += data[start : start + each.nbytes] + bytes(-each.nbytes % 32)
    out.write_bytes(gguf_bytes(pairs, infos, kept))


def _hiding(path: Path, out: Path) -> None:
    """A copy with something between its tensors."""
    header, pairs, data = _parts(path)
    last = max(header.tensors, key=lambda each: each.offset)
    places = {each.name: each.offset - header.data_offset + (64 if each is last else 0) for each in header.tensors}
    infos = [tensor(each.name, each.shape, each.type, places[each.name]) for each in header.tensors]
    at = last.offset - header.data_offset
    out.write_bytes(gguf_bytes(pairs, infos, data[:at] + b"hidden".ljust(64, b"\1") + data[at:]))


def _of_type(path: Path, out: Path, kind: int) -> None:
    """A copy in which one tensor says that it is of another type."""
    header, pairs, data = _parts(path)
    infos = [
        tensor(each.name, each.shape, kind if each.name == KEY else each.type, each.offset - header.data_offset)
        for each in header.tensors
    ]
    out.write_bytes(gguf_bytes(pairs, infos, data))
