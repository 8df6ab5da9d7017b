"""Serve FOLDER/{models,datasets}/<owner>/<name> until interrupted: ``python -m support.hub FOLDER``."""

import sys
import threading
from pathlib import Path

from . import LoopbackHub

with LoopbackHub() as hub:
    for folder in sorted(Path(sys.argv[1]).glob("*/*/*")):
        kind, owner, name = folder.parts[-3:]
        print(kind, f"{owner}/{name}", hub.add(kind, f"{owner}/{name}", folder).commit)
    print(f"HF_ENDPOINT={hub.url} MODELSCOPE_ENDPOINT={hub.url}", flush=True)
    threading.Event().wait()
