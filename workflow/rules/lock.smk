# One run at a time in a folder.
from requant.ground.locks import hold


def lock_results():
    """Refuse a second run in this folder; unlike a lock file, this one ends with the process that holds it."""
    Path(layout.RESULTS).mkdir(exist_ok=True)
    # A bare descriptor, which nothing closes before the process ends.
    lock = os.open(layout.LOCK, os.O_RDWR | os.O_CREAT)
    try:
        free = hold(lock, Path(layout.LOCK), wait=False)
    except RequantError as error:
        raise WorkflowError(str(error))
    if not free:
        raise WorkflowError(
            f"another run is working in {Path.cwd()}: wait for it, or use another folder (--directory)"
        )


# Snakemake calls the onstart of the main Snakefile only, so a module adds itself: snakedeploy copies our profile, which
# turns Snakemake's own lock off.
def lock_first(log, theirs=workflow._onstart):
    lock_results()
    theirs(log)


# Of several modules one does: the lock is the run's.
if (
    not workflow.modifier.is_main_snakefile()
    and workflow._onstart.__name__ != lock_first.__name__
):
    workflow._onstart = lock_first
