# With shards each is a job, and the result a sum of theirs; else one job makes it.
SHARDS = list(split(recipe.calibration))
PART = "shards/{shard}" if SHARDS else "imatrix"
JOB = "calibrate_{shard}" if SHARDS else "calibrate"
NAMED = ", {wildcards.shard}" if SHARDS else ""


rule calibrate:
    input:
        model=f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        model_record=f"<bf16>/{MODEL}/model.json",
        text=f"<corpus>/{recipe.calibration_text.name}",
        tool="<toolchain>/strict/bin/llama-imatrix.json",
        backend=f"<toolchain>/{recipe.calibration.variant}/build.json",
    output:
        imatrix=f"<results>/calibration/{PART}.gguf",
        record=f"<results>/calibration/{PART}.json",
    log:
        f"<logs>/{JOB}.log",
    benchmark:
        f"<benchmarks>/{JOB}.jsonl"
    wildcard_constraints:
        shard="shard-[0-9]+-of-[0-9]+",
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        gpu=on_gpu(recipe.calibration),
        mem_mb=mem_mb("calibrate"),
        runtime=runtime("calibrate"),
    params:
        settings=(
            measured(recipe.calibration) if SHARDS else recipe.calibration
        ).as_recipe(),
    message:
        f"calibrating {recipe.name} on {recipe.calibration_text.name}{NAMED}"
    script:
        "../../scripts/calibrate.py"


if SHARDS:

    rule merge_shards:
        input:
            shards=[f"<results>/calibration/shards/{shard}.gguf" for shard in SHARDS],
            records=[f"<results>/calibration/shards/{shard}.json" for shard in SHARDS],
            tool="<toolchain>/strict/bin/llama-imatrix.json",
        output:
            imatrix="<results>/calibration/imatrix.gguf",
            record="<results>/calibration/imatrix.json",
        log:
            "<logs>/merge_shards.log",
        benchmark:
            "<benchmarks>/merge_shards.jsonl"
        localrule: True
        conda:
            "../../envs/workflow.yaml"
        params:
            settings=recipe.calibration.as_recipe(),
            text=recipe.calibration_text.name,
        message:
            f"adding up {len(SHARDS)} shards of the calibration of {recipe.name}"
        script:
            "../../scripts/merge_shards.py"
