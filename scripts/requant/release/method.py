"""The ways to sign a release, by name."""

from enum import StrEnum


class Method(StrEnum):
    """An attestation of ours, or OpenSSF's model signing with a key or with an identity."""

    DSSE = "dsse"
    MODEL_SIGNING = "model-signing"
    SIGSTORE = "sigstore"
