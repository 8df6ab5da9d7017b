"""What upstream's own converter writes about checkpoints without weights; a program by itself, run in its environment.

    python converter_headers.py TREE OUT FOLDER...

Each header goes to ``OUT/<name of the folder>.gguf``; of what the converter refuses, its words to ``.refused``.
"""

import sys
import traceback
from pathlib import Path

tree, out, *folders = sys.argv[1:]
sys.path.insert(0, tree)

import convert_hf_to_gguf  # noqa: E402

for folder in map(Path, folders):
    written = Path(out, folder.name)
    sys.argv = ["convert", str(folder), "--vocab-only", "--outtype", "bf16", "--outfile", f"{written}.gguf"]
    try:
        convert_hf_to_gguf.main()
    except Exception:  # noqa: BLE001 - a stranger's
        Path(f"{written}.refused").write_text(traceback.format_exc())
