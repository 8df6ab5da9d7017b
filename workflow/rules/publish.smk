# Only where the target publish is named; nothing that this workflow makes depends on it.

# Refused before there are plans, in which Snakemake would show a traceback. In a module the target has another name.
if {"publish", f"{recipe.name}_publish"} & {*sys.argv}:
    to_publish()


# Neither output nor benchmark: what hubs hold may have changed since, so they are asked each time. Of an output Snakemake
# would first delete published.json, and with it what it says of other places. Here, as tokens lie where somebody logged in.
rule publish:
    input:
        files=to_publish,
        sums="<results>/release/SHA256SUMS",
    log:
        "<logs>/publish.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        places=list(recipe.publish),
    message:
        f"publishing {recipe.name} to {', '.join(recipe.publish)}"
    script:
        "../../scripts/publish_release.py"
