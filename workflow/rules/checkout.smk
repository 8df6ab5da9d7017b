# Where the workflow's own files lie, and the Python package among them.
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalSourceFile


def checkout(folder):
    """The root of the checkout in which ``folder`` is workflow/rules, as a path.

    A module may be read straight from GitHub or GitLab, file by file. The package, its schemas and the templates have to be
    files, so that commit is unpacked in Snakemake's cache.
    """
    if isinstance(folder, LocalSourceFile):
        return Path(folder).parents[1]
    if not isinstance(folder, HostingProviderFile):
        raise WorkflowError(
            f"requant cannot run from {folder}: name a checkout, or a commit by github(...) or gitlab(...)"
        )
    repository = folder.hosted_repo.repo
    commit = repository.commit(folder.ref).hexsha
    unpacked = workflow.sourcecache.cache_path / "requant" / commit
    if not unpacked.exists():
        unpacked.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked.parent) as work:
            archive = io.BytesIO()
            repository.archive(archive, commit)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as files:
                files.extractall(f"{work}/{commit}", filter="data")
            Path(work, commit).rename(unpacked)
    return unpacked


ROOT = checkout(workflow.current_basedir)
# This package, whatever other version is installed: for the rules, and for their scripts, which Snakemake would let look
# for it among the installed ones first.
sys.path.insert(0, str(ROOT / "scripts"))
if os.getenv("PYTHONPATH", "").split(os.pathsep)[0] != sys.path[0]:
    os.environ.update(
        PYTHONPATH=os.pathsep.join(
            [sys.path[0], *filter(None, [os.getenv("PYTHONPATH")])]
        )
    )
# Inputs of this checkout by relative names, where they can be: a folder that was moved as a whole is the same.
if ROOT == Path.cwd():
    ROOT = Path()


def require_profile(arguments):
    """Refuse a workflow profile that does not exist, which Snakemake would go on without (snakemake#4276)."""
    for option, following in zip(arguments, [*arguments[1:], ""]):
        name, _, value = option.partition("=")
        if name == "--workflow-profile":
            profile = value or following
            places = [Path(os.environ.get("PWD", ".")), Path.cwd(), ROOT]
            found = [place / profile for place in places if (place / profile).exists()]
            if profile != "none" and not found:
                raise WorkflowError(
                    f"--workflow-profile names {profile}, which does not exist; write a folder such as profiles/gb10"
                )
            for file in [
                path for place in found[:1] for path in place.glob("profile.yaml")
            ]:
                require_settings(profile, yaml.safe_load(file.read_text()) or {})


def require_settings(profile, settings):
    """Refuse to go on without the keys of a recipe that a profile sets, which a --config beside it replaces all."""
    wanted = settings.get("config") or []
    if isinstance(wanted, dict):
        wanted = [f"{key}={value}" for key, value in wanted.items()]
    for setting in wanted if isinstance(wanted, list) else [wanted]:
        if str(setting).partition("=")[0] not in workflow.config_settings.config:
            raise WorkflowError(
                f"--config replaces all that {profile} sets of the recipe: write {setting!r} behind it too, or both into "
                "the recipe"
            )


require_profile(sys.argv)


def require_plain(program):
    """Refuse a place whose name Snakemake would hand to the shell as it is."""
    if odd := sorted(set(program) & set("()&;<>|$`\\\"'*?[]#!{}")):
        raise WorkflowError(
            f"{Path(program).parents[2]} has {odd[0]} in its name, which the shell would read: rename the folder"
        )


require_plain(sys.executable)
