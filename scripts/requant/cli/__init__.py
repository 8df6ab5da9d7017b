"""The command: one verb, one short function, no logic.

``main`` groups the verbs, one module holds each group; nothing enters but the shell.
"""

__all__ = ["main"]
