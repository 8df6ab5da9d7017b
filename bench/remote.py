"""Measure audits over HTTP of models of full size: sparse pairs, served by the loopback Hub of the tests.

    python bench/remote.py FOLDER [--latency 0.08] [--several whole] [--full]

FOLDER takes some 100 MB. ``make demo`` must have run. Every audit is a process of its own, and what it takes is that
process's, with that of upstream's converter where it asks it; the Hub is another. The converter's environment is
installed where it is not there yet.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path

import click

from requant.audit.upstream import Upstream, ask
from requant.formats.ggml import GGMLType, row_bytes
from requant.formats.safetensors import INDEX, read_checkpoint
from requant.places.place import LocalPlace

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


STORED = {
    "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,), "self_attn.q_norm": (128,),
    "self_attn.k_norm": (128,), "self_attn.q_proj": (QUERIES, HIDDEN), "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN), "self_attn.o_proj": (HIDDEN, QUERIES), "mlp.gate": (EXPERTS, HIDDEN),
    **{
        f"mlp.experts.{expert}.{name}_proj": shape
        for expert in range(EXPERTS)
        for name, shape in {"gate": (EXPERT, HIDDEN), "up": (EXPERT, HIDDEN), "down": (HIDDEN, EXPERT)}.items()
    },
}  # fmt: skip
CHECKPOINT = {
    "model.embed_tokens.weight": (TOKENS, HIDDEN),
    **{f"model.layers.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in STORED.items()},
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (TOKENS, HIDDEN),
}
"""The same as its publisher stores it, in BF16: every expert by itself."""
CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN, "intermediate_size": 6144, "moe_intermediate_size": EXPERT, "num_experts": EXPERTS,
    "num_experts_per_tok": 8, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False,
}  # fmt: skip
SHARD_BYTES = 4_000_000_000


def write_hollow(path: Path, quantized: bool, pairs: Sequence[bytes] = ()) -> Path:
    """A GGUF of zeros, which quantize to zeros: only its header takes room on the disk."""
    from support.gguf_files import gguf_bytes, pair, string, tensor

    infos, end = [], 0
    for name, (shape, made) in TENSORS.items():
        kind = made if quantized or made is F32 else BF16
        infos.append(tensor(f"{name}.weight", shape, kind, end))
        end += -(-row_bytes(kind, shape[0]) * prod(shape[1:]) // 32) * 32
    head = gguf_bytes(pairs or [pair("general.architecture", 8, string("qwen3moe"))], infos)
    path.parent.mkdir(parents=True)
    path.write_bytes(head)
    os.truncate(path, len(head) + end)
    return path


def write_hollow_checkpoint(folder: Path, tiny: Path) -> list[Path]:
    """The same as safetensors, in shards as large as the publisher's; the vocabulary is that of ``tiny``."""
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors*", "source.json"))
    (folder / "config.json").write_text(json.dumps(json.loads((tiny / "config.json").read_text()) | CONFIG))
    shards: list[dict[str, tuple[int, ...]]] = []
    room = 0
    for name, shape in CHECKPOINT.items():
        nbytes = 2 * prod(shape)
        if nbytes > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = shape
        room -= nbytes
    paths = [folder / f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    for path, shapes in zip(paths, shards, strict=True):
        header, end = {}, 0
        for name, shape in shapes.items():
            nbytes = 2 * prod(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + nbytes]}
            end += nbytes
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(path, 8 + len(text) + end)
    places = {name: path.name for path, shapes in zip(paths, shards, strict=True) for name in shapes}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return paths


def converted_pairs(folder: Path) -> list[bytes]:
    """The header that upstream's converter writes for a checkpoint, with what llama-quantize adds to it."""
    from support.gguf_files import pair
    from support.relabelled import number, payload

    with LocalPlace(folder, folder.name) as place:
        header = ask(Upstream(install=True), place, read_checkpoint(place), "to be measured").header
    assert header is not None
    made = {**header.metadata, "general.file_type": number(15), "general.quantization_version": number(2)}
    return [pair(key, field.type, payload(field)) for key, field in made.items()]


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
            process = subprocess.Popen(command, env={**os.environ, **env}, stdout=said, stderr=said)
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
    pair = write_sparse_pair(folder / "4B", tiny, tiny_quant / "Tiny-Qwen3-Q4_K_M.gguf", FOUR_B, SEED, ROWS)
    bench = Bench(folder, latency, several)
    bench.cache.mkdir(parents=True)
    (bench.cache / "toolchains").symlink_to((results / "toolchains").resolve())
    os.environ["XDG_CACHE_HOME"] = str(bench.cache.parent)
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
        shards = write_hollow_checkpoint(folder / "Experts", tiny)
        path = write_hollow(folder / "Experts-GGUF" / "Experts-Q4_K_M.gguf", True, converted_pairs(folder / "Experts"))
        hub.add_model("org/Experts", folder / "Experts", digests={shard.name: DIGEST for shard in shards})
        hub.add_model("some/Experts-GGUF", path.parent, digests={path.name: DIGEST})
        size = sum(each.stat().st_size for each in (path, *shards))
        asked = ["hf://some/Experts-GGUF", "--source", "org/Experts", "--converter", *sample]
        bench.audit(f"30 B from safetensors, {size:,} bytes", asked)


if __name__ == "__main__":
    main()
