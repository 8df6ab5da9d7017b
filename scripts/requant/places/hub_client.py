"""The HTTP client of ``huggingface_hub`` under our rules for redirects, which mirrors of the Hub answer with.

By itself it asks something else where a POST is redirected, follows from https to http, stops where a file has moved to
another Hub, and takes the token along to hosts that it trusts. Here every redirect is followed, as the same question;
none leads from https to http; and the token is for the origin of ``HF_ENDPOINT`` alone.
"""

from collections.abc import Callable
from typing import Any

import httpx2
from huggingface_hub import constants
from huggingface_hub.utils._http import hf_request_event_hook

from requant.places.addresses import Address, Label, checked, may_share, redirected, withheld
from requant.places.pace import GRANTS

ASKED = ("/api/", "/resolve/")
"""What the Hub is asked has one of these in its path; what it redirects to, a storage, has none."""


class HubClient(httpx2.Client):
    """To be handed to ``huggingface_hub.set_client_factory``."""

    def __init__(self) -> None:
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [hf_request_event_hook, _guard],
            "response": [_look],
        }
        super().__init__(event_hooks=hooks, follow_redirects=True, timeout=None)

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; follow a redirect to another Hub also for who wants to see those to storage."""
        answer = super().send(request, **options)
        for _ in range(self.max_redirects):
            there = answer.next_request
            if there is None or not _is_asked(there.url):
                return answer
            answer.close()
            answer = super().send(there, **options)
        raise httpx2.TooManyRedirects("it does not end", request=request)


def _is_asked(url: httpx2.URL) -> bool:
    return any(part in url.path for part in ASKED)


def _guard(request: httpx2.Request) -> None:
    """Keep the token from others than the user named, the questions from who could change the answers, and the pace."""
    endpoint = httpx2.URL(constants.ENDPOINT)
    if not may_share(endpoint, request.url):
        request.headers.pop("Authorization", None)
    if endpoint.scheme == "https" and request.url.scheme == "http":
        checked(Address(str(request.url)), Label(str(request.url)))
    GRANTS.wait(str(request.url))


def _look(answer: httpx2.Response) -> None:
    """Refuse a redirect that may not be followed, and keep the question that is redirected.

    Raises:
        SourceError: when it leads from https to http, or nowhere; AccessError: when a token is wanted where none goes.
    """
    url = answer.request.url
    if answer.has_redirect_location:
        here = Address(str(url), plain=url.scheme == "http")
        redirected(here, answer.headers["Location"], Label(here.url))
        if answer.request.method == "POST":
            # What is posted are names of files to look up. With other codes a client goes on with a GET.
            answer.status_code = 307
    elif answer.status_code in (401, 403) and _is_asked(url) and not may_share(httpx2.URL(constants.ENDPOINT), url):
        raise withheld(constants.ENDPOINT, url, answer.status_code, "HF_ENDPOINT")
