"""How a release is served: the flags of ``llama-server`` that its card tells, and that it is measured with; and how
llama.cpp finds a model in a repository by itself.
"""

import re
from collections.abc import Sequence

SERVER = "llama-server"
PARALLEL = 4
"""Conversations at a time, among which the server divides its context."""
NO_MODELS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""What stands in names of GGUFs that it takes for no model: ``gguf_filename_is_model`` in ``common/download.cpp``."""


def found_by(tag: str, names: Sequence[str]) -> str | None:
    """The one file that ``-hf OWNER/NAME:TAG`` takes, of those in a repository; ``None`` where it is none, or several.

    >>> found_by("Q4_K_M", ["M-Q4_K_M.gguf", "M-Q4_K_S.gguf"]), found_by("Q8_0", ["M-Q8_0-imatrix.gguf"])
    ('M-Q4_K_M.gguf', None)
    """
    models = [name for name in names if not any(word in name for word in NO_MODELS)]
    found = [name for name in models if re.search(rf"{re.escape(tag)}[.-]", name, re.IGNORECASE)]
    return found[0] if len(found) == 1 else None


def serving_flags(context: int) -> tuple[str, ...]:
    """The flags for a context of so many tokens; model, address and threads are the caller's."""
    return (
        "--ctx-size", str(context), "--parallel", str(PARALLEL), "--n-gpu-layers", "999", "--jinja",
        "--reasoning", "auto",
    )  # fmt: skip
