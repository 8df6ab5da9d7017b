"""Measure audits over HTTP of models of full size: sparse pairs, served by the loopback Hub of the tests.

    python bench/remote.py FOLDER [--latency 0.08] [--several whole] [--full]

FOLDER takes some 100 MB. ``make demo`` must have run. Every audit is a process of its own, and what it takes is that
process's; the Hub is another.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path

import click

from requant.formats.ggml import GGMLType, row_bytes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
SEED, ROWS = 11, 4096
F32, BF16, Q4, Q6 = GGMLType.F32, GGMLType.BF16, GGMLType.Q4_K, GGMLType.Q6_K
LAYERS, HIDDEN, EXPERT, EXPERTS, QUERIES, KEYS, TOKENS = 48, 2048, 768, 128, 4096, 512, 151_936
"""The shape of Qwen3-30B-A3B."""
LAYER = {
    "attn_norm": ((HIDDEN,), F32), "ffn_norm": ((HIDDEN,), F32), "attn_q_norm": ((128,), F32),
    "attn_k_norm": ((128,), F32), "ffn_gate_inp": ((HIDDEN, EXPERTS), F32), "attn_q": ((HIDDEN, QUERIES), Q4),
    "attn_k": ((HIDDEN, KEYS), Q4), "attn_v": ((HIDDEN, KEYS), Q6), "attn_output": ((QUERIES, HIDDEN), Q4),
    "ffn_gate_exps": ((HIDDEN, EXPERT, EXPERTS), Q4), "ffn_up_exps": ((HIDDEN, EXPERT, EXPERTS), Q4),
    "ffn_down_exps": ((EXPERT, HIDDEN, EXPERTS), Q6),
}  # fmt: skip
ENDS = {"token_embd": ((HIDDEN, TOKENS), Q4), "output": ((HIDDEN, TOKENS), Q6), "output_norm": ((HIDDEN,), F32)}
TENSORS = ENDS | {f"blk.{number}.{name}": said for number in range(LAYERS) for name, said in LAYER.items()}
"""Shapes in a GGUF, and types such as Q4_K_M has them."""


def write_hollow(path: Path, quantized: bool) -> Path:
    """A GGUF of zeros, which quantize to zeros: only its header takes room on the disk."""
    from support.gguf_files import gguf_bytes, pair, string, tensor

    infos, end = [], 0
    for name, (shape, made) in TENSORS.items():
        kind = made if quantized or made is F32 else BF16
        infos.append(tensor(f"{name}.weight", shape, kind, end))
        end += -(-row_bytes(kind, shape[0]) * prod(shape[1:]) // 32) * 32
    head = gguf_bytes([pair("general.architecture", 8, string("qwen3moe"))], infos)
    path.parent.mkdir(parents=True)
    path.write_bytes(head)
    os.truncate(path, len(head) + end)
    return path


class Bench:
    """A Hub with models, and audits of them that keep what they keep in one ``folder``."""

    def __init__(self, folder: Path, latency: float, several: str) -> None:
        from support.hub import LoopbackHub

        self.folder, self.hub = folder, LoopbackHub()
        truth = self.hub.answer
        # What is late is the answer to a request, on as many connections as there are.
        self.hub.answer = lambda request: (time.sleep(latency), truth(request))[1]  # type: ignore[method-assign]
        self.hub.several = several  # type: ignore[assignment]
        self.cache = folder / "cache" / "requant"

    def audit(self, what: str, arguments: Sequence[str], kill_at: float | None = None) -> None:
        """Run an audit and say what it took; with ``kill_at`` end it after so many seconds."""
        from support.command import CODE, PYTHONPATH

        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        self.hub.requests.clear()
        env = {
            "PYTHONPATH": PYTHONPATH,
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "hf"),
            "COLUMNS": "200",
        }
        command = [sys.executable, "-c", CODE, "audit", *arguments, "--json", str(report)]
        begun = time.monotonic()
        with (self.folder / "said").open("w") as said:
            process = subprocess.Popen(
                command, env={**os.environ, **env, "XDG_CACHE_HOME": str(self.cache.parent)}, stdout=said, stderr=said
            )
            if kill_at is not None:
                time.sleep(kill_at)
                os.kill(process.pid, signal.SIGKILL)  # not of Popen, which would wait for it, too
            _, _, used = os.wait4(process.pid, 0)
        kept = sum(path.stat().st_size for path in (self.cache / "audits").glob("*"))
        click.echo(
            f"{what}: {time.monotonic() - begun:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processors, "
            f"{used.ru_maxrss / 1000:.0f} MB of memory at most, {len(self.hub.seen()):,} requests in all, "
            f"{len(self.hub.seen('*/resolve/*')):,} of them for /resolve/, {kept:,} bytes kept in the cache"
        )
        if report.exists():
            found = json.loads(report.read_text())
            words = ", ".join(answer["status"] for answer in found["answers"].values())
            click.echo(f"  {words}; {found['rows']:,} of {found['rows_in_all']:,} rows; {found['run']}")
        else:
            click.echo(f"  {(self.folder / 'said').read_text()[-500:]}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--latency", type=float, default=0.0, help="Seconds that every answer takes longer.")
@click.option("--several", default="parts", help="How the server answers who asks for several ranges.")
@click.option("--full", is_flag=True, help="In full, and killed and gone on with, in place of samples.")
@click.option("--kill-at", type=float, default=100.0, help="Seconds after which that one is killed.")
@click.option("--results", type=click.Path(path_type=Path), default=ROOT / "results", help="Where the demo lies.")
def main(folder: Path, latency: float, several: str, full: bool, kill_at: float, results: Path) -> None:
    """Make a pair of 4 B, and one of 30 B with experts, and audit them over HTTP."""
    from support.sparse_pair import DIGEST, FOUR_B, IMATRIX, QUANT, SHARD, write_sparse_pair

    folder.mkdir(parents=True)
    tiny, tiny_quant = results / "Tiny-Qwen3" / "generated", results / "Tiny-Qwen3" / "release"
    pair = write_sparse_pair(folder / "4B", tiny, tiny_quant / "Tiny-Qwen3-Q4_K_M-imatrix.gguf", FOUR_B, SEED, ROWS)
    bench = Bench(folder, latency, several)
    bench.cache.mkdir(parents=True)
    (bench.cache / "toolchains").symlink_to((results / "toolchains").resolve())
    with bench.hub as hub:
        hub.add_model("org/Giant", pair.weights, digests={SHARD: DIGEST})
        hub.add_model("some/Giant-GGUF", pair.quant, digests={QUANT: DIGEST})
        repository = "hf://some/Giant-GGUF"
        named = [f"{repository}/{QUANT}", "--source", "org/Giant", "--imatrix", f"{repository}/{IMATRIX}"]
        if full:
            bench.audit("4 B, in full", [*named, "--full"])
            bench.audit("4 B, killed", [*named, "--full"], kill_at)
            bench.audit("4 B, gone on", [*named, "--full"])
            return
        sample = ["--rows", str(ROWS), "--seed", str(SEED)]
        bench.audit(f"4 B, {pair.nbytes:,} bytes", [*named, *sample])
        size = 0
        for name, quantized in (("Experts-Q4_K_M", True), ("Experts-BF16", False)):
            path = write_hollow(folder / name / f"{name}.gguf", quantized)
            size += path.stat().st_size
            hub.add_model(f"some/{name}", path.parent, digests={path.name: DIGEST})
        bench.audit(
            f"30 B, {size:,} bytes", ["hf://some/Experts-Q4_K_M", "--source", "hf://some/Experts-BF16", *sample]
        )


if __name__ == "__main__":
    main()
