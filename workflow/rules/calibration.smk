rule calibrate:
    input:
        model=f"<results>/bf16/{MODEL}/{recipe.name}.gguf",
        model_record=f"<results>/bf16/{MODEL}/model.json",
        text=f"<results>/corpus/{recipe.calibration_text.name}",
        tool="<toolchain>/strict/bin/llama-imatrix.json",
        backend=f"<toolchain>/{recipe.calibration.variant}/build.json",
    output:
        imatrix="<results>/calibration/imatrix.gguf",
        record="<results>/calibration/imatrix.json",
    log:
        "<logs>/calibrate.log",
    benchmark:
        "<benchmarks>/calibrate.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        gpu=on_gpu(recipe.calibration),
        mem_mb=mem_mb("calibrate"),
        runtime=runtime("calibrate"),
    params:
        settings=recipe.calibration.as_recipe(),
    message:
        f"calibrating {recipe.name} on {recipe.calibration_text.name}"
    script:
        "../../scripts/calibrate.py"
