"""Manifests of three releases in the form of real ones: of a model from a hub, of a generated one, of a package's."""

import copy
import hashlib
from typing import Any

from requant.documents.manifest import LONGEST
from requant.release.folder import build_manifest

Manifest = dict[str, Any]
STRANGE = {
    "of an app": '{"name": "an app of the web"}',
    "of a schema": '{"schema": "https://json.schemastore.org/web-manifest-combined"}',
    "with a comment": '{"name": "an app"} // of the web',
    "with NaN": '{"version": NaN}',
    "of a list": "[]",
    "of nothing": "",
    "longer than ours": " " * (LONGEST + 1),
}
"""What else is called ``manifest.json``, as text."""


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def entry(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": sha(name)}


def tensors(kinds: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind, "shape": shape, "sha256": sha(name)} for name, (kind, shape) in kinds.items()]


def recipe(name: str, model: dict[str, Any], quants: list[str], thinking: str, base_model: str) -> dict[str, Any]:
    return {
        "recipe": 1,
        "name": name,
        "model": model,
        "quants": quants,
        "card": {
            "publisher": "somebody",
            "base_model": base_model,
            "languages": ["zh", "en"],
            "summary": {"zh": "一个模型。", "en": "A model."},
            "chat": {"context": 32768, "thinking": thinking},
            "vendor_benchmarks": {"source": "https://example.org/card", "rows": [{"name": "AIME25", "score": "81.3"}]},
        },
    }


def manifest(
    document: dict[str, Any],
    weights: dict[str, Any],
    corpus: dict[str, Any],
    *,
    arithmetic: str = "native",
    expanded_from: str | None = None,
    fallbacks: list[dict[str, Any]] | None = None,
) -> Manifest:
    name = document["name"]
    toolchain = {"name": "llama.cpp-0", "commit": "c" * 40, "tree": "d" * 40, "sdist": {
        "project": "llama-cpp-python", "version": "0.3.36", "size": 76589250, "sha256": sha("sdist")}}  # fmt: skip
    variants = [{"variant": variant, "definitions": {"GGML_CPU": "OFF"}, "flags": [f"-f{variant}"], "own_code": [entry("math.c", 9)] if variant == "portable" else [], "host": "here"}
                for variant in ("strict", arithmetic)]  # fmt: skip
    plain = {"token_embd.weight": ("BF16", [256, 512]), "output_norm.weight": ("F32", [256])}
    model = {
        "step": {"name": "convert", "command": ["python", "convert.py", name, "--outtype", "bf16"]},
        "file": entry("model.gguf", 8_045_330_432),
        "architecture": "qwen3",
        "expanded_from": expanded_from,
        "tensors": tensors(plain),
    }
    imatrix = {
        "step": {"name": "calibrate", "command": ["llama-imatrix", "-m", "model.gguf", "-t", "{threads}"]},
        "file": entry("imatrix.gguf", 3_873_216),
        "arithmetic": arithmetic,
        "settings": {"arithmetic": arithmetic},
        "features": ["AVX2", "FMA"],
        "chunks": 123,
        "chunk_size": 512,
        "entries": 252,
    }
    quants = [{
        "step": {"name": f"quantize {kind}", "command": ["llama-quantize", "model.gguf", kind, "{threads}"]},
        "file": entry(f"{name}-{kind}.gguf", 2_497_281_152 + number),
        "type": kind,
        "fallbacks": fallbacks or [],
        "tensors": tensors(plain | {"token_embd.weight": ("Q4_K", [256, 512])}),
    } for number, kind in enumerate(document["quants"])]  # fmt: skip
    inputs = {"model": weights, "corpus": corpus, "toolchain": toolchain}
    return build_manifest(document, inputs, variants, model, imatrix, quants)


WIKITEXT = {
    "name": "wikitext-2-raw", "repo": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "revision": "b" * 40,
    "licence": "CC-BY-SA-3.0 AND GFDL-1.3-or-later", "files": [entry("train.parquet", 6357543)],
    "texts": {"calibration": entry("wiki.train.raw", 10940747), "evaluation": entry("wiki.test.raw", 1290590)},
}  # fmt: skip
DOCS = {
    "name": "llama.cpp-docs", "repo": None, "config": None, "revision": None, "licence": "MIT", "files": [],
    "texts": {"calibration": entry("docs.train.txt", 371586), "evaluation": entry("docs.test.txt", 44017)},
}  # fmt: skip


def hub_model() -> Manifest:
    weights = {"name": "Big", "repo": "Org/Big", "revision": "a" * 40, "licence": "Apache-2.0", "package": None,
               "files": [entry("config.json", 727), entry("model.safetensors", 8_044_982_000)]}  # fmt: skip
    document = recipe("Big-2507", {"pin": "Big"}, ["Q4_K_M", "Q6_K"], "always", "Org/Big")
    found = manifest(document, weights, WIKITEXT, arithmetic="cuda-sm121")
    found["model"]["rounded_from"] = "F16, F32"
    return found


def generated_model() -> Manifest:
    shape = {"layers": 4, "hidden": 256, "seed": 2507}
    weights = {"name": "Tiny", "generate": shape, "licence": "MIT", "repo": None, "revision": None, "package": None,
               "files": [entry("model-00001-of-00001.safetensors", 84_000_000)]}  # fmt: skip
    document = recipe("Tiny", {"generate": shape}, ["Q4_K_M"], "optional", "none")
    document["card"]["vendor_benchmarks"] = {"source": "none", "rows": []}
    return manifest(document, weights, DOCS, arithmetic="portable")


def packaged_model() -> Manifest:
    package = {"project": "llm-small", "version": "0.1.2", "size": 92871040, "sha256": sha("wheel")}
    weights = {"name": "Small", "repo": "Org/Small", "revision": None, "licence": "LicenseRef-Own", "package": package,
               "files": [entry("Small.Q4_1.gguf", 98362432)]}  # fmt: skip
    document = recipe("Small", {"pin": "Small"}, ["Q4_K_M"], "none", "Org/Small")
    blocks = [*range(30), 31]
    fallbacks = [{"name": f"blk.{block}.attn_q.weight", "type": "Q5_0", "row": 576} for block in blocks]
    fallbacks.append({"name": "token_embd.weight", "type": "Q8_0", "row": 576})
    return manifest(document, weights, DOCS, expanded_from="Q4_1, Q6_K", fallbacks=fallbacks)


def local_model() -> Manifest:
    weights = {"name": "Mine", "repo": None, "revision": None, "licence": "MIT", "package": None,
               "files": [entry("config.json", 727), entry("model.safetensors", 84_000_000)]}  # fmt: skip
    found = manifest(recipe("Mine", {"pin": "Mine"}, ["Q4_K_M"], "none", "none"), weights, WIKITEXT)
    found["imatrix"]["unseen"] = [{"name": "blk.3.ffn_up_exps.weight", "experts": 128, "unseen": 5}]
    found["imatrix"]["shards"] = [entry(f"shard-{number}-of-2.gguf", 3_873_216) for number in (1, 2)]
    return found


KINDS = [hub_model, generated_model, packaged_model, local_model]


def poison(document: Manifest, value: str) -> Manifest:
    """Put ``value`` wherever the schemas of recipe and pin table leave the text free."""
    document = copy.deepcopy(document)
    card, inputs = document["recipe"]["document"]["card"], document["inputs"]
    card["base_model"] = value
    card["summary"] = {"zh": value, "en": value}
    card["vendor_benchmarks"]["source"] = value
    for row in card["vendor_benchmarks"]["rows"]:
        row["name"] = row["score"] = value
    for entry in (inputs["model"], inputs["corpus"]):
        entry["name"] = entry["licence"] = value
    if inputs["corpus"]["config"]:
        inputs["corpus"]["config"] = value
    inputs["toolchain"]["name"] = document["model"]["architecture"] = value
    for quant in document["quants"]:
        for fallback in quant["fallbacks"]:
            fallback["name"] = value
    for key in ("expanded_from", "rounded_from"):
        if document["model"].get(key):
            document["model"][key] = value
    return document
