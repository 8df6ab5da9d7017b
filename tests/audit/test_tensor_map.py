"""The map of an audit: every tensor once, whatever it is called, and every weight that is missing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from requant.audit.forms.tensor_map import MISSING, TensorMap, draw_map


def drawn(names: Sequence[str], missing: Sequence[str] = ()) -> TensorMap:
    return draw_map({"tensors": [{"name": name, "verdict": "exact"} for name in names], "missing": list(missing)})


def sketch(found: TensorMap) -> dict[str, Any]:
    """Labels outside, and of each stack its kinds and in each layer the names."""
    stacks = {
        stack.name: (
            list(stack.kinds),
            {layer: [cell and cell.name for cell in cells] for layer, cells in stack.layers.items()},
        )
        for stack in found.stacks
    }
    return {"outside": [cell.label for cell in found.outside], "stacks": stacks}


MAPS: dict[str, tuple[list[str], list[str], dict[str, list[str]]]] = {
    # names, labels outside, kinds of each stack
    "nothing": ([], [], {}),
    "a dense model": (
        ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_q.bias", "blk.1.attn_q.weight", "output_norm.weight"],
        ["token_embd", "output_norm"], {"": ["attn_q", "attn_q.bias"]},
    ),
    "experts, stacked or each by itself": (
        ["blk.0.ffn_gate_inp.weight", "blk.0.ffn_up_exps.weight", "blk.1.ffn_gate_inp.weight", "blk.1.ffn_up.0.weight"],
        [], {"": ["ffn_gate_inp", "ffn_up_exps", "ffn_up.0"]},
    ),
    "several stacks": (
        ["enc.blk.0.attn_q.weight", "dec.blk.0.attn_q.weight", "v.blk.0.ln1.bias", "mm.0.weight"],
        ["mm.0"], {"enc": ["attn_q"], "dec": ["attn_q"], "v": ["ln1.bias"]},
    ),
    "nearly a block's name": (
        ["blk.01.attn_q.weight", "blk.1", "blk..x", "blk.-1.x", "blk.123456.x", "blk.١.x", ".weight", "1.blk.0.x"],
        ["blk.01.attn_q", "blk.1", "blk..x", "blk.-1.x", "blk.123456.x", "blk.١.x", ".weight", "1.blk.0.x"], {},
    ),
    "line ends": (["blk.0.a\nb.weight"], [], {"": ["a\nb"]}),
    "kinds that no two layers share": ([f"blk.{number}.kind{number}" for number in range(40)], [f"blk.{number}.kind{number}" for number in range(40)], {}),
}  # fmt: skip


@pytest.mark.parametrize(("names", "outside", "kinds"), MAPS.values(), ids=MAPS)
def test_where_tensors_stand(names: list[str], outside: list[str], kinds: dict[str, list[str]]) -> None:
    found = sketch(drawn(names))
    assert (found["outside"], {name: stack[0] for name, stack in found["stacks"].items()}) == (outside, kinds)


def test_layers_are_in_order_and_gaps_are_empty() -> None:
    found = sketch(drawn(["blk.10.b", "blk.2.a", "blk.2.b", "blk.0.a"]))
    assert found["stacks"][""] == (
        ["b", "a"],
        {0: [None, "blk.0.a"], 2: ["blk.2.b", "blk.2.a"], 10: ["blk.10.b", None]},
    )
    assert list(found["stacks"][""][1]) == [0, 2, 10]


def test_what_is_missing_stands_in_its_place() -> None:
    found = drawn(["blk.0.a", "blk.1.b", "blk.0.b"], ["blk.1.a", "rope_freqs.weight"])
    cell = found.stacks[0].layers[1][0]
    assert cell is not None and (cell.verdict, cell.tensor, cell.number) == (MISSING, None, None)
    assert [(each.label, each.verdict) for each in found.outside] == [("rope_freqs", MISSING)]


@pytest.mark.parametrize("names", [
    ["blk.0.a", "blk.0.a", "x", "x"], [f"blk.{n % 7}.k{n % 5}" for n in range(90)], [f"blk.{n}.k{n}" for n in range(50)],
])  # fmt: skip
def test_every_tensor_stands_once(names: list[str]) -> None:
    """A name that is there twice, or a kind for each layer, hides nothing."""
    found = drawn(names, ["blk.0.a"])
    cells = [*found.outside, *(cell for stack in found.stacks for row in stack.layers.values() for cell in row if cell)]
    assert Counter(cell.number for cell in cells) == Counter([*range(len(names)), None])
    assert all(cell.number is None or cell.name == names[cell.number] for cell in cells)
