"""What holds for all tests: a slow machine fails none, each is marked by its folder, and their order is said here."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["support.fixtures"]

settings.register_profile("requant", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("requant")

HERE = Path(__file__).parent
MARKED = ("native", "workflow", "e2e", "arm64", "cuda", "architectures", "lanes", "site", "faults", "slurm")
"""Folders whose tests need more than Python; they are marked with the folder's name."""
OPT_IN = ("arm64", "cuda", "architectures", "lanes", "site", "faults", "slurm", "long")
"""Marks that ``make test`` leaves out."""
LONG = ("test_real_model", "test_audit_honest", "test_architectures", "test_rebuild", "test_crashes")
"""Files that take minutes each: whoever began one of them last would work on alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and sort: one worker makes the demo, which takes minutes; the other does what needs none meanwhile.

    What needs llama.cpp's library waits for the demo where that is still building, so it comes after all else.
    """
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in MARKED:
            item.add_marker(folder)
        if any(map(item.get_closest_marker, OPT_IN)):
            item.add_marker("opt_in")
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("makes_the_demo"):
        return 0
    if item.get_closest_marker("e2e"):
        return 3 if item.path.stem in LONG else 4
    return 2 if item.get_closest_marker("native") else 1
