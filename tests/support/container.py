"""What ``Containerfile`` says: which files of a checkout an image gets, and what is run in it."""

import json
import re
import shutil
from pathlib import Path

from support.checkout import ROOT

CONTAINERFILE = ROOT / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Each word with what stands behind it, its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(word, rest) for word, rest in lines]


def copy_as_told(folder: Path) -> Path:
    """Copy what the image gets of this checkout into a folder."""
    for rest in (rest for word, rest in instructions() if word == "COPY"):
        *names, target = [part for part in rest.split() if not part.startswith("--")]
        for name in names:
            leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / target, symlinks=True, ignore=leave)
            else:
                shutil.copy(ROOT / name, folder / target)
    return folder


def prepared() -> list[str]:
    """What is run, one after the other, once the files are there."""
    after = instructions()[[word for word, _ in instructions()].index("COPY") :]
    return [command.strip() for word, rest in after if word == "RUN" for command in rest.split("&&")]


def started() -> list[str]:
    """What the image does when it is started."""
    [command] = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    return list(map(str, command))
