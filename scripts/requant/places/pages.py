"""Addresses of the pages on which hubs show a repository or a file of it, read as what they show.

    https://huggingface.co/OWNER/NAME[/tree/REVISION]                   hf://OWNER/NAME[@REVISION]
    https://huggingface.co/OWNER/NAME/blob/REVISION/FILE                hf://OWNER/NAME@REVISION/FILE
    https://modelscope.cn/models/OWNER/NAME[/summary, /files]           ms://OWNER/NAME
    https://modelscope.cn/models/OWNER/NAME/file/view/REVISION/FILE     ms://OWNER/NAME@REVISION/FILE

So with /resolve/, where a browser downloads, at the mirrors that the environment names, without https:// before a hub's
own name, and with :QUANT behind OWNER/NAME, as other programs name one. Nobody is asked here.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from requant.ground.errors import PlaceError
from requant.places.addresses import SCHEME, Label
from requant.places.repository import PATH

FORM = "write hf://owner/name[@revision][/file] or ms://owner/name[@revision][/file]"
REPOSITORIES = ("tree", "commit", "commits")
"""What comes before the revision in addresses that show no file."""
WEIGHTS = (".gguf", ".safetensors")


@dataclass(frozen=True)
class Hub:
    """How one hub spells addresses.

    ``hosts`` has the address of the site by host: what lies on one site need not lie on another. ``prefix`` comes
    before owner and name, ``files`` between them and a revision with its file, which may also stand in the query as
    ``named``; ``tabs`` show the whole repository. ``download`` is the command, with ``{repo}`` and ``{where}``. To an
    endpoint without a scheme the hub's client ``completes`` https://, or takes it as it is, and reaches nobody.
    """

    scheme: str
    variable: str
    hosts: Mapping[str, str]
    prefix: Sequence[str]
    files: Sequence[Sequence[str]]
    tabs: Sequence[str]
    named: str
    no_owners: Sequence[str]
    download: str
    completes: bool

    @property
    def endpoint(self) -> str:
        """The address that is asked: a mirror that the environment names, or the site."""
        asked = os.environ.get(self.variable) or next(iter(self.hosts.values()))
        return asked if SCHEME.match(asked) else f"https://{asked}"

    def require_endpoint(self) -> None:
        """Refuse an endpoint that is no address, before a hub's client is imported, which would fail on it.

        Raises:
            PlaceError: naming the variable of the environment, and how it is written.
        """
        try:
            url = urlsplit(self.endpoint)
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise PlaceError(f"{self.variable} is no address: write one such as https://hub.example, or unset it")
        if not self.completes and not SCHEME.match(os.environ.get(self.variable, self.endpoint)):
            raise PlaceError(f"{self.variable} lacks https:// before its host: write {Label(self.endpoint)}")

    def below(self, url: SplitResult) -> list[str] | None:
        """The parts of an address behind this hub's own; ``None`` where it is another's."""
        parts = [part for part in url.path.split("/") if part]
        if url.hostname in self.hosts:
            return parts
        try:
            here = urlsplit(self.endpoint)
            same = here.hostname is not None and (here.hostname, here.port) == (url.hostname, url.port)
        except ValueError:
            return None  # whoever asks there, or reads that address, says what is wrong with it
        base = [part for part in here.path.split("/") if part]
        return parts[len(base) :] if same and parts[: len(base)] == base else None

    def require_site(self, url: SplitResult, shown: str) -> None:
        """Refuse an address of another site than the one that is asked.

        Raises:
            PlaceError: saying how to ask it.
        """
        self.require_endpoint()
        there = self.hosts.get(urlsplit(self.endpoint).hostname or "")
        site = self.hosts.get(url.hostname or "")
        if site and there and site != there:
            raise PlaceError(f"{shown} is a page of {site}, but {there} would be asked: set {self.variable}={site}")


HUGGING_FACE = Hub(
    scheme="hf",
    variable="HF_ENDPOINT",
    hosts=dict.fromkeys(("huggingface.co", "www.huggingface.co", "hf.co"), "https://huggingface.co"),
    prefix=(),
    files=(("blob",), ("resolve",), ("raw",), ("blame",)),
    tabs=(),
    named="show_file_info",
    no_owners=("api", "blog", "collections", "datasets", "docs", "learn", "models", "papers", "posts", "spaces"),
    download="hf download {repo} --local-dir {where}",
    completes=False,
)
MODELSCOPE = Hub(
    scheme="ms",
    variable="MODELSCOPE_ENDPOINT",
    hosts=dict.fromkeys(("modelscope.cn", "www.modelscope.cn"), "https://modelscope.cn")
    | dict.fromkeys(("modelscope.ai", "www.modelscope.ai"), "https://www.modelscope.ai"),
    prefix=("models",),
    files=(("file", "view"), ("resolve",)),
    tabs=("summary", "files"),
    named="fileName",
    no_owners=(),
    download="modelscope download --model {repo} --local_dir {where}",
    completes=True,
)
HUBS = {hub.scheme: hub for hub in (HUGGING_FACE, MODELSCOPE)}


@dataclass(frozen=True)
class Shown:
    """What lies on a hub: a repository, at a ``revision`` if one is named, or one ``file`` or ``quant`` of it."""

    hub: Hub
    repo: str
    revision: str | None
    file: str | None
    quant: str | None = None

    @classmethod
    def of(cls, hub: Hub, name: str) -> Self | None:
        """Read what follows ``hf://`` or ``ms://``."""
        found = PATH.fullmatch(name)
        return cls(hub, found["repo"], found["revision"], found["file"], found["quant"]) if found else None

    @property
    def text(self) -> str:
        """The place, as all verbs take it."""
        at = f"@{self.revision}" if self.revision else ""
        part = f":{self.quant}" if self.quant else f"/{self.file}" if self.file else ""
        return f"{self.hub.scheme}://{self.repo}{at}{part}"

    @property
    def download(self) -> str:
        """The command that fetches it."""
        parts = [
            self.repo,
            *([self.file] if self.file else []),
            *(["--revision", self.revision] if self.revision else []),
        ]
        return self.hub.download.format(repo=shlex.join(parts), where=shlex.quote(self.repo.partition("/")[2]))


def spelled(text: str) -> str:
    """Spell what a page of a hub shows as ``hf://`` or ``ms://``; any other text stays as it is.

    >>> spelled("https://huggingface.co/Qwen/Qwen3-4B/blob/main/config.json")
    'hf://Qwen/Qwen3-4B@main/config.json'
    >>> spelled("https://example.com/model.gguf")
    'https://example.com/model.gguf'

    Raises:
        PlaceError: when it is an address of a hub, but shows neither a repository of a model nor a file of one.
    """
    found = _shown(text)
    return found.text if found else text


def require_here(text: str) -> None:
    """Refuse what lies on a hub or a server, where only files of this machine are read.

    Raises:
        PlaceError: with the command that fetches it.
    """
    match = SCHEME.match(text)
    if match is None:
        return
    scheme, _, rest = text.partition("://")
    found = Shown.of(HUBS[scheme], rest) if scheme in HUBS else _shown(text)
    how = found.download if found else "curl -LO or the like"
    raise PlaceError(f"{Label(text)[:256]} does not lie on this machine: fetch it first, with {how}")


def _shown(text: str) -> Shown | None:
    """What an address shows; ``None`` where it is none of a hub, or already that of a file."""
    if "://" not in text and any(text.lower().startswith(f"{host}/") for hub in HUBS.values() for host in hub.hosts):
        text = f"https://{text}"
    if not text.lower().startswith(("http://", "https://")):
        return None
    try:
        url = urlsplit(text)
    except ValueError:
        return None  # whoever reads it says what is wrong with it
    for hub, parts in ((hub, hub.below(url)) for hub in HUBS.values()):
        if parts is None:
            continue
        shown = Label(text)
        if found := _read(hub, parts, url, shown):
            hub.require_site(url, shown)
            return found
        if url.hostname in hub.hosts and parts[:1] != ["api"] and parts[3:4] != ["resolve"]:
            raise PlaceError(f"{shown[:256]} shows no model and no file of one: {FORM}")
    return None


def _read(hub: Hub, parts: Sequence[str], url: SplitResult, shown: str) -> Shown | None:
    """What the parts of an address show.

    Raises:
        PlaceError: when it is a folder.
    """
    start = len(hub.prefix)
    if list(parts[:start]) != list(hub.prefix) or len(parts) < start + 2 or parts[start] in hub.no_owners:
        return None
    repo, rest = "/".join(parts[start : start + 2]), list(parts[start + 2 :])
    if not rest and ":" in repo:
        repo, _, quant = repo.partition(":")
        return _checked(Shown(hub, repo, None, None, quant))
    in_query = next(iter(parse_qs(url.query).get(hub.named, [])), None)
    if not rest or (len(rest) == 1 and rest[0] in hub.tabs):
        # At a mirror this may as well be a file in a folder.
        is_file = url.hostname not in hub.hosts and repo.endswith(WEIGHTS)
        return None if is_file else _checked(Shown(hub, repo, None, in_query))
    for words in (*hub.files, *((word,) for word in REPOSITORIES)):
        if rest[: len(words)] == list(words):
            revision, file = _revision(rest[len(words) :])
            if file is not None and words[0] in REPOSITORIES:
                raise PlaceError(
                    f"{shown[:256]} shows a folder: write {hub.scheme}://{repo}@{revision}/ and a file of it"
                )
            if file is None and in_query is None and words[0] not in REPOSITORIES:
                return None
            return _checked(Shown(hub, repo, revision, file or in_query)) if revision else None
    return None


def _revision(parts: Sequence[str]) -> tuple[str | None, str | None]:
    """The revision that an address names, whether its slashes are escaped or not, and what follows."""
    count = 3 if parts[:1] == ["refs"] else 1
    revision, file = (unquote("/".join(some)) for some in (parts[:count], parts[count:]))
    return revision or None, file or None


def _checked(meant: Shown) -> Shown | None:
    """What can be spelled so that it means the same."""
    return meant if Shown.of(meant.hub, meant.text.partition("://")[2]) == meant else None
