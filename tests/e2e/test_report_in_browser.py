"""The report in a real browser: nothing to complain about, on a telephone, by night, and in both languages."""

import copy
import json
from pathlib import Path

import pytest

from requant.evaluation.page.page import write_report
from requant.ground.canonical import canonical
from support.browser import CHROMIUM, DARK, Browser, in_chinese
from support.measured import evaluation
from support.small_release import write_release

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
TYPES = {"Q8_0": 4.28, "Q6_K": 3.31, "Q5_K_M": 2.89, "Q4_K_M": 2.50, "IQ4_XS": 2.27}
KINDS = ("attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up")
# What figures add to what a page is asked.
FIGURES = """
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
"""


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
            "file": {**quant["file"], "name": f"Tiny-Qwen3-{kind}.gguf", "size": int(size * 1e9)},
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
    found = browser.measure(report, language, width, FIGURES)
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
    assert (browser.look(in_chinese(report), "chinese") != browser.look(report, "english")).any()
