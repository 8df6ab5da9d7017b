"""The third question: the header beside what the converter writes, honest variations, other revisions."""

__all__ = ["comparison", "history"]
