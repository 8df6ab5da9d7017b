"""Faults that tests switch on while the hub runs."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from .wire import Reply, Request

Kind = Literal[
    "status",
    "moved",
    "unauthorized",
    "forbidden",
    "missing",
    "truncate",
    "corrupt",
    "slow",
    "unranged",
    "lie",
    "endless",
    "cut",
    "lost",
    "silent",
]

# The three answers that clients map to exceptions of their own (hf_raise_for_status): status, code, message.
_REFUSALS = {
    "unauthorized": (401, "", "Invalid credentials in Authorization header"),
    "forbidden": (403, "GatedRepo", "Access to this repository is restricted."),
    "missing": (404, "EntryNotFound", "Entry not found"),
}
_INSTEAD = ("status", "moved", *_REFUSALS)
_ENDINGS = ("cut", "lost", "silent")


@dataclass
class Fault:
    """One fault.

    `path` is a glob over the unescaped path and query; `times` is how often it strikes, None for ever, after `skip`
    requests that it lets through.
    status: answer with `status` and `headers` (`Retry-After: 0` shortens huggingface_hub's waits to 1 s).
    moved: redirect with `status` (301, 302, ...) to the same path and query on another host, which answers truly.
    truncate: announce everything, close after `after` bytes of the body.
    corrupt: invert the body's byte number `after`.
    slow: send `rate` bytes per second.
    unranged: ignore the Range header, answer 200 with everything.
    lie: answer with `headers` in place of the true ones (Content-Range, ETag, Content-Encoding, ...).
    endless: announce no length, and send zeros after the body until the client hangs up.
    cut: hang up after `after` bytes of the request's body; nothing of it is carried out.
    lost: carry the request out and hang up in place of the answer.
    silent: carry the request out and never answer; `struck` says when it is done.
    All but the first five and the last three touch only bodies that carry data, so a redirect or a HEAD does not use them up.
    """

    path: str = "*"
    kind: Kind = "status"
    times: int | None = None
    method: str | None = None
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    rate: float = 1 << 20
    skip: int = 0
    struck: bool = field(default=False, init=False)
    met: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def applies(self, request: Request) -> bool:
        spent = self.times is not None and self.hits >= self.times
        other = self.method is not None and self.method != request.method
        if spent or other or not fnmatch.fnmatchcase(request.text, self.path):
            return False
        self.met += 1
        return self.met > self.skip


@dataclass(frozen=True)
class Plan:
    """How one body is sent: up to `stop` bytes, with byte `flip` inverted, at `rate` bytes per second, `endless`ly.

    `headers` replace the true ones; with `whole`, a Range header was ignored.
    """

    stop: int | None = None
    flip: int | None = None
    rate: float | None = None
    endless: bool = False
    whole: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def shape(self, chunk: bytes, position: int) -> bytes:
        if self.flip is None or not position <= self.flip < position + len(chunk):
            return chunk
        at = self.flip - position
        return chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]


class Faults:
    """The faults in force. Safe to change while requests are being answered."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._active.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._active.clear()

    def refusal(self, request: Request, elsewhere: str) -> Reply | None:
        """The error to answer instead of the truth, if a fault says so, or that it is to be found `elsewhere`."""
        is_there = urlsplit(f"//{request.headers['Host']}").port == urlsplit(elsewhere).port
        with self._lock:
            for fault in self._active:
                if fault.kind in _INSTEAD and fault.applies(request) and not (fault.kind == "moved" and is_there):
                    fault.hits += 1
                    if fault.kind == "moved":
                        return Reply(fault.status, headers={"Location": f"{elsewhere}{request.target}"})
                    return _error(fault)
        return None

    def ending(self, request: Request) -> Fault | None:
        """The fault that lets the connection of `request` end before its answer."""
        with self._lock:
            for fault in self._active:
                if fault.kind in _ENDINGS and fault.applies(request):
                    fault.hits += 1
                    return fault
        return None

    def plan(self, request: Request) -> Plan:
        """How to send the body that answers `request`; counts as a hit of every fault that takes part."""
        found: dict[str, Fault] = {}
        with self._lock:
            for fault in self._active:
                if fault.kind not in (*_INSTEAD, *_ENDINGS) and fault.applies(request):
                    found.setdefault(fault.kind, fault)
            for fault in found.values():
                fault.hits += 1
        return Plan(
            stop=found["truncate"].after if "truncate" in found else None,
            flip=found["corrupt"].after if "corrupt" in found else None,
            rate=found["slow"].rate if "slow" in found else None,
            endless="endless" in found,
            whole="unranged" in found,
            headers=found["lie"].headers if "lie" in found else {},
        )


def _error(fault: Fault) -> Reply:
    status, code, message = _REFUSALS.get(fault.kind, (fault.status, "", "injected fault"))
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **fault.headers}
    return Reply.json({"error": message, "Code": status, "Message": message, "Success": False}, status, headers)
