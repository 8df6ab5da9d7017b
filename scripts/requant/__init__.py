"""Reproducible quantization of GGUF models, and the proof of it."""

__version__ = "0.1.0"
