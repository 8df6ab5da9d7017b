# Several recipes in one run: the key recipes lists them. Each is a module; what lies in a folder that several of them share
# is made by the first of these.
from snakemake.utils import min_version

min_version("9.27")


include: "rules/checkout.smk"


from requant.ground.errors import RequantError
from requant.pipeline import layout
from requant.pipeline.recipe import require_folders, require_room
from requant.pipeline.recipes import load_recipes

try:
    members = load_recipes(config, ROOT, (workflow.configfiles or ["--config"])[-1])
    require_folders([member.recipe for member in members])
    require_room([member.recipe for member in members])
except RequantError as error:
    raise WorkflowError(str(error))

NAMES = [member.recipe.name for member in members]
TITLE = f"{len(NAMES)} recipes"


include: "rules/terminal.smk"


# As the keywords module and use rule do, which take neither names nor lists of rules that are computed.
for member, name in zip(members, NAMES):
    workflow.module(name, snakefile="Snakefile", config=member.config)
    workflow.userule(
        ["*"],
        from_module=name,
        exclude_rules=[*member.made_before],
        name_modifier=f"{name}_*",
    )(print)


onsuccess:
    say_done(lines, [(layout.release(name), layout.page(name)) for name in NAMES])


onerror:
    say_failed(lines)


rule all:
    default_target: True
    input:
        [workflow.get_rule(f"{name}_all").input for name in NAMES],
    localrule: True
