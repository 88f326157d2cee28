# One page that sums a scale up. (Snakemake's own: snakemake --report report.html)


rule claims:
    input:
        PLAN.claims(),
    output:
        csv="results/{scale}/claims.csv",
        json="results/{scale}/claims.json",
    log:
        "results/{scale}/claims.log",
    conda:
        "../../envs/artune.yaml"
    params:
        claims={name: claim.model_dump() for name, claim in REGISTRY.claims.items()},
        results=lambda wildcards, output: Path(output[0]).parent,
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune claims --results {params.results} --seeds {params.seeds}" f" --output {{output.csv}} {SHARED}"


rule rulegraph:
    input:
        "Snakefile",
        sorted(map(str, Path("workflow/rules").glob("*.smk"))),
    output:
        "results/{scale}/rulegraph.mmd",
    log:
        "results/{scale}/rulegraph.log",
    conda:
        "../../envs/artune.yaml"
    shell:
        f"python -m artune rulegraph --output {{output}} {SHARED}"


rule report:
    input:
        **PLAN.report(),
    output:
        page=f"{PLAN.folder}/report.html",
        published="results/report.html",
    log:
        f"{PLAN.folder}/report.log",
    conda:
        "../../envs/artune.yaml"
    params:
        scale=SCALE,  # another scale replaces the published copy
        results=lambda wildcards, output: Path(output[0]).parent,
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune report --results {params.results} --seeds {params.seeds}"
        f" --output {{output.page}} {SHARED} && cp {{output.page}} {{output.published}}"
