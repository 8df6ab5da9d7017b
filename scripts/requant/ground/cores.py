"""How many processors this process may use."""

import math
import os

from requant.ground.cgroups import cpu_quota


def cores() -> int:
    """Those that the system lets it run on, as far as its container has time on them; where it does not tell, all."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else min(allowed, max(1, math.ceil(quota)))
