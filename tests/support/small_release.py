"""A whole release of a few kilobytes, made by the functions that make real ones, out of tensors of our own."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gguf import GGUFWriter

from requant.documents.file_names import EVALUATION, SUMS
from requant.documents.records import file_entry, step
from requant.documents.sums import sums_text
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes, digest_file
from requant.pipeline.describe import describe, tensor_entries
from requant.release.card import write_card
from requant.release.folder import build_manifest, write_sums
from support.checkout import ROOT
from support.gguf_files import write_imatrix

IMATRIX, QUANT = "imatrix.gguf", "Tiny-Qwen3-Q4_K_M.gguf"
TENSORS = {
    "token_embd.weight": np.arange(512, dtype=np.float16).reshape(8, 64),
    "blk.0.attn_q.weight": np.arange(4096, dtype=np.float16).reshape(64, 64),
    "output_norm.weight": np.ones(64, dtype=np.float32),
}


def write_release(folder: Path, shards: int = 0) -> Path:
    """Write the release, calibrated in so many shards if any, and return its folder; it is the same every time."""
    folder.mkdir(parents=True)
    _write_gguf(folder / QUANT)
    squares, counts = np.ones((1, 64), np.float32), np.full((1, 1), 51200, np.float32)
    entries = {"blk.0.attn_q.weight.in_sum2": squares, "blk.0.attn_q.weight.counts": counts}
    write_imatrix(folder / IMATRIX, entries, ["docs.train.txt"] * max(shards, 1), 100, 512)
    (folder / "manifest.json").write_bytes(canonical(_manifest(folder, shards)))
    finish(folder)
    return folder


def finish(folder: Path) -> None:
    """Write the card and the sums anew, as somebody would who changed the manifest or a file and hides it."""
    evaluation = folder / EVALUATION
    write_card(folder / "manifest.json", evaluation if evaluation.exists() else None, folder / "README.md")
    resum(folder)


def resum(folder: Path) -> None:
    """Write ``SHA256SUMS`` anew for whatever lies there."""
    files = sorted(
        path.name for path in folder.iterdir() if path.name != SUMS and path.suffix in (".gguf", ".md", ".json")
    )
    names = [name for name in files if name != "attestation.intoto.json"]
    (folder / SUMS).write_text(sums_text({name: digest_file(folder / name).sha256 for name in names}))


def checked_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` as the workflow does."""
    write_sums([folder / name for name in (IMATRIX, QUANT, "README.md")], folder / "manifest.json", folder / SUMS)


def _write_gguf(path: Path) -> None:
    writer = GGUFWriter(path, "qwen3")
    for name, values in TENSORS.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _manifest(folder: Path, shards: int) -> dict[str, Any]:
    recipe = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
    # No part of what enters a manifest.
    del recipe["evaluation"]
    source = {name: digest_bytes(name.encode()) for name in ("config.json", "model.safetensors")}
    lock, text, bf16 = (digest_bytes(name) for name in (b"lock", b"text", b"bf16"))
    imatrix, quant = digest_file(folder / IMATRIX), describe(folder / QUANT)
    sdist = {"project": "llama-cpp-python", "version": "0.3.36", "sha256": digest_bytes(b"sdist").sha256, "size": 5}
    inputs = {
        "model": {
            "name": recipe["name"], "repo": None, "revision": None, "licence": "MIT", "package": None,
            "generate": recipe["model"]["generate"], "files": [file_entry(*pair) for pair in source.items()],
        },
        "corpus": {
            "name": recipe["corpus"]["pin"], "repo": None, "config": None, "revision": None, "licence": "MIT", "files": [],
            "texts": {"calibration": file_entry("docs.train.txt", text), "evaluation": file_entry("docs.test.txt", text)},
        },
        "toolchain": {"name": recipe["toolchain"], "commit": "c" * 40, "tree": "d" * 40, "sdist": sdist},
    }  # fmt: skip
    variants = [
        {"variant": name, "definitions": {"GGML_CPU": "OFF"}, "flags": ["-O3"], "own_code": []}
        for name in ("strict", "portable")
    ]
    names = [("Tiny-Qwen3.gguf", bf16), (IMATRIX, imatrix), (QUANT, quant.digest)]
    model = {
        "step": step("convert", ["python", "convert.py"], {**source, "converter.lock": lock}, dict(names[:1])),
        "file": file_entry(*names[0]),
        "architecture": "qwen3",
        "expanded_from": None,
        "tensors": [{**tensor, "type": "BF16"} for tensor in tensor_entries(quant)],
    }
    measured = {**dict(names[:1]), "docs.train.txt": text}
    calibration = {
        "step": step("calibrate", ["llama-imatrix", "-t", "{threads}"], measured, dict(names[1:2])),
        "file": file_entry(*names[1]), "arithmetic": "portable", "settings": {}, "features": ["AVX2"],
        "chunks": 100, "chunk_size": 512, "entries": 1,
    }  # fmt: skip
    if shards:
        recipe["calibration"]["shards"] = shards
        parts = {name: digest_bytes(name.encode()) for name in (f"shard-{number}.gguf" for number in range(shards))}
        calibration |= {
            "step": step("merge shards", ["llama-imatrix"], parts, dict(names[1:2])),
            "shards": [
                {"step": step(f"calibrate {name}", ["llama-imatrix"], measured, {name: digest}), "file": file_entry(name, digest)}
                for name, digest in parts.items()
            ],
        }  # fmt: skip
    quants = [{
        "step": step("quantize Q4_K_M", ["llama-quantize"], dict(names[:2]), dict(names[2:])),
        "file": file_entry(*names[2]), "type": "Q4_K_M", "fallbacks": [], "tensors": tensor_entries(quant),
    }]  # fmt: skip
    return build_manifest(recipe, inputs, variants, model, calibration, quants)
