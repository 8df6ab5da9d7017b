"""The HTTP server: sockets, streaming, ranges, faults and the log. What to say is up to the protocols."""

from __future__ import annotations

import fnmatch
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, Unpack
from urllib.parse import unquote, urlsplit

from support.loopback import LoopbackServer

from . import huggingface, huggingface_upload, modelscope, modelscope_upload
from .faults import Faults, Plan
from .repos import CHUNK, EPOCH, Options, Repo, Snapshot, take_snapshot
from .signing import Signing
from .storage import Storage
from .wire import Exchange, Reply, Request, byte_range, byte_ranges, in_parts, read_body

Several = Literal["parts", "whole", "first", "refused", "invalid"]
_TICK = 0.02  # seconds between two writes of a slowed body


class LoopbackHub:
    """A hub on free ports of 127.0.0.1: `url` for both protocols, `cdn_url` for what redirects lead to.

    The CDN has a port, hence an origin, of its own, because clients treat a redirect to another origin
    differently. It answers as the hub does, too: `elsewhere`, another host by name, is where `moved` leads.
    Adding a repository again adds a commit and moves the branch; older commits stay readable. Whose token stands in
    `accounts`, with a name, may write to the repositories of that name.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests: list[Exchange] = []
        self.repos: dict[tuple[str, str], Repo] = {}
        self.page_size = 1000  # entries per page of a tree listing, as on the Hub
        self.several: Several = "parts"  # what comes where several ranges are asked for at once
        self.signing = Signing()
        self.failures: list[str] = []  # tracebacks of the hub's own mistakes, raised on exit
        self.stopping = threading.Event()
        self._servers = (_Server(self), _Server(self))
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        self._folder = tempfile.TemporaryDirectory(prefix="loopback-hub-")
        self.storage = Storage(Path(self._folder.name), self.repos, self.url, self.cdn_url)
        self.accounts = self.storage.accounts
        self.elsewhere = self.cdn_url.replace("127.0.0.1", "localhost")

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()
        self._folder.cleanup()
        if self.failures and error is None:
            raise AssertionError("the loopback hub failed:\n" + "\n".join(self.failures))

    def add_model(self, repo_id: str, folder: Path, **options: Unpack[Options]) -> Snapshot:
        """Serve `folder` as the newest commit of a model repository."""
        return self.add("models", repo_id, folder, **options)

    def add_dataset(self, repo_id: str, folder: Path, **options: Unpack[Options]) -> Snapshot:
        """Serve `folder` as the newest commit of a dataset repository."""
        return self.add("datasets", repo_id, folder, **options)

    def add(self, kind: str, repo_id: str, folder: Path, **options: Unpack[Options]) -> Snapshot:
        """Serve `folder` as the newest commit of a repository of this kind ("models" or "datasets")."""
        snapshot = take_snapshot(kind, repo_id, folder, options)
        repo = self.repos.setdefault((kind, repo_id), Repo(kind, repo_id))
        repo.token, repo.gated = options.get("token"), options.get("gated", False)
        repo.info = options.get("info", {})
        repo.add(snapshot, options.get("branch", "main"), options.get("date", EPOCH))
        return snapshot

    def seen(self, path: str = "*", method: str | None = None) -> list[Exchange]:
        """The logged requests whose path matches a glob, oldest first."""
        return [
            entry
            for entry in list(self.requests)
            if fnmatch.fnmatchcase(entry.path, path) and method in (None, entry.method)
        ]

    def answer(self, request: Request) -> Reply:
        """The truth, before faults."""
        reply = modelscope_upload.answer(request, self.storage) or huggingface_upload.answer(request, self.storage)
        reply = reply or modelscope.answer(request, self.repos, self.cdn_url)
        reply = reply or huggingface.answer(request, self.repos, self.cdn_url, self.page_size, self.signing)
        return reply or Reply.json({"error": "Not Found"}, 404)


class _Server(LoopbackServer):
    def __init__(self, hub: LoopbackHub) -> None:
        self.hub = hub
        super().__init__(_Handler, hub.failures)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.server.hub
        ending = hub.faults.ending(Request(self.command, self.path, self.headers))
        cut = ending is not None and ending.kind == "cut"
        body = read_body(self.rfile, self.headers, ending.after if ending and cut else None)
        request = Request(self.command, self.path, self.headers, body or b"")
        query = unquote(urlsplit(self.path).query)
        host, authorized = self.headers["Host"], request.token is not None
        entry = Exchange(request.method, host, request.path, query, self.headers.get("Range"), authorized)
        hub.requests.append(entry)
        if cut or body is None:
            self.close_connection = True
            return
        reply = self._several(request, hub.faults.refusal(request, hub.elsewhere) or hub.answer(request))
        if ending is None:
            self._send(request, reply, entry)
            return
        ending.struck = self.close_connection = True
        if ending.kind == "silent":
            hub.stopping.wait()

    def _several(self, request: Request, truth: Reply) -> Reply:
        """What a server of the chosen kind answers who asks for several ranges at once."""
        kind, ranges = self.server.hub.several, byte_ranges(self.headers.get("Range"))
        if not ranges or not truth.ranges or request.method != "GET":
            return truth
        if kind == "first":
            self.headers.replace_header("Range", f"bytes={ranges[0][0]}-{ranges[0][1] - 1}")
        if kind in ("first", "whole"):
            return truth
        return in_parts(truth, ranges) if kind == "parts" else Reply(403 if kind == "refused" else 416)

    def _send(self, request: Request, reply: Reply, entry: Exchange) -> None:
        carries = request.method != "HEAD" and reply.status in (200, 206) and reply.size > 0
        plan = self.server.hub.faults.plan(request) if carries else Plan()
        size = reply.size
        start, stop, status = 0, size, reply.status
        headers = dict(reply.headers)
        if reply.ranges and not plan.whole:
            try:
                if part := byte_range(self.headers.get("Range"), size):
                    start, stop = part
                    status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
            except ValueError:
                reply, plan, status, start, stop = Reply(), Plan(), 416, 0, 0
                headers = {"Content-Range": f"bytes */{size}"}
        entry.status = status
        self.send_response(status)
        length = {"Connection": "close"} if plan.endless else {"Content-Length": str(stop - start)}
        for name, value in {**headers, **length, **plan.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method == "HEAD" or stop == start:
            return
        with reply.open() as stream:
            stream.seek(start)
            self._stream(stream, stop - start, plan, entry)

    def _stream(self, stream: BinaryIO, length: int, plan: Plan, entry: Exchange) -> None:
        """Send `length` bytes, or what the plan makes of them."""
        end = length if plan.stop is None else min(plan.stop, length)
        step = CHUNK if plan.rate is None else max(1, int(plan.rate * _TICK))
        while entry.sent < end and (chunk := stream.read(min(step, end - entry.sent))):
            self.wfile.write(plan.shape(chunk, entry.sent))
            entry.sent += len(chunk)
            if plan.rate is not None and self.server.hub.stopping.wait(len(chunk) / plan.rate):
                break
        while plan.endless and not self.server.hub.stopping.is_set():
            self.wfile.write(bytes(step))
            entry.sent += step
        if entry.sent < length:
            self.close_connection = True  # less than was announced: the client must notice

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the log is `LoopbackHub.requests`."""
