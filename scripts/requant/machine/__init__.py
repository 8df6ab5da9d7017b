"""What this machine can do, what it lacks for making releases, and what it could do without.

It looks at what the other wings would use, by their own means. ``cli`` may enter.
"""

__all__ = ["doctor", "leftovers"]
