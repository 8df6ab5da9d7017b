"""requant.toolchain.variants: every name stands for one set of definitions, and no other name for any."""

import re

import pytest

from requant.documents.schemas import SCHEMAS
from requant.ground.errors import RecipeError
from requant.toolchain.variants import FUSED, INFERENCE, LANES, STRICT, variant

ARCHITECTURES = {
    "cuda-sm121": "121a-real",
    "cuda-sm120": "120a-real",
    "cuda-sm100": "100a-real",
    "cuda-sm90": "90a-real",
    "cuda-sm89": "89-real",
    "cuda-sm75": "75-real",
    "strict": None,
    "fused": None,
    "portable": None,
    "native": None,
    "lanes": None,
}


@pytest.mark.parametrize(("name", "architecture"), ARCHITECTURES.items(), ids=list(ARCHITECTURES))
def test_architectures(name: str, architecture: str | None) -> None:
    chosen = variant(name)
    assert (chosen.name, chosen.architecture) == (name, architecture)
    without = {STRICT: (), FUSED: (), LANES: ("lanes",)}
    assert chosen.backends == without.get(name, ("cpu", "cuda") if architecture else ("cpu",))


@pytest.mark.parametrize(
    "name", ["", "Strict", "cuda", "cuda-sm", "cuda-sm1", "cuda-sm1210", "cuda-sm121\n", "cuda-sm１２１"]
)
def test_unknown_variants(name: str) -> None:
    with pytest.raises(RecipeError) as error:
        variant(name)
    assert str(error.value) == f"{name!r} is not a variant; write strict, lanes, fused, portable, native or cuda-smNN"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_variants_that_run_models(name: str) -> None:
    assert bool(re.fullmatch(INFERENCE, name)) is ("cpu" in variant(name).backends)


@pytest.mark.parametrize(("schema", "places"), [("recipe", 4), ("manifest", 1), ("evaluation", 1)])
def test_schemas_repeat_the_pattern(schema: str, places: int) -> None:
    text = (SCHEMAS / f"{schema}.schema.yaml").read_text()
    assert text.count(f"^({INFERENCE})$") == text.count("cuda-sm[0-9]") == places


def test_what_every_variant_shares() -> None:
    """The tools load a backend by the same interface, so all of these must agree."""
    chosen = [variant(name) for name in ARCHITECTURES if name != LANES]
    for key in ("GGML_BACKEND_DL", "BUILD_SHARED_LIBS", "GGML_NATIVE", "GGML_OPENMP", "CMAKE_BUILD_TYPE"):
        assert len({each.definitions[key] for each in chosen}) == 1, key
    assert "-ffp-contract=off" in variant(STRICT).flags
    assert "-ffp-contract=fast" in variant(FUSED).flags
    assert variant(STRICT).definitions["GGML_CPU"] == variant(FUSED).definitions["GGML_CPU"] == "OFF"
