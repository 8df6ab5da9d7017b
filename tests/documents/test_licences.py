"""requant.documents.licences: what a hub calls a licence comes back from a pin, which SPDX's grammar takes."""

import pytest
from license_expression import get_spdx_licensing

from requant.documents.licences import LISTED, PINNED, hub_licence, pinned_licence


@pytest.mark.parametrize("hub", PINNED)
def test_there_and_back(hub: str) -> None:
    assert hub_licence(pinned_licence(hub)) == hub == hub_licence(hub) == hub_licence(pinned_licence(hub.upper()))


def test_pins_spell_as_spdx_does() -> None:
    listed = get_spdx_licensing().known_symbols
    assert set(LISTED) <= {*listed}
    assert {name for name in PINNED.values() if not name.startswith("LicenseRef-")} <= {*listed}
