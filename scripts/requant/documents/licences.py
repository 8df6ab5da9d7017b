"""Licences as hubs call them, and as pins do: by SPDX, where what it does not list is a ``LicenseRef``."""

import re

LISTED = (
    "AFL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSL-1.0",
    "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0",
    "CC-BY-SA-4.0", "CC0-1.0", "EPL-2.0", "EUPL-1.2", "ISC", "MIT", "MPL-2.0", "MS-PL", "NCSA", "Unlicense", "Zlib",
)  # fmt: skip
"""Ids of SPDX that, in lower case, are ids of the Hub; it refuses any other id but "other"."""
UNLISTED = ("gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4")
"""Ids of the Hub that SPDX has not."""
PINNED = {
    **{name.lower(): name for name in LISTED},
    **{name: f"LicenseRef-{name}" for name in UNLISTED},
    "gpl-3.0": "GPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
}
"""How pins spell what hubs call so."""
ON_HUBS = {name.lower(): hub for hub, name in PINNED.items()}


def pinned_licence(hub: str) -> str:
    """How a pin spells what a hub's README.md calls a licence.

    >>> pinned_licence("cc-by-nc-sa-4.0"), pinned_licence("llama3.1"), pinned_licence("my own")
    ('CC-BY-NC-SA-4.0', 'LicenseRef-llama3.1', 'LicenseRef-my-own')
    """
    return PINNED.get(hub.lower(), f"LicenseRef-{re.sub('[^A-Za-z0-9.-]', '-', hub)}")


def hub_licence(pinned: str) -> str | None:
    """What hubs call the licence of a pin, which may also be spelled as there; ``None`` where they do not know it.

    >>> hub_licence("CC-BY-NC-SA-4.0"), hub_licence("LicenseRef-llama3.1"), hub_licence("gemma"), hub_licence("WTFPL")
    ('cc-by-nc-sa-4.0', 'llama3.1', 'gemma', None)
    """
    name = pinned.lower()
    return name if name in PINNED else ON_HUBS.get(name)
