"""Addresses that are signed and run out, as those of the Hub's storage."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace

from .wire import Reply, Request


@dataclass
class Signing:
    """Signs what redirects lead to. An address is good for `uses` requests, and then answered with 403; for all if None.

    The Hub's run out by the clock; a count makes tests repeat.
    """

    uses: int | None = None
    given: int = field(default=0, init=False)
    _used: Counter[str] = field(default_factory=Counter, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def signed(self, reply: Reply) -> Reply:
        """The redirect with a new signature in its address."""
        if self.uses is None:
            return reply
        with self._lock:
            self.given += 1
            location = f"{reply.headers['Location']}?Expires=300&Signature=s{self.given}"
        return replace(reply, headers={**reply.headers, "Location": location})

    def lets_pass(self, request: Request) -> bool:
        """Whether the address of a request was signed, and has not run out."""
        if self.uses is None:
            return True
        signature = request.query.get("Signature", "")
        with self._lock:
            self._used[signature] += 1
            return bool(signature) and self._used[signature] <= self.uses
