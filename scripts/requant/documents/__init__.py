"""Our own papers: pins, records of steps, the manifest and what holds it together, with their schemas.

Everybody from ``places`` upwards may enter.
"""
