"""What a tokenizer makes of a text, as one digest; a program by itself, as the tokenizer is a stranger's.

    python encode_text.py

In the current folder lie ``text`` and ``tokenizer.json``. The digest is that of ``get_vocab_base_pre`` in llama.cpp's
``conversion/base.py``. Where the system can limit it, it has some gigabytes and a minute.
"""

import hashlib
import sys
from pathlib import Path

SECONDS, MEMORY = 60, 8 << 30


def limit() -> None:
    """Take no more than that; Windows has no such limits, and macOS may refuse them."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, OSError, ValueError):
        return


if __name__ == "__main__":
    limit()
    from tokenizers import Tokenizer

    text = Path("text").read_bytes().decode()
    numbers = Tokenizer.from_file("tokenizer.json").encode(text).ids
    sys.stdout.write(hashlib.sha256(str(numbers).encode()).hexdigest())
