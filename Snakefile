# What Snakemake finds first in a checkout. The table of contents is workflow/Snakefile, whose default target the
# keyword include would drop.
workflow.include(
    f"workflow/{'recipes.smk' if 'recipes' in config else 'Snakefile'}",
    overwrite_default_target=True,
)
