"""Addresses of files: which may be used, where a redirect may lead, and what a message may show of one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self

from requant.ground.errors import AccessError, SourceError
from requant.ground.text import bare, without_secrets

if TYPE_CHECKING:
    import httpx2

SCHEME = re.compile(r"(?i)[a-z][a-z0-9+.-]*://")


class Label(str):
    """What a place is called. It holds no secrets, whatever it is made of: no password, no query."""

    def __new__(cls, text: str) -> Self:
        """Make it of an address, or of a text that may hold some."""
        # An address is one as a whole, spaces in it or not.
        return super().__new__(cls, bare(text) if SCHEME.match(text) else without_secrets(text))


@dataclass(frozen=True)
class Address:
    """Where a file can be had.

    ``headers`` (a token) are for the origin of ``url`` alone. ``plain`` says that the user named a server without TLS;
    otherwise only this machine may be spoken to without.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    plain: bool = False


def checked(address: Address, name: str) -> Address:
    """Give the address back if it may be used.

    Raises:
        SourceError: naming the file, for anything but https, or http to this machine or a mirror the user named.
    """
    import httpx2

    try:
        # The parser that connects is the one to ask: two parsers could see two hosts.
        url = httpx2.URL(address.url)
    except httpx2.InvalidURL as error:
        raise SourceError(f"{name} has no usable address: it must begin with https:// and name a host") from error
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 1 << 16:
        raise SourceError(f"{name} has no usable address: it must begin with https:// and name a host")
    if url.scheme == "http" and not address.plain and not is_loopback(url.host):
        raise SourceError(f"{name} would come over plain http, where anybody can change it: use https")
    return address


def redirected(address: Address, location: str, name: str) -> Address:
    """Where a redirect leads; the headers stay behind if that is another origin.

    Raises:
        SourceError: when it leads from https to http, or nowhere.
    """
    import httpx2

    here = httpx2.URL(address.url)
    try:
        there = here.join(location)
    except httpx2.InvalidURL as error:
        raise SourceError(f"{name} is redirected to no usable address: take it from another source") from error
    if here.scheme == "https" and there.scheme == "http":
        raise SourceError(f"{name} is redirected from https to plain http: take it from another source")
    return checked(Address(str(there), address.headers if may_share(here, there) else {}, address.plain), name)


def may_share(here: "httpx2.URL", there: "httpx2.URL") -> bool:
    """Whether what is secret between us and ``here`` may go ``there``: to the same origin, or the same host by TLS."""
    by_tls = (here.scheme, there.scheme) == ("http", "https") and here.port is there.port is None
    return here.host == there.host and (by_tls or (here.scheme, here.port) == (there.scheme, there.port))


def withheld(endpoint: str, url: "httpx2.URL", status: int, variable: str) -> AccessError:
    """What to say where a hub redirected to ``url``, which refuses who has no token, and none went along.

    ``variable`` is the one of the environment that names the ``endpoint``.
    """
    there = f"{url.scheme}://{url.host}{'' if url.port is None else f':{url.port}'}"
    return AccessError(
        f"{Label(endpoint)} redirects to {there}, which refuses access ({status}), and no token goes to another host: "
        f"name {there} in {variable}"
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or number."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
