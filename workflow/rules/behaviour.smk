# Suites of questions, and who asks them.


rule fetch_suites:
    output:
        expand("<suites>/{name}.jsonl", name=BERKELEY),
    log:
        "<suites>/fetch_suites.log",
    benchmark:
        "<suites>/fetch_suites.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        pin=recipe.suites.get("bfcl"),
        pinned=plain(recipe.suites.get("bfcl")),
    message:
        "fetching Berkeley's function-calling sets"
    script:
        "../../scripts/fetch_suites.py"


rule fetch_knowledge:
    input:
        packages=READER,
    output:
        questions="<suites>/{name}.json",
    log:
        "<suites>/fetch_{name}.log",
    benchmark:
        "<suites>/fetch_{name}.jsonl"
    wildcard_constraints:
        name="|".join(KNOWLEDGE),
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        pin=lambda wildcards: recipe.suites.get(wildcards.name),
        pinned=lambda wildcards: plain(recipe.suites.get(wildcards.name)),
    message:
        "fetching the questions of {wildcards.name}"
    script:
        "../../scripts/fetch_knowledge.py"


rule build_harness:
    input:
        lock=ROOT / "envs" / "harness.lock",
    output:
        record="<toolchains>/harness/environment.json",
    log:
        "<toolchains>/harness/logs/build_harness.log",
    benchmark:
        "<toolchains>/harness/benchmarks/build_harness.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "installing the evaluation harness, EvalScope (about 0.6 GB)"
    script:
        "../../scripts/build_harness.py"


rule measure_behaviour:
    input:
        model=lambda wildcards: MODELS[wildcards.label][0],
        record=lambda wildcards: MODELS[wildcards.label][1],
        suites=[suite_file(suite, ROOT) for suite in BEHAVIOUR.suites],
        harness=(
            ["<toolchains>/harness/environment.json"]
            if set(KNOWLEDGE) & set(BEHAVIOUR.suites)
            else []
        ),
        server="<toolchain>/strict/bin/llama-server.json",
        backend=f"<toolchain>/{BEHAVIOUR.variant}/build.json",
    output:
        record="<results>/evaluation/behaviour/{label}.json",
    log:
        "<logs>/measure_behaviour_{label}.log",
    benchmark:
        "<benchmarks>/measure_behaviour_{label}.jsonl"
    wildcard_constraints:
        label="[A-Z0-9_]+",
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        gpu=on_gpu(BEHAVIOUR),
        mem_mb=mem_mb("measure_behaviour"),
        runtime=runtime("measure_behaviour"),
    params:
        settings=BEHAVIOUR.as_recipe(),
        context=recipe.card["chat"]["context"],
        answers=lambda wildcards: layout.answers(recipe.name, wildcards.label),
    message:
        f"asking {{wildcards.label}} the questions of {', '.join(BEHAVIOUR.suites)}"
    script:
        "../../scripts/measure_behaviour.py"
