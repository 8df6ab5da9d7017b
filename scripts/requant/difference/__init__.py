"""What differs between two of a kind: importance matrices, GGUF files, releases, results.

Everybody from ``release`` upwards may enter.
"""

__all__ = ["diff", "ggufs", "imatrices", "imatrix_effect", "releases", "results", "statistics"]
