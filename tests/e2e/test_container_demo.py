"""What ``Containerfile`` says, carried out in a folder: the demo is made where no network is."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from requant.ground.digests import digest_file
from support.checkout import ROOT
from support.container import copy_as_told, prepared, started
from support.workplace import QUANT

WITHOUT_A_NETWORK = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "sh",
)


@pytest.mark.long
def test_the_demo_without_a_network(tmp_path: Path) -> None:
    if subprocess.run([*WITHOUT_A_NETWORK, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    checkout = copy_as_told(tmp_path)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in prepared():
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=checkout, env=env, check=True)
    subprocess.run([*WITHOUT_A_NETWORK, *started()], cwd=checkout, env=env, check=True)
    golden = json.loads((ROOT / "tests" / "golden" / "tiny.json").read_text())
    for name in (QUANT, "imatrix.gguf"):
        assert digest_file(checkout / "results" / "Tiny-Qwen3" / "release" / name).sha256 == golden[name]
