"""A model's answers to suites of questions: who asks, what an answer is, who verifies it, and what is counted."""

__all__ = ["asking", "berkeley", "endpoint", "knowledge", "models", "sandbox", "suite"]
