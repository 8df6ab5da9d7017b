"""What is logged, by us and by the clients of hubs, to a terminal or a file: no line of it holds a secret."""

import logging
from collections.abc import Sequence

from requant.ground.text import without_secrets


class _Clean(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def log_to(handlers: Sequence[logging.Handler], level: int = logging.INFO) -> None:
    """Let all loggers write their messages, and nothing else, to ``handlers`` and nowhere else."""
    for handler in handlers:
        handler.setFormatter(_Clean("%(message)s"))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    # On a full disk a message goes to the other handlers, and no traceback stands between them.
    logging.raiseExceptions = False
    # This one tells each request.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def tell_here(library: str) -> None:
    """Let a library that writes its log by itself, addresses and all, write it where everything is logged."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
