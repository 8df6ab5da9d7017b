"""What upstream's converter makes of a checkpoint: files, layout, metadata, vocabulary; and our own writer of it.

Everybody from ``quantization`` upwards may enter. Only the standard library and numpy are imported.
"""

__all__ = [
    "asked",
    "expected",
    "files",
    "layout",
    "metadata",
    "sources",
    "special_tokens",
    "templates",
    "vocabulary",
    "weights",
    "writer",
]
