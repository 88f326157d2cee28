# One generic rule; what a figure needs follows from its kind.


def figure_runs(figure):
    chosen = REGISTRY.figures[figure]
    compared = list(SETTINGS.figure2.compare) if chosen.kind == "training_dynamics" else []
    return [*chosen.runs, *compared]


def figure_inputs(wildcards):
    kind = REGISTRY.figures[wildcards.figure].kind
    if kind == "training_dynamics":
        return expand("results/{scale}/runs/{run}/metrics.jsonl", scale=SCALE, run=figure_runs(wildcards.figure))
    if kind == "samples":
        return expand(
            "results/{scale}/figures/samples/{figure}/{run}.npz",
            scale=SCALE,
            figure=wildcards.figure,
            run=figure_runs(wildcards.figure),
        )
    return []


rule figure_samples:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        policy=lambda wildcards: policy_file(wildcards.run),
        tokenizer=lambda wildcards: tokenizer_file(wildcards.run),
    output:
        "results/{scale}/figures/samples/{figure}/{run}.npz",
    log:
        "results/{scale}/figures/samples/{figure}/{run}.log",
    params:
        layout=lambda wildcards: REGISTRY.figures[wildcards.figure].model_dump(),
    threads: SETTINGS.threads
    shell:
        "python -m artune figure_samples {wildcards.figure} --config {input.config} --policy {input.policy}"
        f" --tokenizer {{input.tokenizer}} --output {{output}} {SHARED}"


rule figure:
    input:
        figure_inputs,
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
    params:
        layout=lambda wildcards: REGISTRY.figures[wildcards.figure].model_dump(),
        title=lambda wildcards: caption("figure", wildcards.figure),
        settings=lambda wildcards: (
            SETTINGS.figure2.model_dump() if REGISTRY.figures[wildcards.figure].kind == "training_dynamics" else None
        ),
        runs=f"results/{SCALE}",
        smoothing=lambda wildcards: SETTINGS.figure2.smoothing,
        compare=lambda wildcards: " ".join(SETTINGS.figure2.compare),
    shell:
        "python -m artune figure {wildcards.figure} --runs {params.runs} --output {output.pdf}"
        f" --smoothing {{params.smoothing}} --compare {{params.compare}} {SHARED}"


rule publish_figure:
    input:
        pdf=f"results/{SCALE}/figures/{{figure}}.pdf",
        png=f"results/{SCALE}/figures/{{figure}}.png",
    output:
        pdf="results/{figure}.pdf",
        png="results/{figure}.png",
    log:
        "results/.{figure}.log",
    params:
        scale=SCALE,
    shell:
        "cp {input.pdf} {output.pdf} 2> {log} && cp {input.png} {output.png} 2>> {log}"
