"""A real Slurm on this machine, alone in its namespaces: accounting, a controller, and nodes that can lose their power.

Whoever starts it has to be in namespaces of its own already (``make test-slurm``): its configuration is mounted over
/etc/slurm and its sockets over /run, where Slurm's own programs look, and its ports are those of a machine that nobody else sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "sbatch",
    "sacct",
    "munged",
    "mungekey",
    "mariadbd",
    "mariadb-install-db",
    "ip",
)
INSTALL = "apt-get install slurm-wlm slurmdbd munge mariadb-server iproute2"
MEMORY = 12_000
"""MB that a node says it has; nothing holds jobs to them."""
FIELDS = (
    "JobIDRaw",
    "JobName",
    "Comment",
    "State",
    "NodeList",
    "ReqMem",
    "TimelimitRaw",
    "ReqCPUS",
    "ReqTRES",
    "Start",
    "End",
)
SLURM = """\
ClusterName=requant
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory={memory} Gres=gpu:1"
ACCOUNTS = """\
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=unused
"""


@dataclass(frozen=True)
class Job:
    """One try of a job, as the accounts have it."""

    number: int
    name: str
    comment: str
    state: str
    node: str
    memory: int
    minutes: int
    processors: int
    gpus: int
    start: datetime
    end: datetime

    @property
    def rule(self) -> str:
        return re.sub(r"_wildcards_.*", "", self.comment.removeprefix("rule_"))


def missing() -> str | None:
    """Why no cluster can be started here, and what to do, in one sentence."""
    if lacking := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"{lacking[0]} is not installed: {INSTALL}"
    return None if os.getuid() == 0 else "only root can start a cluster: sudo make test-slurm"


class Cluster:
    """A cluster of one-processor nodes; its files lie in ``folder``."""

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(nodes)
        self._services: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in ("etc", "state", "data", *(f"spool.{node}" for node in self.names)):
            (self.folder / name).mkdir(parents=True)
        self._configure()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # With no address but the loopback's own the C library finds nothing that Slurm could listen on.
        subprocess.run(["ip", "address", "add", "10.0.0.1/32", "dev", "lo"], check=True)
        subprocess.run(["mount", "--bind", self.folder / "etc", "/etc/slurm"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        self._authenticate()
        self._keep_accounts()
        self._serve("slurmctld", "-D")
        for name in self.names:
            self.revive(name)
        self.wait(lambda: self.states() == dict.fromkeys(self.names, "idle"), "nodes that are idle")

    def stop(self) -> None:
        for process in (*self._nodes.values(), *reversed(self._services)):
            process.kill()
            process.wait()

    def revive(self, name: str) -> None:
        """Switch a node on. Its processes live and die together, as those of a machine do."""
        node = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", f"slurmd -D -N {name}; true"]
        self._nodes[name] = self._spawn(node, name)

    def kill(self, name: str) -> None:
        """Cut a node's power."""
        self._nodes[name].kill()
        self._nodes[name].wait()

    def states(self) -> Mapping[str, str]:
        """The state of each node."""
        return dict(line.split() for line in self.say("sinfo", "-hN", "-o", "%N %T").splitlines())

    def running(self, rule: str) -> str | None:
        """The node that a rule's job runs on."""
        lines = self.say("squeue", "-h", "-t", "RUNNING", "-o", "%k %N").splitlines()
        return next((line.split()[-1] for line in lines if line.startswith(f"rule_{rule} ")), None)

    def jobs(self) -> list[Job]:
        """All tries of all jobs, in the order of their numbers."""
        lines = self.say("sacct", "-XnPD", "--units=M", "-S", "now-1days", "-o", ",".join(FIELDS)).splitlines()
        return [_job(dict(zip(FIELDS, line.split("|"), strict=True))) for line in lines]

    def say(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def wait(self, reached: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}; logs are in {self.folder}"
            time.sleep(0.2)

    def _configure(self) -> None:
        nodes = [NODE.format(name=name, port=17000 + at, memory=MEMORY) for at, name in enumerate(self.names)]
        etc = self.folder / "etc"
        (etc / "slurm.conf").write_text(SLURM.format(folder=self.folder, nodes="\n".join(nodes)))
        # Slurm counts files, whatever they are, and holds back none.
        (etc / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        accounts = etc / "slurmdbd.conf"
        accounts.touch(0o600)
        accounts.write_text(ACCOUNTS.format(folder=self.folder))

    def _authenticate(self) -> None:
        key, socket = self.folder / "munge.key", Path("/run/munge/munge.socket.2")
        socket.parent.mkdir()
        subprocess.run(["mungekey", "--create", "--keyfile", key], check=True)
        files = {
            "key": key,
            "pid": self.folder / "munge.pid",
            "log": self.folder / "munge.log",
            "seed": self.folder / "seed",
        }
        options = [f"--{name}-file={path}" for name, path in files.items()]
        self._serve("munged", "--foreground", "--force", *options)
        self.wait(socket.exists, "munged")

    def _keep_accounts(self) -> None:
        data, socket = f"--datadir={self.folder / 'data'}", self.folder / "database.socket"
        made = ["mariadb-install-db", "--no-defaults", data, "--user=root", "--skip-test-db"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        # Nobody else can reach it, so it asks nobody who he is.
        self._serve("mariadbd", "--no-defaults", data, "--user=root", f"--socket={socket}", "--bind-address=127.0.0.1",
                    "--skip-grant-tables", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0")  # fmt: skip
        self.wait(socket.exists, "the database")
        self._serve("slurmdbd", "-D")
        add = ["sacctmgr", "--immediate", "add", "cluster", "requant"]
        self.wait(lambda: subprocess.run(add, capture_output=True).returncode == 0, "slurmdbd")

    def _serve(self, *command: str) -> None:
        self._services.append(self._spawn(command, command[0]))

    def _spawn(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("ab") as said:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)


def _job(fields: Mapping[str, str]) -> Job:
    gpus = re.search(r"gres/gpu=(\d+)", fields["ReqTRES"])
    start, end = (
        datetime.fromisoformat(fields[key]) if fields[key][0].isdigit() else datetime.max for key in FIELDS[-2:]
    )
    return Job(
        int(fields["JobIDRaw"]), fields["JobName"], fields["Comment"], fields["State"].split()[0], fields["NodeList"],
        round(float(fields["ReqMem"].removesuffix("M"))), int(fields["TimelimitRaw"]), int(fields["ReqCPUS"]),
        int(gpus[1]) if gpus else 0, start, end,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(missing())
