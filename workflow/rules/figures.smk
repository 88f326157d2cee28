# One generic rule; what a figure needs follows from its kind.


rule figure_samples:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        policy=lambda wildcards: PLAN.policy(wildcards.run),
        tokenizer=lambda wildcards: PLAN.tokenizer(wildcards.run),
    output:
        "results/{scale}/figures/samples/{figure}/{run}.npz",
    log:
        "results/{scale}/figures/samples/{figure}/{run}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        layout=lambda wildcards: REGISTRY.figures[wildcards.figure].model_dump(),
    shell:
        "python -m artune figure_samples {wildcards.figure} --config {input.config} --policy {input.policy}"
        f" --tokenizer {{input.tokenizer}} --output {{output}} {SHARED}"


rule figure:
    input:
        lambda wildcards: PLAN.figure(wildcards.figure),
    output:
        pdf="results/{scale}/figures/{figure}.pdf",
        png=report(
            "results/{scale}/figures/{figure}.png",
            category="Figures",
            caption="../report/figure.rst",
            labels={"figure": "{figure}", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/figures/{figure}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        layout=lambda wildcards: REGISTRY.figures[wildcards.figure].model_dump(),
        title=lambda wildcards: PLAN.title("figure", wildcards.figure),
        options=lambda wildcards: PLAN.figure_options(wildcards.figure),
        results=PLAN.folder,
    shell:
        "python -m artune figure {wildcards.figure} {params.options} --results {params.results}"
        f" --output {{output.pdf}} {SHARED}"


rule publish_figure:
    input:
        pdf=f"results/{SCALE}/figures/{{figure}}.pdf",
        png=f"results/{SCALE}/figures/{{figure}}.png",
    output:
        pdf="results/{figure}.pdf",
        png="results/{figure}.png",
    log:
        "results/.{figure}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        scale=SCALE,  # another scale replaces the published copy
    shell:
        "cp {input.pdf} {output.pdf} 2> {log} && cp {input.png} {output.png} 2>> {log}"
