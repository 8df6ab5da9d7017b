"""Reproducible quantization of GGUF models, and the proof of it."""

from pathlib import Path

__version__ = "0.1.0"
DATA = Path(__file__).resolve().parent / "data"
"""Pin table, schemas, templates and native code: in a checkout links to their places, in an installed package files."""
