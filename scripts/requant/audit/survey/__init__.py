"""Asking the same of many quants, one after the other, and one table of what was found."""

__all__ = ["asking", "listed", "table", "written"]
