"""What differs between two of a kind: importance matrices, GGUF files, releases.

Everybody from ``release`` upwards may enter.
"""
