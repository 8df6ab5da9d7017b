# Neither output nor benchmark: what was looked at once may have been changed since, so every rebuild starts anew. The
# reports are logs, which Snakemake keeps when the job fails.
rule rebuild:
    input:
        manifest=f"{recipe.audited}/manifest.json",
        sums=f"{recipe.audited}/SHA256SUMS",
    log:
        log="<logs>/rebuild.log",
        text="<results>/rebuild/report.txt",
        document="<results>/rebuild/report.json",
    conda:
        "../../envs/workflow.yaml"
    # All cores: the rebuild is a run of its own, and shares the toolchains with this one.
    threads: MANY
    resources:
        mem_mb=mem_mb("rebuild"),
        runtime=runtime("rebuild"),
    params:
        snakefile=(ROOT / "Snakefile").absolute(),
    message:
        "making the release of {input.manifest} again"
    script:
        "../../scripts/rebuild_release.py"


use rule rebuild as audit with:
    message:
        "the target audit is called rebuild now: making the release of {input.manifest} again"
