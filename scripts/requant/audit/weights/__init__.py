"""The first question: rows derived again, compared, and judged; which rows, and what they read."""

__all__ = [
    "fused",
    "hashed_weights",
    "journal",
    "material",
    "passage",
    "recovered",
    "sample",
    "sweep",
    "tensor",
    "tied",
    "unknown_importances",
]
