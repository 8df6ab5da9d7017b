"""requant.places.addresses: no plain http from afar, no token for another origin, no secret in a message."""

import pytest

from requant.ground.errors import SourceError
from requant.places.addresses import Address, Label, checked, redirected

ADDRESSES: dict[str, tuple[Address, str]] = {
    "https": (Address("https://example.com/x"), ""),
    "this machine": (Address("http://127.0.0.1:80/x"), ""),
    "this machine, by name": (Address("http://localhost/x"), ""),
    "this machine, IPv6": (Address("http://[::1]/x"), ""),
    "a mirror": (Address("http://mirror.example.com/x", plain=True), ""),
    "plain": (Address("http://example.com/x"), "plain http"),
    "like this machine": (Address("http://127.0.0.1.example.com/x"), "plain http"),
    "like this machine, by password": (Address("http://127.0.0.1@example.com/x"), "plain http"),
    "this machine, to the client": (Address("http://example.com\\@127.0.0.1/"), ""),
    "another protocol": (Address("ftp://example.com/x"), "no usable address"),
    "no host": (Address("https:///x"), "no usable address"),
    "no URL": (Address("x"), "no usable address"),
    "unprintable": (Address("https://a\0b/"), "no usable address"),
}


@pytest.mark.parametrize(("address", "words"), ADDRESSES.values(), ids=list(ADDRESSES))
def test_addresses(address: Address, words: str) -> None:
    if not words:
        assert checked(address, "x.bin") is address
        return
    with pytest.raises(SourceError, match=rf"^x\.bin .*{words}"):
        checked(address, "x.bin")


TOKEN = {"Authorization": "Bearer secret"}
LEADS: dict[str, tuple[str, str, bool]] = {
    "same origin": ("/y", "https://hub.example/y", True),
    "same origin, in full": ("https://hub.example:443/y", "https://hub.example/y", True),
    "another host": ("https://cdn.example/y", "https://cdn.example/y", False),
    "another port": ("https://hub.example:444/y", "https://hub.example:444/y", False),
    "a host below": ("https://a.hub.example/y", "https://a.hub.example/y", False),
    "without a scheme": ("//cdn.example/y", "https://cdn.example/y", False),
}


@pytest.mark.parametrize(("location", "url", "keeps"), LEADS.values(), ids=list(LEADS))
def test_tokens_stay_with_their_origin(location: str, url: str, keeps: bool) -> None:
    found = redirected(Address("https://hub.example/x", TOKEN), location, "x.bin")
    assert found == Address(url, TOKEN if keeps else {})


UPGRADES: dict[str, tuple[str, bool]] = {
    "the same host": ("https://hub.example/y", True),
    "the same host, a port": ("https://hub.example:8443/y", False),
    "another host": ("https://other.example/y", False),
}


@pytest.mark.parametrize(("location", "keeps"), UPGRADES.values(), ids=list(UPGRADES))
def test_tokens_go_along_to_the_same_host_by_tls(location: str, keeps: bool) -> None:
    found = redirected(Address("http://hub.example/x", TOKEN, plain=True), location, "x.bin")
    assert found == Address(location, TOKEN if keeps else {}, plain=True)


@pytest.mark.parametrize("location", ["http://hub.example/x", "http://127.0.0.1/x", "HTTP://hub.example/x"])
def test_never_from_https_to_http(location: str) -> None:
    with pytest.raises(SourceError, match="redirected from https to plain http"):
        redirected(Address("https://hub.example/x", plain=True), location, "x.bin")


@pytest.mark.parametrize(
    "text",
    [
        "https://user:secret@host/a/b",
        "https://host/a/b?token=secret",
        "https://host/a/b#secret",
        "https://s:e@u:secret@host/a/b?x@y",
    ],
)
def test_messages_hold_no_secrets(text: str) -> None:
    assert Label(text) == "https://host/a/b"
    assert Label(f"({text}), on {text}.") == "(https://host/a/b), on https://host/a/b."
    assert str(SourceError(f"{text}: gone")) == "https://host/a/b: gone"


# What is written, and what is shown of it.
IN_ADDRESSES = {
    "https://proxy.example/https://user:secret@host/f.gguf?sig=secret": "https://proxy.example/...",
    "https://proxy.example/https:/user:secret@host/f.gguf": "https://proxy.example/...",
    "https://proxy.example/https://host/f.gguf": "https://proxy.example/...",
    "https://a|https://user:secret@b/x": "https://...",
    "https://a/x|https://user:secret@b/x": "https://a/...",
    "https://secret:12/34@host/x": "https://...",
    "https://secret:12?3/4@host/x": "https://...",
    "hf://secret:12/34@host/x": "hf://...",
    "https://host:8443/a/b?token=secret": "https://host:8443/a/b",
    "hf://owner/name@main/x.gguf": "hf://owner/name@main/x.gguf",
    "ms://owner/name@master": "ms://owner/name@master",
    "https://host/a?mail=me@b": "https://host/a",
}


@pytest.mark.parametrize(("text", "shown"), IN_ADDRESSES.items())
def test_secrets_of_an_address_in_an_address(text: str, shown: str) -> None:
    assert Label(text) == shown
    assert Label(f"see {text}") == f"see {shown}"
    assert str(SourceError(f"{text} is gone")) == f"{shown} is gone"


@pytest.mark.parametrize("user", ["user:sec/ret@", "user:sec?ret@", "user:12#secret@", "sec ret:x@", "a:b@secret@"])
def test_secrets_that_look_like_something_else(user: str) -> None:
    """What cannot be told from a password is left out, at the price of the host."""
    shown = Label(f"https://{user}host/a")
    assert "sec" not in shown and "ret" not in shown
