"""An environment of links to packages of this one: nothing but what is named can be imported there."""

import re
import venv
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from support.checkout import ROOT


def linked_environment(folder: Path, names: Iterable[str]) -> Path:
    """Make the environment in ``folder``, with these distributions as far as they are installed; gives its Python."""
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python3*/site-packages")
    for file in {path for name in names for path in _top_level(name)}:
        (site / file.name).symlink_to(file)
    return folder / "bin" / "python"


def locked(lock: str) -> set[str]:
    """The names of what a lock in ``envs`` holds, of which some are for other systems."""
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "envs" / lock).read_text(), re.MULTILINE))


def _top_level(name: str) -> set[Path]:
    """The files and folders of a distribution that lie in site-packages."""
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        return set()
    names = {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}
    return {Path(str(dist.locate_file(each))) for each in names}
