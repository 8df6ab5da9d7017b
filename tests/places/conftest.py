"""Clients of the hubs in this process, where the tests of ``requant.places`` call them."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from support.hub import LoopbackHub


@pytest.fixture
def clients(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """Let the clients know the loopback Hub only, trust no cache or token of this machine, and wait for nothing."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("modelscope_hub.config._default_config", None)  # made from the environment when first used
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return hub
