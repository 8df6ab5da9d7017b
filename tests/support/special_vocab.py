"""What gguf-py's own ``SpecialVocab`` makes of small files; a program by itself, run with that on its path.

    python special_vocab.py CASES.json ANSWERS.json

A case gives the contents of files by name, and ``n_vocab``; an answer has ids, flags, or nothing where it fails.
"""

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf

logging.disable()
answers = []
for case in json.loads(Path(sys.argv[1]).read_text()):
    with TemporaryDirectory() as folder:
        for name, content in case["files"].items():
            Path(folder, name).write_text(json.dumps(content))
        try:
            found = gguf.SpecialVocab(folder, n_vocab=case["n_vocab"])
        except (AttributeError, IndexError, TypeError, ValueError):
            answers.append(None)
            continue
        answers.append({"ids": found.special_token_ids, "added": found.add_special_token})
Path(sys.argv[2]).write_text(json.dumps(answers))
