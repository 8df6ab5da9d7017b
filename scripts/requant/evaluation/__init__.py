"""What quantization took from a model: how faithful it still is, how fast, how it answers; and the page that shows it.

Each is a room of its own. ``audit`` and ``cli`` may enter.
"""

__all__ = ["behaviour", "document", "fidelity", "page", "speed"]
