"""The second question: the mix of types, what names promise of it, and the importance matrix."""

__all__ = ["command", "imatrix", "matrices", "mix", "plausibility", "sanity"]
