"""How many processors this process may use."""

import os


def cores() -> int:
    """Those that the system lets it run on; where it does not tell, all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
