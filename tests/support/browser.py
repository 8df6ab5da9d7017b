"""A page in a real browser, as a person sees it: on a telephone, by night, in either language."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

CHROMIUM = shutil.which("chromium")
DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """
const language = %s, seen = (node) => node.getClientRects().length > 0;
document.getElementById("language-" + language).click();
document.querySelectorAll("details").forEach((details) => { details.open = true; });
const width = document.documentElement.clientWidth, found = { width, page: document.documentElement.scrollWidth };
found.inside = innerWidth;
found.shown = [...new Set([...document.querySelectorAll("body [lang]")].filter(seen).map((node) => node.getAttribute("lang")))];
found.beyond = [...document.querySelectorAll("body *")].filter((node) => seen(node) && !node.closest(".scroll")
  && !node.closest("fieldset") && node.getBoundingClientRect().right > width + 0.5).map((node) => node.outerHTML.slice(0, 200));
%s
parent.document.documentElement.dataset.found = JSON.stringify(found);
"""
"""What a person would see, asked for in a copy of the page that may run scripts; more may be asked for in the middle."""


@dataclass(frozen=True)
class Browser:
    """Chromium without a window, with a profile of its own."""

    folder: Path

    def command(self, page: Path | str, *options: str) -> list[str]:
        """What opens the page, a file or an address."""
        return [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={self.folder / 'profile'}",
                *options, page if isinstance(page, str) else page.as_uri()]  # fmt: skip

    def run(self, page: Path | str, *options: str) -> tuple[str, list[str]]:
        """Open the page; gives what the browser printed, and its complaints about the page."""
        done = subprocess.run(self.command(page, *options), capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, complaints(done.stderr)

    @contextmanager
    def opened(self, page: Path | str, *options: str) -> Iterator[None]:
        """Keep the page open; it must not have been complained about when the block ends."""
        stay = "--remote-debugging-port=0"
        with TemporaryFile("w+") as said:
            process = subprocess.Popen(self.command(page, stay, *options), stdout=subprocess.DEVNULL, stderr=said)
            try:
                yield
            finally:
                process.terminate()
                process.wait(60)
            said.seek(0)
            complained = complaints(said.read())
            assert not complained, "\n".join(complained)

    def measure(self, page: Path, language: str, width: int, more: str = "", *options: str) -> dict[str, Any]:
        """Put ``MEASURE`` into a copy of the page, and that into a frame: no window is narrower than 500."""
        script = f"<script>{MEASURE % (json.dumps(language), more)}</script></body>"
        text = re.sub("<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", script)
        frame = page.with_name("frame.html")
        frame.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><iframe srcdoc="{html.escape(text)}" '
            f'style="width: {width}px; height: 3000px; border: 0"></iframe>'
        )
        dom, complained = self.run(frame, "--dump-dom", "--window-size=1400,3100", *options)
        assert complained == []
        match = re.search(' data-found="([^"]*)"', dom)
        assert match
        found: dict[str, Any] = json.loads(html.unescape(match[1]))
        assert found["inside"] == width
        return found

    def look(self, page: Path | str, name: str, *options: str, width: int = 390) -> Any:
        """A screenshot as numbers from 0 to 1: rows, columns, colours."""
        from matplotlib.image import imread  # which every session of tests would pay for

        path = self.folder / f"{name}.png"
        _, complained = self.run(page, f"--screenshot={path}", f"--window-size={width},3000", *options)
        assert complained == []
        return imread(path)[..., :3]


def complaints(said: str) -> list[str]:
    """The lines of what a browser said that are about the page."""
    return [line for line in said.splitlines() if ":CONSOLE" in line]


def in_chinese(page: Path) -> Path:
    """A copy in which the switch stands on Chinese."""
    text, chinese = page.read_text(), page.with_name("chinese.html")
    off = text.replace(' id="language-en" checked', ' id="language-en"')
    chinese.write_text(off.replace('id="language-zh"', 'id="language-zh" checked'))
    return chinese
