"""What the files of a release are called."""

IMATRIX = "imatrix.gguf"

MANIFEST = "manifest.json"

SUMS = "SHA256SUMS"

CARD = "README.md"

# They are made after SHA256SUMS and about it, so they lie beside it and do not stand in it.
ATTESTATION = "attestation.intoto.json"

MODEL_SIGNATURE = "model.sig"

SIGNATURES = (ATTESTATION, MODEL_SIGNATURE)

EVALUATION = "evaluation.json"

BILL_OF_MATERIALS = "bom.cdx.json"
"""As CycloneDX calls such files, and recipes that want one ask for it."""

LEFT_BY_CLIENTS = (".cache", ".msc")
"""What the hubs' clients leave in a folder that they download to."""

LEFT_BY_HUBS = ("configuration.json",)
"""What a hub adds to every repository by itself, here ModelScope; the others' names begin with a dot."""
