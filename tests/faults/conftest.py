"""The book of all faults, which ``make test-faults`` prints at its end, and the run that nothing is done to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import Book, Undisturbed, smallest_recipe
from support.workplace import Workplace, prepare

BOOK = Book()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if BOOK.rows:
        terminalreporter.write_line(f"\n{BOOK}")


@pytest.fixture(scope="session")
def book() -> Book:
    return BOOK


@pytest.fixture(scope="session")
def undisturbed(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    workplace = prepare(tmp_path_factory.mktemp("undisturbed") / "work", smallest_recipe())
    workplace.run()
    return Undisturbed.of(workplace)


@pytest.fixture
def places(demo: Workplace, tmp_path: Path) -> Callable[[], Workplace]:
    """Folders for runs, one after another."""
    made: list[Workplace] = []

    def make() -> Workplace:
        made.append(prepare(tmp_path / f"{len(made)}" / "work", smallest_recipe()))
        return made[-1]

    return make


@pytest.fixture
def place(places: Callable[[], Workplace]) -> Workplace:
    return places()
