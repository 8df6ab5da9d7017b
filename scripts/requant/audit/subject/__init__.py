"""What is audited: its files, what it and its manifest claim, and what its bytes are."""

__all__ = ["identity", "manifest", "model_file", "subject"]
