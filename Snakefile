# Table of contents. A recipe (--configfile, by default config/config.yaml) becomes results/<name>/release.
from snakemake.utils import min_version

min_version("9.27")


# A recipe named on the command line replaces the default one; Snakemake would merge the two.
if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


pathvars:
    results=f"results/{recipe.name}",
    logs=f"results/{recipe.name}/logs",
    benchmarks=f"results/{recipe.name}/benchmarks",
    toolchain=f"results/toolchains/{recipe.toolchain.name}",


include: "workflow/rules/sources.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/toolchain.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/calibration.smk"
include: "workflow/rules/quants.smk"
include: "workflow/rules/release.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/behaviour.smk"
include: "workflow/rules/audit.smk"


report: "workflow/report/workflow.rst"


onstart:
    lock_results()


localrules:
    all,


rule all:
    default_target: True
    input:
        RELEASE,
        "<results>/run.json",
        REPORT,
