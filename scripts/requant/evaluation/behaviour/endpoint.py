"""A server that speaks OpenAI's chat completions, as llama.cpp, vLLM and others do: one request in, one answer out.

``httpx2`` is imported when the first request is made. Whatever the server does, an answer is an ``Exchange``: what came
back, or one sentence of why nothing did.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from requant import __version__
from requant.evaluation.behaviour.answer import Answer
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, PlaceError, RecipeError, SourceError
from requant.ground.text import first_line
from requant.places.addresses import is_loopback
from requant.places.retry import retried

if TYPE_CHECKING:
    import httpx2

    from requant.evaluation.behaviour.suite import Item

CONNECT_SECONDS = 10.0
SECONDS = 1800.0
"""From a request to the end of its answer. Long chains of thought on slow machines take their time."""
MAX_ANSWER = 1 << 24
"""Bytes of one answer."""
MAX_COMPLAINT = 1 << 16
"""Bytes of an error that are read."""
REFUSALS = (400, 413, 422)
"""Statuses that say something of one request, and nothing of the next."""
NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers in place of a server, and a server that is still loading."""
PROBE = "Say yes."
SEED = 0
THINKING = ("default", "on", "off")
THINK_START, THINK_END = "<think>", "</think>"


@dataclass(frozen=True)
class Settings:
    """What is asked of the model beside the question; part of what makes two runs the same."""

    model: str
    thinking: str = "default"
    temperature: int = 0
    seed: int = SEED


@dataclass(frozen=True)
class Exchange:
    """One answer: what the server sent (``response``, JSON) and its message, or, with neither, why not (``error``).

    ``refused`` says that the server did not want this very request; it may answer others.
    """

    response: Mapping[str, Any] | None = None
    answer: Answer | None = None
    error: str = ""
    refused: bool = False


class _PassingError(Exception):
    """The server is busy; its ``response`` may say for how long."""

    def __init__(self, why: str, response: "httpx2.Response") -> None:
        super().__init__(why)
        self.response = response


class _FinalError(Exception):
    """Asking again would not help."""


class _RefusedError(_FinalError):
    """Asking something else would."""


def request_of(item: "Item", settings: Settings) -> dict[str, Any]:
    """The body that is sent for an item."""
    body: dict[str, Any] = {
        **item.request,
        "model": settings.model,
        "messages": list(item.messages),
        "temperature": settings.temperature,
        "seed": settings.seed,
    }
    if item.tools:
        body["tools"] = list(item.tools)
    if item.max_tokens is not None:
        body["max_tokens"] = item.max_tokens
    if settings.thinking != "default":
        body["chat_template_kwargs"] = {"enable_thinking": settings.thinking == "on"}
    return body


def key_from(name: str | None) -> str | None:
    """The API key that stands in the environment variable ``name``.

    Raises:
        RecipeError: when it is not set, or cannot be sent.
    """
    if name is None:
        return None
    key = os.environ.get(name, "")
    if not key:
        raise RecipeError(f"--api-key-env names {name}, which is not set; export it first")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise RecipeError(f"{name} holds characters that no key has; set it again")
    return key


class Endpoint:
    """A server at ``url``, such as ``http://127.0.0.1:8080/v1``; threads may share it. To be closed.

    ``key`` goes to that server only, and is struck out of all that it sends back.
    """

    def __init__(self, url: str, key: str | None = None, seconds: float = SECONDS) -> None:
        self.url = _checked(url)
        self._key, self._seconds = key, seconds
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._closed = False

    @property
    def client(self) -> "httpx2.Client":
        """The HTTP client; raises SourceError where the environment makes that impossible."""
        import httpx2

        with self._lock:
            if self._client is None:
                headers = {"Accept-Encoding": "identity", "User-Agent": f"requant/{__version__}"}
                if self._key:
                    headers["Authorization"] = f"Bearer {self._key}"
                try:
                    self._client = httpx2.Client(
                        headers=headers,
                        timeout=httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS, pool=None),
                        # How many at a time is up to whoever asks.
                        limits=httpx2.Limits(max_connections=None),
                        follow_redirects=False,
                        # A proxy would be told the key, and look for the server on its own machine. Certificates are
                        # the environment's all the same.
                        trust_env=not is_loopback(httpx2.URL(self.url).host),
                        verify=httpx2.create_ssl_context(),
                    )
                except (OSError, ValueError, httpx2.InvalidURL) as error:
                    raise SourceError(
                        f"the environment's proxy or certificates are unusable ({error}): correct it"
                    ) from error
            return self._client

    def close(self) -> None:
        """End all connections; may be called twice. Who still waits for an answer tries no more."""
        self._closed = True
        if self._client:
            self._client.close()

    def require_reachable(self) -> None:
        """Ask for the list of models; whatever is answered, but by a proxy for lack of a server, somebody is there.

        Raises:
            SourceError: when nobody answers, or the key is refused.
        """
        import httpx2

        def ask() -> int:
            with self.client.stream("GET", f"{self.url}/models", timeout=CONNECT_SECONDS) as answer:
                if answer.status_code in NOBODY_BEHIND:
                    raise _PassingError(f"it answered {answer.status_code}", answer)
                return answer.status_code

        try:
            status = retried(ask, lambda error: isinstance(error, (httpx2.TransportError, _PassingError)))
        except _PassingError as error:
            why = f"{self.url} cannot be reached yet ({error})"
            raise SourceError(f"{why}: start the server, wait until it has loaded, or correct --endpoint") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OverflowError) as error:
            raise SourceError(f"{self.url} cannot be reached: start the server, or correct --endpoint") from error
        if status in (401, 403):
            raise SourceError(f"{self.url} refuses the key ({status}): name its variable with --api-key-env")

    def require_answering(self, settings: Settings) -> None:
        """Put a question to the model that any can answer, in a word.

        Raises:
            SourceError: when not even that is answered.
        """
        body = {
            "model": settings.model,
            "messages": [{"role": "user", "content": PROBE}],
            "temperature": settings.temperature,
            "seed": settings.seed,
            "max_tokens": 1,
        }
        found = self.ask(body)
        if found.answer is None and not found.refused:
            raise SourceError(
                f"{self.url} answers no question at all ({found.error}): mend the server, then run again to go on"
            )

    def ask(self, body: Mapping[str, Any]) -> Exchange:
        """Send one request, again where it fails for a passing reason; never raises for what a server does."""
        import httpx2

        passing = (httpx2.ConnectError, httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError, _PassingError)
        try:
            data = retried(lambda: self._post(body), lambda error: isinstance(error, passing) and not self._closed)
            return read_response(data)
        except (_PassingError, _FinalError) as error:
            return Exchange(error=str(error), refused=isinstance(error, _RefusedError))
        except httpx2.TimeoutException:
            return Exchange(error=f"the server did not answer within {self._seconds:g} seconds")
        except httpx2.ConnectError:
            return Exchange(error="the server cannot be reached any more")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            return Exchange(error=f"the server broke off ({self._clean(first_line(error))})")

    def _post(self, body: Mapping[str, Any]) -> bytes:
        """One try; the bytes of an answer with status 200."""
        deadline = time.monotonic() + self._seconds
        data = bytearray()
        with self.client.stream("POST", f"{self.url}/chat/completions", json=body) as answer:
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise _FinalError(f"the server sent its answer compressed ({encoding[:20]!r}), unasked")
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise _FinalError(f"the server sent more than {MAX_ANSWER:,} bytes")
                if time.monotonic() > deadline:
                    raise _FinalError(f"the server did not end its answer within {self._seconds:g} seconds")
            status = answer.status_code
        if self._key:
            data = data.replace(self._key.encode(), b"***")
        if status == 200:
            return bytes(data)
        why = f"the server answered {status}{_complaint(data)}"
        if status in (408, 429) or status >= 500:
            raise _PassingError(why, answer)
        raise _RefusedError(why) if status in REFUSALS else _FinalError(why)

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def read_response(data: bytes) -> Exchange:
    """Read the JSON of an answer; what is wrong with it is said in ``error``, and nothing is raised."""
    try:
        response = parse(data, "the answer")
    except FormatError:
        return Exchange(error="the server's answer is not valid JSON")
    try:
        choice = response["choices"][0]
        message = choice["message"]
        texts = [message.get(name) for name in ("content", "reasoning_content")]
        calls = message.get("tool_calls") or []
        reason = choice.get("finish_reason") or "stop"
    except (KeyError, IndexError, TypeError, AttributeError):
        return Exchange(error="the server's answer holds no message")
    if (
        not all(text is None or isinstance(text, str) for text in texts)
        or not isinstance(reason, str)
        or not (isinstance(calls, list) and all(isinstance(call, Mapping) for call in calls))
    ):
        return Exchange(error="the server's answer holds a message of another form")
    content, reasoning = (text or "" for text in texts)
    return Exchange(response, Answer(*_without_thoughts(content, reasoning), tool_calls=calls, finish_reason=reason))


def _without_thoughts(content: str, reasoning: str) -> tuple[str, str]:
    """Content and reasoning; a server that does not tell them apart leaves thoughts before ``</think>``."""
    if reasoning:
        return content, reasoning
    inner, end, outer = content.partition(THINK_END)
    if end:
        return outer, inner.strip().removeprefix(THINK_START)
    if content.lstrip().startswith(THINK_START):
        return "", content.lstrip().removeprefix(THINK_START)
    return content, ""


def _complaint(data: bytes | bytearray) -> str:
    """What a server says of an error, on one short line: the beginning and the end, where servers put the reason."""
    try:
        said = " ".join(parse(bytes(data[:MAX_COMPLAINT]), "the complaint")["error"]["message"].split())
    except (FormatError, KeyError, TypeError, AttributeError):
        said = first_line(bytes(data[:300]).decode(errors="replace").strip()) if data.strip() else ""
    text = "".join(letter if letter.isprintable() else "?" for letter in said)
    short = text if len(text) <= 200 else f"{text[:98]} … {text[-98:]}"
    return f" ({short})" if text else ""


def _checked(url: str) -> str:
    """The address without the slash at its end, and with ``/v1`` where it has no path.

    Raises:
        PlaceError: when it is no address, or holds a password, which would end in results.
    """
    import httpx2

    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host and 0 < (parsed.port or 80) < 1 << 16
    except httpx2.InvalidURL:
        usable = False
    if not usable:
        raise PlaceError(f"--endpoint {url[:100]!r} is no address: write one such as http://127.0.0.1:8080/v1")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise PlaceError("--endpoint holds a password or a query: leave it out, and name a key with --api-key-env")
    return url.rstrip("/") if parsed.path.strip("/") else f"{url.rstrip('/')}/v1"
