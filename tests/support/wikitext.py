"""A data set on the loopback Hub in the shape of WikiText, made of any texts, and the pin that names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from requant.pipeline.fetch_corpus import raw_text
from support.hub import LoopbackHub, Snapshot

REPO = "Salesforce/wikitext"
CONFIG = "wikitext-2-raw-v1"


def add_wikitext(hub: LoopbackHub, folder: Path, texts: Mapping[str, Path]) -> tuple[Snapshot, dict[str, bytes]]:
    """Serve ``texts``, by split, as rows: lines that keep their newline, blank lines as empty rows.

    Returns:
        the commit; what the rows stand for, by split.
    """
    (folder / CONFIG).mkdir(parents=True)
    card, raw = ["---", "configs:", f"- config_name: {CONFIG}", "  data_files:"], {}
    for split, path in texts.items():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = ["" if line == "\n" else line for line in lines]
        parquet.write_table(pyarrow.table({"text": rows}), folder / CONFIG / f"{split}-00000-of-00001.parquet")
        raw[split] = b"".join(raw_text(rows))
        card += [f"  - split: {split}", f"    path: {CONFIG}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return hub.add_dataset(REPO, folder), raw


def wikitext_pin(snapshot: Snapshot, raw: Mapping[str, bytes]) -> dict[str, Any]:
    """The entry of a pin table for what ``add_wikitext`` serves."""
    return {
        "repo": REPO,
        "config": CONFIG,
        "revision": snapshot.commit,
        "licence": "CC-BY-SA-3.0",
        "files": {
            name: {"size": file.size, "sha256": file.sha256}
            for name, file in snapshot.files.items()
            if name.endswith(".parquet")
        },
        "texts": {
            split: {
                "name": f"wiki.{split}.raw",
                "split": split,
                "size": len(text),
                "sha256": hashlib.sha256(text).hexdigest(),
            }
            for split, text in raw.items()
        },
    }
