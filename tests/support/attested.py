"""An audit's report that may be attested, of a small GGUF that lies on the disk."""

from pathlib import Path
from typing import Any

from requant.documents.entries import tensors
from requant.formats.gguf_digests import key_digests
from requant.formats.weights_root import weights_root
from requant.ground.digests import digest_file
from requant.pipeline.describe import describe, tensor_entries
from requant.release.attestation import Statement, verify_with
from requant.release.keys import read_public_key

ANSWERS = {"weights": "exact", "recipe": "stock", "metadata": "harmless", "coverage": "full"}
ROOT, COMMIT = "9" * 64, "b" * 40


def signed_statement(data: bytes, key: Path, name: str = "the attestation") -> Statement:
    """The statement in an envelope that the public key file ``key`` signed."""
    return verify_with(read_public_key(key), data, name)


def passed_report(path: Path) -> dict[str, Any]:
    """What an audit that passed might say of ``path``."""
    found = describe(path)
    entries = tensor_entries(found)
    keys = [{"key": key, "sha256": sha256} for key, sha256 in key_digests(found.header).items()]
    return {
        "schema": "requant/audit/v2", "exit_code": 0, "headline": f"{path.name}: all is well", "seed": None, "rows": 4096,
        "rows_in_all": 4096, "answers": {name: {"status": word, "exit_code": 0, "sentence": "it is well"} for name, word in ANSWERS.items()},
        "policy": {"exact": False, "trust_subject": False, "allow_unchecked": []}, "allowed": [],
        "subject": {
            "name": path.name, "address": f"./{path.name}", "size": path.stat().st_size, "sha256": digest_file(path).sha256, "recorded": {}, "parts": [],
            "weights_root": weights_root(tensors(entries)), "metadata": keys, "revision": None, "type": "Q4_K_M",
        },
        "source": {
            "name": f"org/W@{COMMIT[:12]} on https://huggingface.co", "address": f"hf://org/W@{COMMIT}", "place": f"hf://org/W@{COMMIT}", "form": "checkpoint",
            "weights_root": ROOT, "files": [{"name": "config.json", "size": 7, "sha256": "1" * 64, "recorded": None}],
            "revision": COMMIT, "named_by": "user", "rounded_through": "BF16",
        },
        "imatrix": {"name": "imatrix.gguf", "sha256": "2" * 64}, "toolchain": {"name": "llama.cpp-0", "commit": "c" * 40}, "arithmetic": "strict",
        "mix": {"name": "Q4_K_M", "bits": "4.8000", "stock_bits": "4.8000", "command": []}, "counts": {"exact": len(entries)},
        "tensors": [{**entry, "verdict": "exact", "reason": None, "examples": []} for entry in entries], "findings": [],
        "run": {"seconds": "1.0", "bytes_fetched": 0, "requests": 0},
    }  # fmt: skip
