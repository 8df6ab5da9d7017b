"""llama.cpp: its source and the proof of it, builds and their variants, what its tools say, its quantizer as a library.

Everybody from ``conversion`` upwards may enter.
"""

__all__ = [
    "build",
    "converter",
    "environments",
    "gguf_py",
    "instrument",
    "lanes",
    "perplexity",
    "pre_tokenizers",
    "quantizers",
    "server",
    "serving",
    "tree",
    "variants",
]
