"""The folder that gets uploaded, and its papers: card, sums, verification, attestations, rebuilding, serving.

``evaluation``, ``audit`` and ``cli`` may enter.
"""

__all__ = [
    "attestation",
    "bill_of_materials",
    "card",
    "derivation",
    "folder",
    "keys",
    "method",
    "publication",
    "rebuild",
    "service",
    "signing",
    "summary",
    "verify",
    "verify_verdict",
]
