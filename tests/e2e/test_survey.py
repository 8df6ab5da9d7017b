"""requant survey as a maintainer runs it: sixty quants of all kinds on the loopback Hub, killed in the middle, and again."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from requant.audit.survey.written import NAMES, as_markdown, as_page
from requant.documents.schemas import fault
from support.browser import CHROMIUM, DARK, Browser
from support.checkout import shared_cache
from support.command import CODE, PYTHONPATH
from support.hub import Fault, LoopbackHub
from support.surveyed import Expected, Scene, write_survey
from support.workplace import Workplace

KILLED_AFTER = 12
SHUT = "evil/Small-hidden"
"""A repository that is closed when it is first asked."""
CLOSED = Expected(3, sentence="is gated")


@dataclass(frozen=True)
class Surveyed:
    """A survey that was killed and begun again: the reports before, what was asked of the hub after, and the table."""

    scene: Scene
    hub: LoopbackHub
    folder: Path
    before: Mapping[str, bytes]
    requests: Counter[str]
    said: str
    table: Mapping[str, Any]


def begin(hub: LoopbackHub, folder: Path) -> subprocess.Popen[str]:
    """Begin a survey of the list in a folder."""
    known = {"PYTHONPATH": PYTHONPATH, "XDG_CACHE_HOME": str(shared_cache()), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-c", CODE, "survey", "quants.txt", "--out", "found", "--rows", "64", "--seed", "5"]
    return subprocess.Popen(
        command, env={**os.environ, **known, "HF_HOME": str(folder / "hf"), "COLUMNS": "200"}, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def carry_out(hub: LoopbackHub, folder: Path) -> tuple[int, str, dict[str, Any]]:
    """Carry a survey out: exit code, all that was said, and the table."""
    with begin(hub, folder) as process:
        said, _ = process.communicate(timeout=300)
    return process.returncode, said, json.loads((folder / "found" / "survey.json").read_text())


def reports(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "found" / "reports").glob("[!.]*.json"))}


@pytest.fixture(scope="module")
def surveyed(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surveyed]:
    folder = tmp_path_factory.mktemp("survey")
    with LoopbackHub() as hub:
        scene = write_survey(folder, hub)
        with begin(hub, folder) as process:
            deadline = time.monotonic() + 120
            while len(reports(folder)) < KILLED_AFTER:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            process.kill()
        assert [name for name in NAMES if (folder / "found" / name).exists()] == [], "nothing looks finished"
        before, asked = reports(folder), len(hub.seen("*"))
        hub.faults.add(Fault(f"*/{SHUT}/*", kind="forbidden"))
        code, said, table = carry_out(hub, folder)
        assert code == 1, said
        hub.faults.clear()
        requests = Counter(exchange.path for exchange in hub.seen("*")[asked:])
        yield Surveyed(scene, hub, folder, before, requests, said, table)


def test_every_quant_is_what_it_is(surveyed: Surveyed) -> None:
    """No honest one is accused, no changed one passes, and what could not be read is no evidence."""
    assert fault(surveyed.table, "survey", "the table") is None
    assert len(surveyed.scene.expected) >= 50
    assert sorted(row["line"] for row in surveyed.table["rows"]) == sorted(surveyed.scene.expected)
    wrong = {}
    for row in surveyed.table["rows"]:
        expected = CLOSED if row["subject"] == SHUT else surveyed.scene.expected[row["line"]]
        words = {question: answer["status"] for question, answer in (row["answers"] or {}).items()}
        fits = row["exit_code"] == expected.exit_code and expected.answers.items() <= words.items()
        if not fits or expected.sentence not in row["sentence"] or bool(words) < bool(expected.answers):
            wrong[row["subject"]] = (row["exit_code"], words, row["sentence"], expected)
    assert wrong == {}


def test_counts_and_order(surveyed: Surveyed) -> None:
    found = [row["exit_code"] for row in surveyed.table["rows"]]
    assert surveyed.table["counts"]["exit_codes"] == {str(code): found.count(code) for code in range(5)}
    assert found == sorted(found, key=[1, 4, 2, 3, 0].index)
    for question in ("weights", "recipe", "metadata", "coverage"):
        words = Counter(row["answers"][question]["status"] for row in surveyed.table["rows"] if row["answers"])
        assert +Counter(surveyed.table["counts"][question]) == words


def test_a_killed_survey_goes_on(surveyed: Surveyed) -> None:
    """What was there is left as it was, and its file not read again; all else is asked."""
    after = reports(surveyed.folder)
    assert len(surveyed.before) >= KILLED_AFTER and surveyed.before.items() <= after.items()
    assert surveyed.table["run"]["kept"] == len(surveyed.before)
    assert not any("/Small-imatrix-GGUF/" in path and "Small-Q2_K.gguf" in path for path in surveyed.requests)
    assert any("Small-eos" in path for path in surveyed.requests)


def test_what_came_to_no_report_is_asked_again(surveyed: Surveyed, tmp_path: Path) -> None:
    shutil.copytree(surveyed.folder / "found", tmp_path / "found")
    lines = surveyed.scene.listed.read_text().splitlines()
    some = [*lines[:6], *(line for line in lines if line.startswith(SHUT))]
    (tmp_path / "quants.txt").write_text("\n".join(some))
    _, _, table = carry_out(surveyed.hub, tmp_path)
    [row] = [row for row in table["rows"] if row["subject"] == SHUT]
    assert (row["exit_code"], row["answers"]["coverage"]["status"]) == (1, "hidden")
    assert (table["run"]["kept"], len(table["rows"])) == (4, 5)


def test_every_row_leads_to_its_report(surveyed: Surveyed) -> None:
    folder = surveyed.folder / "found"
    for row in surveyed.table["rows"]:
        assert (row["report"] is None) is (row["page"] is None) is (row["answers"] is None)
        if row["report"]:
            document = json.loads((folder / row["report"]).read_text())
            assert (document["headline"], document["exit_code"]) == (row["sentence"], row["exit_code"])
            assert document["headline"].partition(":")[0] in html.unescape((folder / row["page"]).read_text())
    assert (folder / "survey.html").read_text() == as_page(surveyed.table)
    assert (folder / "survey.md").read_text() == as_markdown(surveyed.table)


def test_nothing_private_is_shown(surveyed: Surveyed) -> None:
    found = surveyed.folder / "found"
    texts = {path: path.read_text() for path in (*(found / name for name in NAMES), *found.glob("reports/[!.]*"))}
    assert [path for path, text in texts.items() if "s3cret" in text or str(surveyed.folder) in text] == []
    assert "s3cret" not in surveyed.said and "Traceback" not in surveyed.said
    assert [path for path, text in texts.items() if "<script" in text and path.suffix == ".html"] == []


def test_a_line_for_each_quant(surveyed: Surveyed) -> None:
    count = len(surveyed.scene.expected)
    lines = surveyed.said.splitlines()
    assert sum(f"/{count} " in line and "(exit code " in line for line in lines) == count
    assert lines[-1] == "the table is found/survey.html"


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")


@needs_chromium
@pytest.mark.parametrize(("language", "width", "options"), [("en", 360, (DARK,)), ("zh", 1280, ())])
def test_the_page_fits(
    browser: Browser, surveyed: Surveyed, language: str, width: int, options: tuple[str, ...]
) -> None:
    found = browser.measure(surveyed.folder / "found" / "survey.html", language, width, "", *options)
    assert found["page"] <= found["width"] == width and found["beyond"] == []
    assert found["shown"] == [language]


@needs_chromium
def test_by_night_it_is_dark(browser: Browser, surveyed: Surveyed) -> None:
    page = surveyed.folder / "found" / "survey.html"
    light, dark = browser.look(page, "light"), browser.look(page, "dark", DARK)
    assert light.mean() > 0.8 and dark.mean() < 0.3
