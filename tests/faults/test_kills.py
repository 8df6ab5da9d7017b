"""Killed at random moments of every step, and cut off from power there; the last run of each folder makes every byte.

``KILLS`` in the environment says how often. Each run goes on from what the killed one before it left.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from support.faults import BEFORE, SEED, Book, Power, Undisturbed, kill_in, kill_often
from support.workplace import Workplace

KILLS = int(os.environ.get("KILLS", "200"))
CUTS = max(1, KILLS // 5)


def test_killed(places: Callable[[], Workplace], undisturbed: Undisturbed, book: Book) -> None:
    random, left = Random(SEED), KILLS
    while left:
        workplace = places()
        hits = kill_often(workplace, undisturbed, random, left)
        workplace.run()
        lost = undisturbed.lost(workplace)
        for hit in hits:
            book.note(f"SIGKILL: {hit}", lost=lost)
        assert not lost
        left -= len(hits)
        shutil.rmtree(workplace.folder)


def test_power_cut(places: Callable[[], Workplace], undisturbed: Undisturbed, book: Book, tmp_path: Path) -> None:
    random, steps, left = Random(SEED + 1), [*undisturbed.steps], CUTS
    while left:
        workplace, power = places(), Power.on(tmp_path / f"power-{left}")
        for at, step in enumerate(steps):
            if not left or random.random() < 0.3:
                continue
            hit = kill_in(workplace, steps[at:], random.uniform(0, undisturbed.steps[step]), **power.env)
            if hit is None:
                break
            power.cut(workplace)
            assert not undisturbed.unlike(workplace), hit
            left -= 1
            book.note(f"power cut: {hit}")
        workplace.run(**power.env)
        assert not undisturbed.lost(workplace)
        shutil.rmtree(workplace.folder)


def test_power_cut_after_the_end(place: Workplace, undisturbed: Undisturbed, book: Book, tmp_path: Path) -> None:
    """What a run has made whole is on the disk when it says so."""
    power = Power.on(tmp_path / "power")
    place.run(**power.env)
    assert power.cut(place), "logs and measurements are not flushed"
    lost = undisturbed.lost(place)
    place.run(**power.env)
    lost += undisturbed.lost(place)
    book.note("power cut: after the end", lost=lost)
    assert not lost


def test_before_anything(place: Workplace, undisturbed: Undisturbed, book: Book) -> None:
    """In the first seconds, again and again: nothing may keep the next run from it."""
    random = Random(SEED + 2)
    for _ in range(max(1, KILLS // 20)):
        assert kill_in(place, [], random.uniform(0, 4)) == BEFORE
        book.note(f"SIGKILL: {BEFORE}")
    place.run()
    assert not undisturbed.lost(place)
