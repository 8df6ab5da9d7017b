"""Where the tests find the project, and where they work: in ``build/tests``, never in the developer's ``results``.

What takes minutes to make lies there and is kept for the next run. Tests run side by side, so there they take turns.
"""

from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "suites"
PLACE = ROOT / "build" / "tests"
RESULTS = PLACE / "results"
TOOLCHAINS = RESULTS / "toolchains"


def alone() -> FileLock:
    """The right to work in ``build/tests``; its holder may take it again."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    return FileLock(PLACE / ".lock", is_singleton=True)


def shared_cache() -> Path:
    """A cache folder for audits, whose toolchains are the tests' own: nothing is fetched or built twice."""
    folder = PLACE / "cache" / "requant"
    with alone():
        folder.mkdir(parents=True, exist_ok=True)
        TOOLCHAINS.mkdir(exist_ok=True)
        if not (folder / "toolchains").is_symlink():
            (folder / "toolchains").symlink_to(Path("..") / ".." / "results" / "toolchains")
    return folder.parent
