"""requant.toolchain.server: a server that does not want to end ends, however often its owner is told to."""

import signal
import subprocess
import sys
import time

import pytest

from requant.toolchain.server import STOP_SECONDS, _stop

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_second_signal_leaves_no_server_behind() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    begun = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            _stop(process)
        assert process.returncode == -signal.SIGKILL and time.monotonic() - begun < STOP_SECONDS
    finally:
        signal.signal(signal.SIGALRM, before)
        process.kill()
        process.communicate()
