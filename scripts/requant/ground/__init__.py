"""What every wing stands on: errors, digests, room on the disk, progress, running programs, reports.

Nothing here knows a format, a tool or a document of requant. Everybody may enter; it imports no other wing.
"""

__all__ = [
    "canonical",
    "cgroups",
    "consoles",
    "cores",
    "digests",
    "disk",
    "errors",
    "exit_codes",
    "gpus",
    "interrupts",
    "locks",
    "logs",
    "markdown",
    "processors",
    "programs",
    "progress",
    "text",
]
