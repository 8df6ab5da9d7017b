"""How a release is served: the flags of ``llama-server`` that its card tells, and that it is measured with."""

SERVER = "llama-server"
PARALLEL = 4
"""Conversations at a time, among which the server divides its context."""


def serving_flags(context: int) -> tuple[str, ...]:
    """The flags for a context of so many tokens; model, address and threads are the caller's."""
    return (
        "--ctx-size", str(context), "--parallel", str(PARALLEL), "--n-gpu-layers", "999", "--jinja",
        "--reasoning", "auto",
    )  # fmt: skip
