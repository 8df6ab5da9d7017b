# Neither output nor benchmark: what was looked at once may have been changed since, so every audit starts anew. The
# reports are logs, which Snakemake keeps when the job fails.
rule audit:
    input:
        manifest=f"{recipe.audited}/manifest.json",
        sums=f"{recipe.audited}/SHA256SUMS",
    log:
        log="<logs>/audit.log",
        text="<results>/audit/report.txt",
        document="<results>/audit/report.json",
    conda:
        "../../envs/workflow.yaml"
    # All cores: the rebuild is a run of its own, and shares the toolchains with this one.
    threads: MANY
    params:
        snakefile=ROOT / "Snakefile",
    message:
        "rebuilding the release in {recipe.audited} from its manifest"
    script:
        "../../scripts/rebuild_release.py"
