"""A file of results, as a run on a suite leaves one."""

from collections.abc import Mapping
from pathlib import Path

from requant.documents.results import write_results


def results_file(path: Path, outcomes: Mapping[str, str], suite: str = "s", **settings: object) -> Path:
    """Write the outcomes of a suite's questions, by their names, asked with these settings."""
    write_results(
        {"suite": suite, **settings}, [{"id": name, "outcome": outcome} for name, outcome in outcomes.items()], path
    )
    return path
