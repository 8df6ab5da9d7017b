"""A server for chat completions on 127.0.0.1 that says what a script tells it to.

    with ScriptedEndpoint() as endpoint:
        endpoint.say("the question", message("the answer"))
        endpoint.say("another", Reply(status=429, body=b"busy"), message("at last"))
        ...  # run a client with endpoint.url
        assert endpoint.asked("another") == 2

Nothing here imports a client: only the standard library is needed.
"""

from .replies import Reply, calls, message
from .server import ScriptedEndpoint

__all__ = ["Reply", "ScriptedEndpoint", "calls", "message"]
