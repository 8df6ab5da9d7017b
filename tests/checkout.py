"""What all tests share lies in the checkout's ``results``; tests run side by side, so there they take turns."""

from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
TOOLCHAINS = RESULTS / "toolchains"


def alone() -> FileLock:
    """The right to work in ``results``; its holder may take it again."""
    RESULTS.mkdir(exist_ok=True)
    return FileLock(RESULTS / ".tests.lock", is_singleton=True)


def shared_cache() -> Path:
    """A cache folder for audits, whose toolchains are the checkout's: nothing is fetched or built twice."""
    folder = RESULTS / "cache" / "requant"
    with alone():
        folder.mkdir(parents=True, exist_ok=True)
        TOOLCHAINS.mkdir(exist_ok=True)
        if not (folder / "toolchains").is_symlink():
            (folder / "toolchains").symlink_to(Path("..") / ".." / "toolchains")
    return folder.parent
