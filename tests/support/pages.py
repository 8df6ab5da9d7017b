"""A folder of pages on a free port of this machine: what is asked for is noted, and nothing else may be asked of anybody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from queue import Queue
from typing import Any

from support.loopback import LoopbackServer

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src 'self' blob:"
)
"""A browser complains of whatever a page asks of another server."""


@dataclass
class Served:
    """Pages at ``url``; ``missing`` are paths that were asked for and are not there, ``told`` what pages sent."""

    url: str
    missing: list[str] = field(default_factory=list)
    told: Queue[bytes] = field(default_factory=Queue)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, served: list[Served], *arguments: Any, **options: Any) -> None:
        self.served = served
        super().__init__(*arguments, **options)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def send_error(self, code: int, *arguments: Any) -> None:  # type: ignore[override]
        if code == HTTPStatus.NOT_FOUND:
            self.served[0].missing.append(self.path)
        super().send_error(code, *arguments)

    def do_POST(self) -> None:
        self.served[0].told.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is said."""


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The folder's pages until the block ends."""
    found: list[Served] = []
    failures: list[str] = []
    server = LoopbackServer(partial(_Handler, found, directory=str(folder)), failures)  # type: ignore[arg-type]
    found.append(Served(f"http://127.0.0.1:{server.server_port}"))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
    assert failures == []
