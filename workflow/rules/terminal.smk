# What a run says: a line for each step, and at the end what to do. With --verbose, --printshellcmds, --quiet or a dry run
# Snakemake speaks for itself.
from requant import __version__
from requant.pipeline.terminal import say_done, say_failed, take_over

SNAKEMAKE_SPEAKS = (
    workflow.output_settings.verbose
    or workflow.output_settings.printshellcmds
    or workflow.output_settings.quiet
    or workflow.output_settings.dryrun
    or not workflow.is_main_process
)
lines = (
    None
    if SNAKEMAKE_SPEAKS
    else take_over(
        f"requant {__version__} · {TITLE} · {(workflow.configfiles or ['its config'])[-1]}",
        NAMES,
    )
)
