"""What holds for all tests: a slow machine fails none, each is marked by its folder, and their order is said here."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["support.fixtures"]

settings.register_profile("requant", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("requant")

HERE = Path(__file__).parent
MARKED = ("native", "workflow", "e2e", "arm64", "cuda")
"""Folders whose tests need more than Python; they are marked with the folder's name."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and sort: one worker makes the demo, which takes minutes; the other does what needs none meanwhile."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in MARKED:
            item.add_marker(folder)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("makes_the_demo"):
        return 0
    return 2 if item.get_closest_marker("e2e") else 1
