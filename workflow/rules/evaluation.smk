from requant.pipeline.settings import Behaviour
from requant.toolchain.variants import NATIVE

# Rules exist whatever the recipe asks for; these stand in where it does not ask.
NOTHING = Behaviour(NATIVE, suites=[], thinking="default")
FIDELITY = recipe.evaluation.fidelity or NOTHING
SPEED = recipe.evaluation.speed or NOTHING
BEHAVIOUR = recipe.evaluation.behaviour or NOTHING
# GGUF and record by label; what others are compared with comes first.
MODELS = {
    "BF16": (
        f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        f"<bf16>/{MODEL}/model.json",
    ),
    **{
        kind: (f"<results>/quants/{name}", f"<results>/quants/{kind}.json")
        for kind, name in zip(recipe.quants, QUANTS)
    },
}
# Quants with and without the importance matrix; some types cannot do without.
FIDELITY_QUANTS = [
    *(f"{kind}-imatrix" for kind in recipe.quants),
    *(f"{kind}-plain" for kind in recipe.quants if not needs_imatrix(kind)),
]


rule quantize_plain:
    input:
        model=f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        model_record=f"<bf16>/{MODEL}/model.json",
        tool="<toolchain>/strict/bin/llama-quantize.json",
        lanes=LANES,
    output:
        quant=temp(f"<results>/quants/{layout.plain_file(recipe.name, '{kind}')}"),
        record="<results>/quants/{kind}-plain.json",
    log:
        "<logs>/quantize_plain_{kind}.log",
    benchmark:
        "<benchmarks>/quantize_plain_{kind}.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("quantize_plain"),
        runtime=runtime("quantize_plain"),
    message:
        f"quantizing {recipe.name} to {{wildcards.kind}} without importance matrix, to compare with"
    script:
        "../../scripts/quantize_plain.py"


rule measure_baseline:
    input:
        model=f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        model_record=f"<bf16>/{MODEL}/model.json",
        text=f"<corpus>/{recipe.evaluation_text.name}",
        tool="<toolchain>/strict/bin/llama-perplexity.json",
        backend=f"<toolchain>/{FIDELITY.variant}/build.json",
    output:
        logits=temp("<results>/evaluation/logits.bin"),
        record="<results>/evaluation/fidelity/BF16.json",
    log:
        "<logs>/measure_baseline.log",
    benchmark:
        "<benchmarks>/measure_baseline.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        gpu=on_gpu(FIDELITY),
        mem_mb=mem_mb("measure_baseline"),
        runtime=runtime("measure_baseline"),
    params:
        settings=FIDELITY.as_recipe(),
    message:
        f"measuring the perplexity of {recipe.name} in BF16"
    script:
        "../../scripts/measure_baseline.py"


rule measure_quant:
    input:
        quant=lambda wildcards: "<results>/quants/"
        + (
            layout.quant_file(recipe.name, wildcards.kind)
            if wildcards.how == "imatrix"
            else layout.plain_file(recipe.name, wildcards.kind)
        ),
        record=lambda wildcards: "<results>/quants/"
        + (
            f"{wildcards.kind}.json"
            if wildcards.how == "imatrix"
            else f"{wildcards.kind}-plain.json"
        ),
        logits="<results>/evaluation/logits.bin",
        baseline="<results>/evaluation/fidelity/BF16.json",
        text=f"<corpus>/{recipe.evaluation_text.name}",
        tool="<toolchain>/strict/bin/llama-perplexity.json",
        backend=f"<toolchain>/{FIDELITY.variant}/build.json",
    output:
        record="<results>/evaluation/fidelity/{kind}-{how}.json",
    log:
        "<logs>/measure_{kind}-{how}.log",
    benchmark:
        "<benchmarks>/measure_{kind}-{how}.jsonl"
    wildcard_constraints:
        how="imatrix|plain",
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        gpu=on_gpu(FIDELITY),
        mem_mb=mem_mb("measure_quant"),
        runtime=runtime("measure_quant"),
    params:
        settings=FIDELITY.as_recipe(),
    message:
        "comparing the predictions of {wildcards.kind} ({wildcards.how}) with those of BF16"
    script:
        "../../scripts/measure_quant.py"


rule measure_tensors:
    input:
        model=f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        quant=f"<results>/quants/{layout.quant_file(recipe.name, '{kind}')}",
        record="<results>/quants/{kind}.json",
        imatrix="<results>/calibration/imatrix.gguf",
        tool="<toolchain>/strict/bin/llama-quantize.json",
    output:
        record="<results>/evaluation/tensors/{kind}.json",
    log:
        "<logs>/measure_tensors_{kind}.log",
    benchmark:
        "<benchmarks>/measure_tensors_{kind}.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("measure_tensors"),
        runtime=runtime("measure_tensors"),
    message:
        "comparing every tensor of {wildcards.kind} with its BF16 weights"
    script:
        "../../scripts/measure_tensors.py"


rule measure_speed:
    input:
        models=[model for model, _ in MODELS.values()],
        records=[record for _, record in MODELS.values()],
        bench="<toolchain>/strict/bin/llama-bench.json",
        server="<toolchain>/strict/bin/llama-server.json",
        backend=f"<toolchain>/{SPEED.variant}/build.json",
    output:
        record="<results>/evaluation/speed.json",
    log:
        "<logs>/measure_speed.log",
    benchmark:
        "<benchmarks>/measure_speed.jsonl"
    conda:
        "../../envs/workflow.yaml"
    # All cores: nothing else may run beside it.
    threads: MANY
    resources:
        gpu=on_gpu(SPEED),
        mem_mb=mem_mb("measure_speed"),
        runtime=runtime("measure_speed"),
        # Nothing else may run on its node.
        slurm_extra="--exclusive",
    params:
        labels=list(MODELS),
        settings=SPEED.as_recipe(),
        context=recipe.card["chat"]["context"],
    message:
        f"measuring the speed of {recipe.name} and its quants"
    script:
        "../../scripts/measure_speed.py"


rule write_evaluation:
    input:
        fidelity=evaluated(
            "fidelity",
            [
                f"<results>/evaluation/fidelity/{name}.json"
                for name in ("BF16", *FIDELITY_QUANTS)
            ],
        ),
        tensors=evaluated(
            "fidelity",
            [f"<results>/evaluation/tensors/{kind}.json" for kind in recipe.quants],
        ),
        speed=evaluated("speed", ["<results>/evaluation/speed.json"]),
        behaviour=evaluated(
            "behaviour",
            [f"<results>/evaluation/behaviour/{label}.json" for label in MODELS],
        ),
    output:
        evaluation=report(
            "<results>/release/evaluation.json",
            caption="../report/evaluation.rst",
            category="Release",
        ),
    log:
        "<logs>/write_evaluation.log",
    benchmark:
        "<benchmarks>/write_evaluation.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "writing what was measured"
    script:
        "../../scripts/write_evaluation.py"


rule write_report:
    input:
        manifest="<results>/release/manifest.json",
        evaluation="<results>/release/evaluation.json",
        times="<results>/run.tsv",
        templates=[
            path
            for name in ("report.*", "page.*")
            for path in sorted(ROOT.glob(f"workflow/templates/{name}"))
        ],
    output:
        report=report(
            "<results>/report.html", caption="../report/page.rst", category="Release"
        ),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "writing the report for people"
    script:
        "../../scripts/write_report.py"


rule answer_question:
    input:
        model=f"<results>/release/{QUANTS[0]}",
        sums="<results>/release/SHA256SUMS",
        tool="<toolchain>/strict/bin/llama-completion.json",
        backend="<toolchain>/native/build.json",
    output:
        answer="<results>/evaluation/answer.txt",
    log:
        "<logs>/answer_question.log",
    benchmark:
        "<benchmarks>/answer_question.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("answer_question"),
        runtime=runtime("answer_question"),
    params:
        question="What is the capital of France? Answer in one short sentence.",
    message:
        "asking {input.model} a question"
    script:
        "../../scripts/answer_question.py"
