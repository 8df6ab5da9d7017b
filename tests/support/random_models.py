"""Small random checkpoints of many architectures; a program run in the converter's environment, which has transformers.

    python random_models.py REQUEST.json

gives each folder a config.json, a model.safetensors with the names and shapes that transformers gives such a model (on
its meta device) or that the request lists, seeded weights, and the smallest tokenizer that upstream recognises: a
SentencePiece model trained here, or the byte-pair vocabulary of GPT-2 from llama.cpp's tests. Upstream's converter then
makes a BF16 GGUF of it, beside the folder; what it refuses is said in a file ``.error`` there.
"""

import json
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|startoftext|>",
    "<pad>", "<|eos|>", "<|return|>", "<|start|>", "<|end|>", "[gMASK]", "<sop>",
)  # fmt: skip


def main(request: dict[str, Any]) -> None:
    tree = Path(request["tree"])
    for folder, case in request["models"].items():
        place = Path(folder)
        place.mkdir(parents=True)
        try:
            write_weights(place, case)
            if case["tokenizer"] == "spm":
                write_pieces(place, case["rows"])
            else:
                write_bytes(place, tree / "models" / "ggml-vocab-gpt-2.gguf")
            sys.argv = [
                "convert_hf_to_gguf.py",
                folder,
                "--outfile",
                f"{folder}.gguf",
                "--outtype",
                "bf16",
                *case["options"],
            ]
            # Its options are kept in its classes.
            for module in [module for module in sys.modules if module.split(".")[0] == "conversion"]:
                del sys.modules[module]
            runpy.run_path(str(tree / "convert_hf_to_gguf.py"), run_name="__main__")
        except (Exception, SystemExit):  # noqa: BLE001 - whatever transformers or upstream raise
            Path(f"{folder}.error").write_text(traceback.format_exc())


def write_weights(folder: Path, case: dict[str, Any]) -> None:
    """Config and weights: BF16, or F32 where ``dtype`` says so."""
    import transformers

    config = case["config"]
    if case["shapes"] is None:
        made = transformers.AutoConfig.for_model(case["model_type"], **config)
        with torch.device("meta"):
            model = getattr(transformers, case["architecture"])(made)
        tied = {
            key
            for key in getattr(model, "_tied_weights_keys", None) or ()
            if made.get_text_config().tie_word_embeddings
        }
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
        document = made.to_dict() | {"architectures": [case["architecture"]]}
    else:
        shapes = {name: tuple(shape) for name, shape in case["shapes"].items()}
        document = config | {"architectures": [case["architecture"]], "model_type": case["model_type"]}
    (folder / "config.json").write_text(json.dumps(document, default=str))
    random, kind = np.random.default_rng(0), getattr(torch, case["dtype"])
    weights = {}
    for name, shape in sorted(shapes.items()):
        values = torch.from_numpy(random.standard_normal(shape, np.float32) / 8)
        # Some are logarithms, of which the converter takes the exponential.
        weights[name] = (values.abs() if name.endswith("A_log") else values).to(kind).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def write_pieces(folder: Path, rows: int) -> None:
    """A SentencePiece vocabulary of exactly as many pieces as the embedding has rows."""
    import sentencepiece

    text = [
        " ".join(f"{'abcdefghij'[(i * k) % 10]}{'klmnopqr'[(i + k) % 8]}{i % 7}{k}" for k in range(12))
        for i in range(400)
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(folder / "tokenizer"), vocab_size=rows, model_type="bpe",
        byte_fallback=True, minloglevel=2, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))


def write_bytes(folder: Path, vocabulary: Path) -> None:
    """GPT-2's tokenizer.json, with the special tokens that some classes ask for behind it."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    plain = [token for token in tokens if token not in SPECIAL]
    known = {token: number for number, token in enumerate(tokens)}
    new = [token for token in SPECIAL if token not in known]
    added = [(known[token], token) for token in SPECIAL if token in known]
    added += [(len(tokens) + number, token) for number, token in enumerate(new)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": byte_level,
        "added_tokens": [{"id": key, "content": token, **flags} for key, token in added],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: known[token] for token in plain}, "merges": merges},
    }  # fmt: skip
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[0],
                "chat_template": "{{ messages }}"}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
