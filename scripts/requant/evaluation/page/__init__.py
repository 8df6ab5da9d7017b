"""The report of a release for people: one HTML page, its figures, and what is put inline."""

__all__ = ["page"]
