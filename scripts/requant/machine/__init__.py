"""What this machine can do, and what it lacks for making releases.

It looks at what the other wings would use, by their own means. ``cli`` may enter.
"""

__all__ = ["doctor"]
