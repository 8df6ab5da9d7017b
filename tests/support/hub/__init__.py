"""A model hub on 127.0.0.1 that the real Hugging Face and ModelScope clients can talk to.

    with LoopbackHub() as hub:
        tiny = hub.add_model("Qwen/Tiny", folder)
        hub.faults.add(Fault("*model-00001*", kind="status", status=503, times=2))
        ...  # run a client with HF_ENDPOINT=hub.url, revision=tiny.commit
        assert hub.seen("/cdn/*")[-1].range == "bytes=10485760-"

Nothing here imports a client: only the standard library is needed.
"""

from .faults import Fault, Faults
from .repos import Repo, RepoFile, Snapshot
from .server import LoopbackHub
from .storage import TOKEN
from .wire import Exchange

__all__ = ["TOKEN", "Exchange", "Fault", "Faults", "LoopbackHub", "Repo", "RepoFile", "Snapshot"]
