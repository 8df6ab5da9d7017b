"""What can be reached of what the workflow would ask: the package index, by pip; the hubs, or their mirrors."""

import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from requant.documents.pins import ModelPin, ToolchainPin
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, PlaceError, ToolError
from requant.ground.programs import capture, clean_environment
from requant.ground.text import first_line
from requant.machine.finding import Finding, State
from requant.pipeline import layout
from requant.places.addresses import Label
from requant.places.pages import HUGGING_FACE, MODELSCOPE, Hub

SECONDS = 5
"""For an answer to begin."""
PATIENCE = 15.0
"""Seconds for all of it; names that nobody resolves take long."""
PIP = ("-m", "pip", "--disable-pip-version-check", "--timeout", str(SECONDS), "--retries", "0")


def reachable(toolchain: ToolchainPin, model: ModelPin) -> list[Finding]:
    """Ask all of them at the same time: the index for llama.cpp's source, the hubs for the model."""
    mirror = model.modelscope or {}
    asked = {
        "index": lambda: ask_index(toolchain),
        "hub": lambda: ask_hub("hub", HUGGING_FACE, f"/api/models/{model.repo}"),
        "modelscope": lambda: ask_hub("modelscope", MODELSCOPE, f"/api/v1/models/{mirror.get('repo', model.repo)}"),
    }
    return _at_the_same_time(asked)


def ask_index(pin: ToolchainPin) -> Finding:
    """Whether pip, with all its settings, finds the package that llama.cpp's source comes in."""
    if pin.sdist is None:
        return Finding("index", State.OK, f"not asked: {pin.name} comes from a git repository")
    wanted = f"{pin.sdist.project} {pin.sdist.version}"
    fetched = Path(layout.toolchain(pin.name), "source.json").exists()
    state, here = (State.LIMITED, ", but llama.cpp's source is here already") if fetched else (State.MISSING, "")
    command = [sys.executable, *PIP, "index", "versions", pin.sdist.project, "--no-binary", ":all:"]
    try:
        said = capture(command, Path.cwd(), clean_environment({}, network=True), PATIENCE)
    except ToolError as error:
        if "No module named pip" in str(error):
            return Finding("index", State.MISSING, "there is no pip in this environment: run make setup")
        return Finding(
            "index", state, f"pip finds no {pin.sdist.project}{here}: check the network, or set PIP_INDEX_URL"
        )
    if pin.sdist.version in re.split(r"[\s,()]+", said):
        return Finding("index", State.OK, f"has {wanted}, the source of llama.cpp")
    return Finding("index", state, f"lacks {wanted}, the source of llama.cpp{here}: set PIP_INDEX_URL to another index")


def ask_hub(what: str, site: Hub, path: str) -> Finding:
    """Whether a hub, or the mirror that the environment names, answers in its own protocol; no token goes along."""
    if site is HUGGING_FACE and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding(what, State.OK, "not asked: HF_HUB_OFFLINE is set")
    try:
        site.require_endpoint()
    except PlaceError as error:
        return Finding(what, State.LIMITED, str(error))
    shown, elsewhere = (
        Label(site.endpoint),
        f"name a mirror in {site.variable}, or take weights from a folder (source=...)",
    )
    try:
        with httpx2.Client(timeout=SECONDS, follow_redirects=True) as client:
            answer = client.get(f"{site.endpoint.rstrip('/')}{path}")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return Finding(what, State.LIMITED, f"{shown} cannot be reached ({type(error).__name__}): {elsewhere}")
    except (ValueError, ImportError) as error:
        said = f"the environment's proxy or certificates are unusable ({first_line(error)}): correct it"
        return Finding(what, State.LIMITED, said)
    if answer.status_code >= 500:
        return Finding(what, State.LIMITED, f"{shown} answers {answer.status_code}: try again later, or {elsewhere}")
    try:
        parse(answer.content, "the answer")
    except FormatError:
        return Finding(what, State.LIMITED, f"{shown} does not speak the hub's protocol: correct {site.variable}")
    return Finding(what, State.OK, f"{shown} answers")


def _at_the_same_time(asked: dict[str, Callable[[], Finding]]) -> list[Finding]:
    found: dict[str, Finding] = {}

    def ask(what: str, question: Callable[[], Finding]) -> None:
        found[what] = question()

    # They die with this process: a name that is still looked up keeps nobody waiting.
    threads: Sequence[threading.Thread] = [
        threading.Thread(target=ask, args=pair, daemon=True) for pair in asked.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    late = f"no answer within {PATIENCE:.0f} seconds: check the network and its name server"
    return [found.get(what, Finding(what, State.LIMITED, late)) for what in asked]
