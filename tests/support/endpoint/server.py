"""The HTTP server: it looks the last question, or a line of it, up in its script, and sends the next reply to it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from support.loopback import LoopbackServer

from .replies import Reply, message

_TICK = 0.05  # seconds between two bytes of a drip
_ENDLESS = b" " * (1 << 16)


class ScriptedEndpoint:
    """An endpoint on a free port; `url` ends in /v1. `models` answers the list of models, `otherwise` all else."""

    def __init__(self) -> None:
        self.models = Reply(b'{"object": "list", "data": []}')
        self.otherwise = message("I do not know.")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.failures: list[str] = []  # tracebacks of the server's own mistakes, raised on exit
        self.stopping = threading.Event()
        self._script: dict[str, list[Reply]] = {}
        self._lock = threading.Lock()
        self._busy = 0
        self.most_at_once = 0
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        if self.failures and error is None:
            raise AssertionError("the scripted endpoint failed:\n" + "\n".join(self.failures))

    def say(self, question: str, *replies: Reply) -> None:
        """Answer a question with these replies, one after the other; the last one stays."""
        with self._lock:
            self._script[question] = list(replies)

    def asked(self, question: str) -> int:
        """How often a question was asked."""
        asked = [request["messages"][-1]["content"] for request in list(self.requests)]
        return sum(question in (text, *text.splitlines()) for text in asked)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the questions that are being answered at a time."""
        with self._lock:
            self._busy += 1
            self.most_at_once = max(self.most_at_once, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def next_reply(self, request: dict[str, Any]) -> Reply:
        with self._lock:
            self.requests.append(request)
            question = request["messages"][-1]["content"]
            known = next((line for line in (question, *question.splitlines()) if line in self._script), None)
            replies = [self.otherwise] if known is None else self._script[known]
            return replies.pop(0) if len(replies) > 1 else replies[0]


class _Server(LoopbackServer):
    def __init__(self, endpoint: ScriptedEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(_Handler, endpoint.failures)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self._send(self.server.endpoint.models)

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.server.endpoint.keys.append(self.headers.get("Authorization"))
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client has ended meanwhile
            return
        request = json.loads(body)
        with self.server.endpoint.counted():
            self._send(self.server.endpoint.next_reply(request))

    def _send(self, reply: Reply) -> None:
        stopping = self.server.endpoint.stopping
        if stopping.wait(reply.wait) or reply.end == "die":
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.end in ("endless", "drip"):
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(reply.body) + (reply.end == "short")))
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = self.close_connection or reply.end == "short"
        while reply.end == "endless" and not stopping.is_set():
            self.wfile.write(_ENDLESS)
        while reply.end == "drip" and not stopping.wait(_TICK):
            self.wfile.write(b" ")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the log is `ScriptedEndpoint.requests`."""
