"""Serving a release, or one GGUF: its digest is checked, then the pinned ``llama-server`` runs it as its card says.

Nothing is left running. SIGINT, SIGTERM and SIGHUP end the server in good order; where this process is killed, the
kernel kills the server (PR_SET_PDEATHSIG).
"""

import json
import re
import shlex
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

import requant
from requant.documents.file_names import MANIFEST, SUMS
from requant.documents.manifest import LONGEST, Manifest, own_manifest
from requant.documents.pins import TABLE, ToolchainPin, read_pins
from requant.documents.sums import read_sums
from requant.formats.gguf import Header
from requant.formats.gguf_parts import models, part_names, read_gguf
from requant.ground.cores import cores
from requant.ground.digests import Digest, digest_file, read_small
from requant.ground.errors import FormatError, MismatchError, PlaceError, SourceError, ToolError
from requant.ground.gpus import gpus
from requant.ground.programs import Run
from requant.ground.progress import progress
from requant.ground.text import in_units, listed
from requant.pipeline import layout
from requant.pipeline.recipe import named_file
from requant.places.place import LocalPlace
from requant.toolchain.instrument import Instrument
from requant.toolchain.server import Server, serve
from requant.toolchain.serving import PARALLEL, SERVER
from requant.toolchain.variants import NATIVE, PORTABLE

ROOT = Path(requant.__file__).resolve().parents[2]
"""The checkout; of an installed package a folder that holds nothing of ours."""
LONGEST_UNASKED = 32768
"""Tokens of context for a model without a card, if it can take so many."""
QUESTION = "Explain quantization in three sentences."
NO_KEY = "none"
ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What else than SIGINT ends a server in good order; Windows has not both."""


@dataclass(frozen=True)
class Checked:
    """A model that may be served: its first file, what was checked of it, its context in tokens, and its llama.cpp."""

    file: Path
    sentences: tuple[str, ...]
    context: int
    toolchain: ToolchainPin

    @property
    def name(self) -> str:
        """What requests may call it: its file's name without what could end a word there."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.file.stem)


def check_model(subject: Path, context: int | None = None) -> Checked:
    """Find the model that is meant and compare its files with the papers beside it.

    Args:
        subject: a GGUF, or a folder with one that is no importance matrix.
        context: tokens; by default the card's, or of a model without one what it can take, up to ``LONGEST_UNASKED``.

    Raises:
        MismatchError: when a file has another digest than ``SHA256SUMS`` or ``manifest.json`` says.
        FormatError, PlaceError: when there is no model, more than one, or one that cannot be read.
        UnsupportedError: when the manifest is of a version that is not known.
    """
    file = _model(subject)
    with LocalPlace(file, str(file)) as place:
        _, header = read_gguf(place, file.name)
    _require_model(header)
    sums = read_sums(file.parent) if (file.parent / SUMS).exists() else {}
    manifest = _manifest(file.parent / MANIFEST)
    if context is None:
        context = manifest.recipe.document["card"]["chat"]["context"] if manifest else _own_context(header)
    return Checked(file, tuple(_check_files(file, sums, manifest)), context, _toolchain(manifest))


def serve_model(subject: Path, context: int | None, port: int, say: Callable[[str], object]) -> None:
    """Check a model and serve it until this process is asked to end.

    Args:
        subject: as of ``check_model``.
        context: as of ``check_model``.
        port: on the loopback interface; 0 is any free one.
        say: prints what a person wants to know, when all is ready.

    Raises:
        ToolError: when llama-server is not built, cannot load the model or ends by itself, or the port is taken.
        KeyboardInterrupt: when it is ended before it is ready. Also as ``check_model``.
    """
    with _ended_by_signals():
        model = check_model(subject, context)
        tool, backend = _built(model.toolchain)
        _require_free(port)
        with _log() as log:
            instrument = Instrument.open(tool, backend, Run(cores(), log))
            with serve(model.file, instrument, model.context, port=port, alias=model.name) as server:
                try:
                    # From now on this is how it is meant to end.
                    say(ready(model, server, instrument))
                    server.process.wait()
                except KeyboardInterrupt:
                    say("stopped")


def ready(model: Checked, server: Server, instrument: Instrument) -> str:
    """What a person wants to know of a server that runs: what it is, how to ask it, how it ends."""
    url = f"{server.url}/v1"
    threads = f"{instrument.variant}, {instrument.run.threads} threads"
    body = json.dumps({"model": model.name, "messages": [{"role": "user", "content": QUESTION}]})
    lines = [
        *model.sentences,
        f"serving   {model.file}, ready after {server.load_seconds:.1f} s",
        f"base URL  {url}",
        f"key       none is needed; clients that want one take any, such as {NO_KEY}",
        f"model     {model.name}",
        f"context   {_share(server):,} tokens for each of {PARALLEL} conversations at a time",
        f"computes  llama.cpp {instrument.commit[:12]}, {threads}",
        f"log       {instrument.run.log}",
        "",
        f"curl {url}/chat/completions \\",
        '  -H "Content-Type: application/json" \\',
        f"  -d {shlex.quote(body)}",
        "",
        "from openai import OpenAI",
        "",
        f'client = OpenAI(base_url="{url}", api_key="{NO_KEY}")',
        f'messages = [{{"role": "user", "content": "{QUESTION}"}}]',
        f'answer = client.chat.completions.create(model="{model.name}", messages=messages)',
        "print(answer.choices[0].message.content)",
        "",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def _share(server: Server) -> int:
    """Tokens of context that each conversation has, as the server tells: it rounds them up."""
    try:
        answer = httpx2.get(f"{server.url}/props", timeout=10, trust_env=False)
    except httpx2.HTTPError as error:
        raise SourceError(f"{SERVER} does not answer ({type(error).__name__}): start it again") from error
    return int(answer.json()["default_generation_settings"]["n_ctx"])


def _model(subject: Path) -> Path:
    """The first file of the model that is meant."""
    if not subject.exists():
        raise PlaceError(f"{subject} does not exist: name the folder of a release, or a GGUF")
    if not subject.is_dir():
        return subject.with_name(part_names(subject.name)[0])
    names = [name for name in models([path.name for path in subject.iterdir()]) if not name.startswith("imatrix")]
    if not names:
        raise PlaceError(f"{subject} holds no GGUF of a model: name the folder of a release, or a file")
    if len(names) > 1:
        raise PlaceError(
            f"{subject} holds {len(names)} models ({listed(names)}): name one, such as {subject / names[0]}"
        )
    return subject / names[0]


def _require_model(header: Header) -> None:
    kind = header.metadata.get("general.type")
    if kind is not None and kind.value != "model":
        raise FormatError(f"{header.name} is no language model by its general.type: name another file")


def _own_context(header: Header) -> int:
    """The context of a model that no card speaks of."""
    architecture = header.metadata.get("general.architecture")
    name = architecture.value if architecture else None
    known = header.metadata.get(f"{name}.context_length") if isinstance(name, str) else None
    own = known.value if known else None
    return min(own, LONGEST_UNASKED) if isinstance(own, int) and own > 0 else LONGEST_UNASKED


def _manifest(path: Path) -> Manifest | None:
    """Our manifest beside a model, which is never longer; somebody else's is passed over."""
    if not path.is_file() or path.stat().st_size > LONGEST:
        return None
    return own_manifest(read_small(path, LONGEST))


def _check_files(file: Path, sums: Mapping[str, str], manifest: Manifest | None) -> Iterator[str]:
    """Compare every file of the model, and the manifest, with the papers beside them; say what that showed."""
    folder = file.parent
    if MANIFEST in sums and (folder / MANIFEST).is_file():
        _require(MANIFEST, digest_file(folder / MANIFEST).sha256, sums[MANIFEST], SUMS)
    for name in part_names(file.name):
        found = _digest(folder / name)
        papers = list[str]()
        if name in sums:
            _require(name, found.sha256, sums[name], SUMS)
            papers.append(SUMS)
        if manifest is not None and name in manifest.files:
            _require(name, found.sha256, manifest.files[name].sha256, MANIFEST)
            papers.append(MANIFEST)
        said = (
            f"as {' and '.join(papers)} beside it say{'s' * (len(papers) == 1)}" if papers else "named by no paper here"
        )
        yield f"checked   {name}, {in_units(found.size)}: SHA-256 {found.sha256}, {said}"
        if not papers:
            yield "unchecked whose bytes these are: compare the digest with the one that the publisher names"
    if sums or manifest:
        yield "unchecked who published it: requant verify RELEASE --key FILE looks at the signature"


def _digest(path: Path) -> Digest:
    with progress(path.stat().st_size, f"checking {path.name}", "B", scale=True) as bar:
        return digest_file(path, bar.update)


def _require(name: str, found: str, expected: str, paper: str) -> None:
    if found != expected:
        raise MismatchError(f"{name} has SHA-256 {found}, {paper} says {expected}: get the file again")


def _toolchain(manifest: Manifest | None) -> ToolchainPin:
    """The llama.cpp that made the release where the pin table has it, else the table's first."""
    pins = read_pins(TABLE, "the pin table").toolchains
    made = (pin for pin in pins.values() if manifest and pin.commit == manifest.inputs.toolchain.commit)
    return next(made, next(iter(pins.values())))


def _built(pin: ToolchainPin) -> tuple[Path, Path]:
    """The build records of the server and of the best backend that is built for this machine."""
    variants = [NATIVE, PORTABLE]
    with suppress(ToolError):
        variants = [*(gpu.variant for gpu in gpus()), *variants]
    tool = named_file(layout.tool(pin.name, SERVER), ROOT)
    backends = [named_file(layout.backend(pin.name, variant), ROOT) for variant in variants]
    backend = next((record for record in backends if record.exists()), None)
    if backend is None or not tool.exists():
        raise ToolError(f"{SERVER} of {pin.name} is not built: type this in a clone of requant, after make setup: "
                        f"{build_command(pin.name)}")  # fmt: skip
    return tool, backend


def build_command(toolchain: str) -> str:
    """What builds the server and a backend of a llama.cpp in the pin table, in some four minutes."""
    targets = f"{layout.tool(toolchain, SERVER)} {layout.backend(toolchain, NATIVE)}"
    return f".venv/bin/requant make config/tiny.yaml {targets} --config toolchain={toolchain}"


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As the server does: a port that was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ToolError(f"port {port} cannot be had ({error.strerror}): name another with --port") from error


@contextmanager
def _log() -> Iterator[Path]:
    """A place for the server's log, which is kept where it failed."""
    folder, failed = Path(tempfile.mkdtemp(prefix="requant-serve-")), False
    try:
        yield folder / f"{SERVER}.log"
    except Exception:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals in ``ENDS`` do what SIGINT does, but for those that this process was told to ignore."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
