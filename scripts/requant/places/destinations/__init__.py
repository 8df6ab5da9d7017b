"""Repositories on hubs that a release is brought to: what each holds, and how it is changed.

Like the places that are read, each needs its hub's client, which is imported only where that hub is named.
"""

__all__ = ["destination"]
