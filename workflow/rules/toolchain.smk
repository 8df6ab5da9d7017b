rule fetch_toolchain:
    output:
        record="<toolchain>/source.json",
    log:
        "<toolchain>/logs/fetch_toolchain.log",
    benchmark:
        "<toolchain>/benchmarks/fetch_toolchain.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        pin=recipe.toolchain,
        pinned=plain(recipe.toolchain),
    message:
        f"fetching and proving llama.cpp {recipe.toolchain.commit}"
    script:
        "../../scripts/fetch_toolchain.py"


rule build_tool:
    input:
        source="<toolchain>/source.json",
    output:
        tool="<toolchain>/strict/bin/{tool}",
        record="<toolchain>/strict/bin/{tool}.json",
    log:
        "<toolchain>/logs/build_{tool}.log",
    benchmark:
        "<toolchain>/benchmarks/build_{tool}.jsonl"
    conda:
        "../../envs/workflow.yaml"
    # All cores: the tools share one build folder, so a second build at the same time would only wait.
    threads: MANY
    # And on a cluster (profiles/slurm), where a second build would wait on a node of its own.
    resources:
        builds=1,
        mem_mb=mem_mb("build_tool"),
        runtime=runtime("build_tool"),
    params:
        commit=recipe.toolchain.commit,
    message:
        "building {wildcards.tool}"
    script:
        "../../scripts/build_tool.py"


rule build_backend:
    input:
        source="<toolchain>/source.json",
        own_code=lambda wildcards: [
            ROOT / source.relative_to(ROOT.absolute())
            for source in variant(wildcards.variant).sources
        ],
    output:
        record="<toolchain>/{variant}/build.json",
    log:
        "<toolchain>/logs/build_{variant}.log",
    benchmark:
        "<toolchain>/benchmarks/build_{variant}.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("build_backend"),
        runtime=runtime("build_backend"),
    params:
        commit=recipe.toolchain.commit,
    message:
        "building the variant {wildcards.variant}"
    script:
        "../../scripts/build_backend.py"


rule build_converter:
    input:
        locks=[
            ROOT / "envs" / f"{name}.lock"
            for name in ("converter", "torch", "torch-cpu")
        ],
    output:
        record="<toolchains>/converter/environment.json",
    log:
        "<toolchains>/converter/logs/build_converter.log",
    benchmark:
        "<toolchains>/converter/benchmarks/build_converter.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "installing the upstream converter's environment (torch and transformers, about 1.5 GB)"
    script:
        "../../scripts/build_converter.py"


rule build_datasets:
    input:
        lock=ROOT / "envs" / "datasets.lock",
    output:
        record="<toolchains>/datasets/packages.json",
    log:
        "<toolchains>/datasets/logs/build_datasets.log",
    benchmark:
        "<toolchains>/datasets/benchmarks/build_datasets.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        # Another Python cannot load what was compiled for this one.
        python=sys.implementation.cache_tag,
    message:
        "installing the packages that read data sets (datasets, pandas and pyarrow, about 0.2 GB)"
    script:
        "../../scripts/build_datasets.py"
