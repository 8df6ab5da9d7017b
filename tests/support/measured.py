"""An evaluation of the release that a manifest describes, with made-up numbers in the form of real ones."""

from collections.abc import Mapping
from typing import Any


def measured(value: str) -> dict[str, str]:
    """A mean and its error."""
    return {"value": value, "error": "0.01"}


def evaluation(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Fidelity, speed and tensors of all quants."""
    bf16, quants = manifest["model"]["file"], manifest["quants"]
    how = {"commit": manifest["inputs"]["toolchain"]["commit"], "arithmetic": "native", "features": ["AVX2"]}
    return {
        "schema": "requant/evaluation/v1",
        "fidelity": {
            "protocol": {
                "tool": "llama-perplexity", **how, "text": manifest["inputs"]["corpus"]["texts"]["evaluation"],
                "chat_template": None, "context": 512, "batch": 512, "chunks": 4, "scored": 1020,
            },
            "baseline": {"file": bf16, "perplexity": measured("9.8765")},
            "quants": [
                {
                    "file": quant["file"] if imatrix else {**quant["file"], "name": "plain.gguf"},
                    "type": quant["type"], "imatrix": imatrix, "perplexity": measured("9.9012"), "divergence": divergence(),
                }
                for quant in quants for imatrix in (True, False)
            ],
        },
        "speed": {
            "protocol": {
                "tools": ["llama-bench", "llama-server"], **how, "processor": "A | processor", "threads": 2, "prompt": 64,
                "generate": 16, "rounds": 2, "flags": ["--ctx-size", "4096"],
            },
            "models": [
                speeds("BF16", bf16),
                *({**speeds(quant["type"], quant["file"]), "ratio": ratios()} for quant in quants),
            ],
        },
        "tensors": [
            {
                "file": quant["file"], "type": quant["type"],
                "tensors": [
                    {"name": tensor["name"], "type": tensor["type"], "weights": 64, "plain": "0.08", "weighted": None, "importance": None}
                    for tensor in quant["tensors"]
                ],
            }
            for quant in quants
        ],
        "behaviour": {
            "protocol": {**how, "thinking": "default", "temperature": 0, "seed": 0, "max_tokens": None, "flags": ["--ctx-size", "4096"]},
            "suites": [
                {
                    "name": name, "sha256": "a" * 64, "harness": None, "of": of,
                    "models": [
                        counts("BF16", bf16),
                        *({**counts(quant["type"], quant["file"]), "pair": {"both": 15, "lost": 2, "won": 1, "p": "1.0000"}} for quant in quants),
                    ],
                }
                for name, of in (("tool_calls", 15), ("my_own", 35))
            ],
            "not_run": [{"name": "gpqa_diamond", "reason": "the data set is gated"}],
        },
    }  # fmt: skip


def counts(label: str, file: Mapping[str, Any]) -> dict[str, Any]:
    """One model's answers to one suite."""
    return {
        "label": label, "file": dict(file), "items": 15, "passed": 11, "failed": 3, "truncated": 1, "errors": 0,
        "outcomes": {f"q{number}": "passed" if number < 11 else "failed" if number < 14 else "truncated" for number in range(15)},
        "score": "0.7333", "interval": {"low": "0.4805", "high": "0.8910"},
    }  # fmt: skip


def divergence() -> dict[str, Any]:
    """One quant's."""
    names = ("min", "q0.1", "q1", "q5", "q10", "q50", "q90", "q95", "q99", "q99.9", "max")
    quantiles = {name: f"0.00{number:02}" for number, name in enumerate(names, 1)}
    return {
        "mean": measured("0.0123"), "quantiles": quantiles, "ratio": measured("1.0025"),
        "same_top": measured("95.5"), "rms_dp": measured("2.25"),
    }  # fmt: skip


def speeds(label: str, file: Mapping[str, Any]) -> dict[str, Any]:
    """One model's."""
    rates = {"mean": "123.4", "sd": "1.5", "rounds": ["122.3", "124.5"]}
    served = {
        "load_seconds": "0.75", "first_token_seconds": "0.25", "decode": "42.1",
        "streams": {"1": "40.1", "4": "60.2", "16": "61.3"},
    }  # fmt: skip
    return {
        "label": label, "file": dict(file), "bits_per_weight": "4.85", "peak_memory": 123_456_789, "prompt": rates,
        "decode": rates, "served": served,
    }  # fmt: skip


def ratios() -> dict[str, Any]:
    """How one compares with BF16."""
    ratio = {"median": "2.1", "min": "2", "max": "2.2"}
    return {"prompt": ratio, "decode": ratio}
