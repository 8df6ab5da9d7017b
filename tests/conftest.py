"""What holds for all tests: how fast a machine is decides no test, and nobody waits for the demo who could work."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("requant", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("requant")
FIRST = "e2e/test_tiny_release.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker makes the demo, which takes minutes; the other one does what needs none meanwhile."""

    def turn(item: pytest.Item) -> int:
        place = item.path.as_posix()
        return 0 if place.endswith(FIRST) else 2 if "/e2e/" in place else 1

    items.sort(key=turn)
