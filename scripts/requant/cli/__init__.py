"""The command: one verb, one short function, no logic."""

__all__ = ["main"]
