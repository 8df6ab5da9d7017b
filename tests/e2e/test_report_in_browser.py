"""The report in a real browser: nothing to complain about, on a telephone, by night, and in both languages."""

import copy
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from requant.evaluation.page.page import write_report
from requant.ground.canonical import canonical
from support.measured import evaluation
from support.small_release import write_release

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
DARK = "--blink-settings=preferredColorScheme=0"
TYPES = {"Q8_0": 4.28, "Q6_K": 3.31, "Q5_K_M": 2.89, "Q4_K_M": 2.50, "IQ4_XS": 2.27}
KINDS = ("attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up")
# What a person would see, asked for in a copy of the page that may run scripts.
MEASURE = """
const language = %s, seen = (node) => node.getClientRects().length > 0;
document.getElementById("language-" + language).click();
document.querySelectorAll("details").forEach((details) => { details.open = true; });
const width = document.documentElement.clientWidth, found = { width, page: document.documentElement.scrollWidth };
found.inside = innerWidth;
found.shown = [...new Set([...document.querySelectorAll("body [lang]")].filter(seen).map((node) => node.getAttribute("lang")))];
found.beyond = [...document.querySelectorAll("body *")].filter((node) => seen(node) && !node.closest(".scroll")
  && !node.closest("fieldset") && node.getBoundingClientRect().right > width + 0.5).map((node) => node.outerHTML.slice(0, 200));
found.cut = []; found.touching = []; found.sizes = []; found.texts = 0;
for (const svg of document.querySelectorAll("svg")) {
  const name = svg.getAttribute("aria-labelledby"), frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((node) => [node.textContent, node.getBoundingClientRect()]);
  found.sizes.push(frame.width);
  found.texts += texts.length;
  texts.forEach(([words, box], number) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      found.cut.push(name + ": " + words);
    for (const [other, place] of texts.slice(0, number))
      if (Math.min(box.right, place.right) - Math.max(box.left, place.left) > 1
        && Math.min(box.bottom, place.bottom) - Math.max(box.top, place.top) > 3)
        found.touching.push(name + ": " + other + " | " + words);
  });
}
parent.document.documentElement.dataset.found = JSON.stringify(found);
"""


@dataclass(frozen=True)
class Browser:
    """Chromium without a window, with a profile of its own."""

    folder: Path

    def run(self, page: Path, *options: str) -> tuple[str, list[str]]:
        """Open the page; gives what the browser printed, and its complaints about the page."""
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={self.folder / 'profile'}",
                   *options, page.as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]

    def measure(self, page: Path, language: str, width: int) -> dict[str, Any]:
        """Put ``MEASURE`` into a copy of the page, and that into a frame: no window is narrower than 500."""
        script = f"<script>{MEASURE % json.dumps(language)}</script></body>"
        text = re.sub("<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", script)
        frame = page.with_name("frame.html")
        frame.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><iframe srcdoc="{html.escape(text)}" '
            f'style="width: {width}px; height: 3000px; border: 0"></iframe>'
        )
        dom, complaints = self.run(frame, "--dump-dom", "--window-size=1400,3100")
        assert complaints == []
        match = re.search(' data-found="([^"]*)"', dom)
        assert match
        found: dict[str, Any] = json.loads(html.unescape(match[1]))
        assert found["inside"] == width
        return found

    def look(self, page: Path, name: str, *options: str, width: int = 390) -> Any:
        """A screenshot as numbers from 0 to 1: rows, columns, colours."""
        path = self.folder / f"{name}.png"
        _, complaints = self.run(page, f"--screenshot={path}", f"--window-size={width},3000", *options)
        assert complaints == []
        return imread(path)[..., :3]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with five quants of 36 layers."""
    folder = tmp_path_factory.mktemp("report")
    made = json.loads((write_release(folder / "release") / "manifest.json").read_text())
    [quant] = made["quants"]
    made["model"]["file"]["size"] = 8_045_330_432
    made["quants"] = [
        {
            **quant,
            "type": kind,
            "file": {**quant["file"], "name": f"Tiny-Qwen3-{kind}-imatrix.gguf", "size": int(size * 1e9)},
        }
        for kind, size in TYPES.items()
    ]
    measured = copy.deepcopy(evaluation(made))
    names = ["token_embd.weight", *(f"blk.{layer}.{kind}.weight" for layer in range(36) for kind in KINDS)]
    for number, quants in enumerate(measured["tensors"]):
        entry = {"type": "Q4_K", "weights": 2560 * 9728, "weighted": "0.0512"}
        quants["tensors"] = [
            {**entry, "name": name, "plain": f"0.0{number + 1}{place % 89 + 10}", "importance": f"{place % 37}.5"}
            for place, name in enumerate(names)
        ]
    for number, quants in enumerate(measured["fidelity"]["quants"]):
        quants["divergence"]["mean"]["value"] = f"{0.0008 * 1.8 ** (number - number % 2 * 0.4):.6f}"
    for part, document in (("manifest", made), ("evaluation", measured)):
        (folder / f"{part}.json").write_bytes(canonical(document))
    (folder / "run.tsv").write_text("step\tseconds\tpeak_memory_mb\ncalibrate\t69.2\t779.5\n")
    write_report(folder / "manifest.json", folder / "evaluation.json", folder / "run.tsv", folder / "report.html")
    return folder / "report.html"


def test_nothing_to_complain_about(browser: Browser, report: Path) -> None:
    dom, complaints = browser.run(report, "--dump-dom", "--window-size=1280,3000")
    assert complaints == []
    assert dom.count("<svg ") == dom.count("<figcaption ") == 12
    # The browser would say so if the page loaded something.
    bad = report.with_name("bad.html")
    bad.write_text(report.read_text().replace("</main>", '<img src="other.png"></main>'))
    assert "Content Security Policy" in " ".join(browser.run(bad, "--dump-dom")[1])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_fits_and_nothing_touches(language: str, width: int, browser: Browser, report: Path) -> None:
    """With every table open, and one language only."""
    found = browser.measure(report, language, width)
    assert found["page"] <= found["width"] == width and found["beyond"] == []
    assert found["shown"] == [language]
    assert found["cut"] == found["touching"] == []
    assert min(found["sizes"]) > 340 and found["texts"] > 150


def test_by_night_it_is_dark(browser: Browser, report: Path) -> None:
    light, dark = browser.look(report, "light"), browser.look(report, "dark", DARK)
    assert light.mean() > 0.8 and dark.mean() < 0.3
    # Figures take the ink of the page: there is light text all over the dark page, and none that is black.
    assert (dark.max(axis=(1, 2)) > 0.7).mean() > 0.3
    assert dark.max(axis=2).min() > 0.0


def test_a_page_in_chinese_looks_different(browser: Browser, report: Path) -> None:
    chinese = report.with_name("chinese.html")
    text = report.read_text()
    chinese.write_text(
        text.replace(' id="language-en" checked', ' id="language-en"').replace(
            'id="language-zh"', 'id="language-zh" checked'
        )
    )
    assert (browser.look(chinese, "chinese") != browser.look(report, "english")).any()
