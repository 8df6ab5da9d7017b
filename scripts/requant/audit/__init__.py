"""Asking of anybody's quant whether it derives from the weights that it names, and how sure that is.

``cli`` may enter.
"""

__all__ = ["attested", "question", "render", "survey"]
