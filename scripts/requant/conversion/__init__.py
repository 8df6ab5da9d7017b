"""What upstream's converter makes of a checkpoint: layout, metadata, vocabulary; and the weights seen through that.

Everybody from ``quantization`` upwards may enter. Only the standard library and numpy are imported.
"""

__all__ = ["expected", "files", "layout", "metadata", "vocabulary", "weights", "writer"]
