"""The locks: what is installed before the demo, and what beside it; and that packages of one environment agree."""

import re
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.checkout import ROOT
from support.linked import locked

BESIDE = ("datasets", "test", "bench", "fuzz", "site", "slurm")
"""Locks whose packages are imported beside those of ``workflow.lock``."""


def versions(lock: str) -> dict[str, set[str]]:
    """What a lock holds, by name; of two versions each is for some Pythons."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "envs" / f"{lock}.lock").read_text()
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_what_is_typed_names_no_processor() -> None:
    for path in (ROOT / "Makefile", *(ROOT / "profiles").glob("*/profile.yaml"), ROOT / "envs" / "lock.sh"):
        assert not re.findall(r"x86|amd64|i686|AVX|-march", path.read_text()), path


@pytest.mark.parametrize("lock", BESIDE)
def test_what_lies_in_one_environment_agrees(lock: str) -> None:
    ours, theirs = versions("workflow"), versions(lock)
    assert len(theirs) > 5
    assert {name: (ours[name], theirs[name]) for name in ours.keys() & theirs if ours[name] != theirs[name]} == {}


def test_the_tests_read_data_sets_as_the_workflow_does() -> None:
    tests = versions("test")
    assert {name: tests.get(name) for name in locked("datasets.lock")} == versions("datasets")


def test_data_sets_wait_until_they_are_needed() -> None:
    """They were a third of the bytes of ``make setup``, and the demo reads none."""
    assert {"datasets", "pandas", "pyarrow"} <= locked("datasets.lock")
    assert not locked("datasets.lock") & locked("workflow.lock")


def test_with_the_workflow_s_packages_those_for_data_sets_are_whole() -> None:
    """They are installed without looking at what they need."""
    held = versions("workflow") | versions("datasets")
    for name in locked("datasets.lock"):
        for needed in map(Requirement, distribution(name).requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                [version] = held[canonicalize_name(needed.name)]
                assert needed.specifier.contains(version), f"{name} needs {needed}, locked is {version}"
