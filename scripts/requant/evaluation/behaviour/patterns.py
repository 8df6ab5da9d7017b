"""Regular expressions from a suite on answers from a model: in a process of their own, which can be stopped.

Python's ``re`` cannot be interrupted, and a pattern such as ``(a+)+$`` takes for ever on some texts.
"""

import json
import subprocess
import sys

SECONDS = 5
MEMORY = 1 << 29
# The limit on processor time ends it if this process is killed meanwhile.
CHILD = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
pattern, flags, whole, texts = json.load(sys.stdin)
match = getattr(re.compile(pattern, flags), "fullmatch" if whole else "search")
print(json.dumps([match(text) is not None for text in texts]))
"""


def matches(pattern: str, texts: list[str], *, whole: bool, flags: int) -> list[bool] | None:
    """Whether the pattern matches in each text, or all of it; None where that takes longer than ``SECONDS``."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", CHILD]
    question = json.dumps([pattern, flags, whole, texts])
    try:
        done = subprocess.run(command, input=question, capture_output=True, text=True, timeout=2 * SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return None
    if done.returncode:
        return None
    found: list[bool] = json.loads(done.stdout)
    return found
