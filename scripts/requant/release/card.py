"""The model card of a release: ``workflow/templates/card.md.j2``, rendered from the manifest and what was measured.

Text that people wrote (recipe, pin table) is untrusted: it is put on one line and escaped for Markdown, so it
can end neither a table cell nor a code block nor the front matter.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

from requant.documents.evaluation import STREAMS, read_evaluation
from requant.documents.licences import hub_licence
from requant.documents.manifest import read_manifest
from requant.documents.records import THREADS, bits_per_weight, elements
from requant.documents.templates import environment, read_words
from requant.ground.digests import write_bytes
from requant.ground.markdown import code, escaped
from requant.ground.text import digits, on_one_line
from requant.pipeline.suites import CARD_ROWS
from requant.places.repository import RECORDED_ID
from requant.release.summary import Status, made, suite_statuses
from requant.toolchain.serving import PARALLEL, found_by, serving_flags

LANGUAGES = ("zh", "en")
"""Of the card, from top to bottom."""
URL = re.compile(r"https://[A-Za-z0-9._~:/?#%=&+-]+")
BLOCK_TENSOR = re.compile(r"blk\.([0-9]{1,9})\.(.+)")


def write_card(manifest: Path, evaluation: Path | None, out: Path) -> None:
    """Write the model card of the release that ``manifest`` describes and ``evaluation`` measures.

    Raises:
        FormatError, UnsupportedError: when one of the two cannot be read.
    """
    measured = None if evaluation is None else read_evaluation(evaluation)
    write_bytes(out, render_card(read_manifest(manifest).document, measured))


def render_card(manifest: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> bytes:
    """The model card of a release: a function of two parsed documents, its manifest and its evaluation, alone."""
    measured = on_one_line(evaluation or {"fidelity": None, "speed": None, "behaviour": None})
    context = {**measured, **_made(on_one_line(manifest), measured), "evaluation": evaluation is not None}
    return _environment().get_template("card.md.j2").render(context).encode()


@cache
def _environment() -> Environment:
    # Markdown, not HTML: these escape it.
    found = environment(html=False)
    found.filters |= {"text": escaped, "code": code, "link": _link, "hub": _hub, "digits": digits, "shell": shlex.quote}
    found.globals["languages"] = {language: read_words("card", language) for language in LANGUAGES}
    return found


def _made(manifest: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates see: parts of the manifest, what is counted from them, and how a release is served."""
    release = made(manifest)
    arithmetic, first = release.imatrix["arithmetic"], manifest["quants"][0]
    return {
        **vars(release),
        "front_matter": _front_matter(manifest, measured),
        "billed": "bill_of_materials" in manifest["recipe"]["document"],
        "repo": _repo(manifest["recipe"]["document"]),
        "bf16": {"rounded_from": None, **manifest["model"], "elements": elements(manifest["model"]["tensors"])},
        "imatrix": {"shards": [], "unseen": [], **manifest["imatrix"]},
        "quants": [_quant(quant) for quant in manifest["quants"]],
        "steps": [_command(step["command"]) for step in manifest["steps"]],
        "threads": THREADS,
        "computed": arithmetic if arithmetic in ("portable", "native") else "cuda",
        "statuses": _statuses(measured),
        "streams": STREAMS,
        "parallel": PARALLEL,
        "serving": serving_flags(release.card["chat"]["context"]),
        "tagged": found_by(first["type"], [quant["file"]["name"] for quant in manifest["quants"]]) is not None,
    }


def _statuses(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Of each evaluation that the card names, whether it was made."""
    suites = suite_statuses(measured["behaviour"])
    return {
        "fidelity": Status(bool(measured["fidelity"])),
        "speed": Status(bool(measured["speed"])),
        "suites": {name: suites.get(name, Status(False)) for name in CARD_ROWS},
    }


def _repo(recipe: Mapping[str, Any]) -> str:
    return str(recipe["card"].get("repo") or f"{recipe['card']['publisher']}/{recipe['name']}-GGUF-imatrix")


def _quant(quant: Mapping[str, Any]) -> dict[str, Any]:
    """A quant with its bits per weight, the number of tensors of each type, and its fallbacks by kind."""
    tensors = quant["tensors"]
    counts = Counter(tensor["type"] for tensor in tensors)
    return {
        **quant,
        "bits_per_weight": bits_per_weight(tensors),
        "counts": sorted(counts.items(), key=lambda item: (-item[1], item[0])),
        "fallback_groups": _fallback_groups(quant["fallbacks"]),
    }


def _fallback_groups(fallbacks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join fallbacks that differ only in their block: ``blk.0-29.ffn_down.weight``."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for tensor in fallbacks:
        match = BLOCK_TENSOR.fullmatch(tensor["name"])
        name, block = (f"blk.*.{match[2]}", [int(match[1])]) if match else (tensor["name"], [])
        groups.setdefault((name, tensor["type"], tensor["row"]), []).extend(block)
    return [
        {
            "name": name.replace("*", _ranges(blocks)) if blocks else name,
            "type": kind,
            "row": row,
            "count": len(blocks) or 1,
        }
        for (name, kind, row), blocks in groups.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """``0-2,5`` for 0, 1, 2, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _command(command: Sequence[str]) -> str:
    return " ".join(part if part == THREADS else shlex.quote(part) for part in command)


def _front_matter(manifest: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The keys that Hugging Face reads, and ``tasks`` and ``frameworks`` for ModelScope."""
    recipe, inputs = manifest["recipe"]["document"], manifest["inputs"]
    card, weights = recipe["card"], inputs["model"]
    keys: dict[str, Any] = _licence(weights)
    if card["base_model"] != "none":
        keys |= {"base_model": card["base_model"], "base_model_relation": "quantized"}
    types = [quant["type"] for quant in manifest["quants"]]
    keys |= {
        "quantized_by": card["publisher"],
        "pipeline_tag": "text-generation",
        "library_name": "gguf",
        "language": card["languages"],
        "tags": ["gguf", "imatrix", "llama.cpp", manifest["model"]["architecture"], *types],
    }
    if inputs["corpus"]["repo"]:
        keys["datasets"] = [inputs["corpus"]["repo"]]
    keys |= {"tasks": ["text-generation"], "frameworks": ["gguf"]}
    if results := [*_results(measured)]:
        keys["model-index"] = [{"name": recipe["name"], "results": results}]
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=10_000)


def _results(measured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What was measured of the released quants, as ``model-index`` of Hugging Face's model cards."""
    fidelity, behaviour = measured["fidelity"], measured["behaviour"]
    released = [quant for quant in fidelity["quants"] if quant["imatrix"]] if fidelity else []
    if released:
        metrics = [metric for quant in released for metric in _metrics(quant)]
        yield _result(fidelity["protocol"]["text"]["name"], metrics)
    for suite in behaviour["suites"] if behaviour else ():
        scores = [(model["label"], model["score"]) for model in suite["models"][1:] if model["score"] is not None]
        if scores:
            yield _result(suite["name"], [_metric("accuracy", f"passed, {kind}", score) for kind, score in scores])


def _metrics(quant: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind, apart = quant["type"], quant["divergence"]
    return [
        _metric("perplexity", f"perplexity, {kind}", quant["perplexity"]["value"]),
        _metric("kl_divergence", f"mean KL divergence from BF16 in nats, {kind}", apart["mean"]["value"]),
    ]


def _metric(kind: str, name: str, value: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "value": float(value)}


def _result(dataset: str, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": dataset, "type": dataset},
        "metrics": list(metrics),
    }


def _licence(weights: Mapping[str, Any]) -> dict[str, Any]:
    licence = weights["licence"]
    if hub := hub_licence(licence):
        return {"license": hub}
    keys = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")}
    return {**keys, "license_link": f"https://huggingface.co/{weights['repo']}"} if weights["repo"] else keys


def _link(value: str) -> str:
    """A link if the text is one plain https address."""
    return f"<{value}>" if URL.fullmatch(value) else escaped(value)


def _hub(repo: str) -> str:
    """A link to a repository on Hugging Face if the text names one."""
    return f"[{escaped(repo)}](https://huggingface.co/{repo})" if RECORDED_ID.fullmatch(repo) else escaped(repo)
