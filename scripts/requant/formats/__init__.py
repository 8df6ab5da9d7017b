"""Bytes of strangers to structures, with bounds: GGUF, safetensors, importance matrices; and reading them in ranges.

Everybody above the ground may enter. Nothing but the standard library and numpy is imported, so that an auditor can run
this almost anywhere.
"""

__all__ = [
    "ggml",
    "gguf",
    "gguf_digests",
    "gguf_parts",
    "gguf_regions",
    "gguf_values",
    "imatrix",
    "packed",
    "pickles",
    "ranged",
    "safetensors",
    "sentencepiece",
    "weights_root",
]
