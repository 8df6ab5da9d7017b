"""Changing valid inputs where parsers are weakest: lengths, order, and the shape of JSON."""

import json
from random import Random
from typing import Any

LENGTHS = (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ATOMS: tuple[Any, ...] = (
    None, True, False, -1, *LENGTHS, 10**400, 0.5, -0.0, 1e308, float("inf"), "", "0", "\ud800", "\x1b[2J", "a\nb",
    "../x", "a" * 5000, "blk." + "9" * 5000 + ".x", [], {}, [[]], {"name": "x", "size": "y", "sha256": "z"},
)  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """Change ``data`` in one to four places, as JSON if it is some (or a header of such), or as bytes."""
    for _ in range(random.randint(1, 4)):
        tree = random.random() < 0.75
        data = (tree and (_in_tree(data, random) or _in_header(data, random))) or _in_bytes(data, random)
    return data


def _in_bytes(data: bytes, random: Random) -> bytes:
    at, end = sorted(random.randint(0, len(data)) for _ in range(2))
    width = random.choice((4, 8))
    value = (random.choice(LENGTHS) & ((1 << 8 * width) - 1)).to_bytes(
        width, random.choice(("little", "little", "big"))
    )
    return random.choice(
        (
            data[:at] + value + data[at + width :],
            data[:at] + random.randbytes(random.randint(1, 4)) + data[at + 1 :],
            data[:at] + data[end:],
            data[:end] + data[at:],
            data[:at] + bytes(end - at) + data[end:],
            data[end:] + data[:at],
            data[:at],
        )
    )


def _in_tree(data: bytes, random: Random) -> bytes | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    holder = {"root": document}
    places = list(_places(holder))
    container, key = random.choice(places)
    other, name = random.choice(places)
    kind = random.randrange(5)
    if kind == 0 and len(places) > 1 and key != "root":
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.append(json.loads(json.dumps(container[key])))
    elif kind == 2 and isinstance(container, dict) and key != "root":
        container[str(random.choice(ATOMS))] = container.pop(key)
    elif kind == 3:
        container[key] = json.loads(json.dumps(other[name]))
    else:
        container[key] = random.choice(ATOMS)
    return json.dumps(holder["root"]).encode()


def _in_header(data: bytes, random: Random) -> bytes | None:
    """Change the JSON behind its own length, as in safetensors, so that the length is right again."""
    end = 8 + int.from_bytes(data[:8], "little")
    text = _in_tree(data[8:end], random) if end <= len(data) else None
    return None if text is None else len(text).to_bytes(8, "little") + text + data[end:]


def _places(value: Any) -> Any:
    """Every place in a document: what holds it, and the key there."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)
