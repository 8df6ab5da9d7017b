"""The folder that gets uploaded, and its papers: card, sums, verification, attestations, rebuilding.

``evaluation``, ``audit`` and ``cli`` may enter.
"""
