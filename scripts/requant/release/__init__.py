"""The folder that gets uploaded, and its papers: card, sums, verification, attestations, rebuilding.

``evaluation``, ``audit`` and ``cli`` may enter.
"""

__all__ = [
    "attestation",
    "card",
    "derivation",
    "folder",
    "keys",
    "method",
    "publish",
    "published",
    "rebuild",
    "signing",
    "summary",
    "verify",
    "verify_verdict",
]
