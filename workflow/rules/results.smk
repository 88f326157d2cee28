# Tables and figures. One rule makes all tables of scores, and one makes all figures: the kind of a figure determines its
# inputs. results/tableN.csv and results/figureN.pdf are copies of the files of the configured scale.


rule table:
    input:
        scores=lambda wildcards: PLAN.scores(wildcards.table),
        differences=lambda wildcards: PLAN.paired_differences(wildcards.table),
    output:
        csv=report(
            "results/{scale}/tables/{table}.csv",
            category="Tables",
            caption="../report/table.rst",
            labels={"table": "{table}", "scale": "{scale}"},
        ),
        markdown="results/{scale}/tables/{table}.md",
        latex="results/{scale}/tables/{table}.tex",
    log:
        "results/{scale}/tables/{table}.log",
    wildcard_constraints:
        table="|".join(PLAN.score_tables),
    conda:
        "../../envs/artune.yaml"
    params:
        layout=lambda wildcards: layout_of(wildcards.table),
        title=lambda wildcards: PLAN.title("table", wildcards.table),
        runs=PLAN.runs,
        seeds=SETTINGS.seeds,
        differences=lambda wildcards, input: (f"--differences {input.differences}" if input.differences else ""),
    shell:
        "python -m artune table {wildcards.table} --runs {params.runs} --seeds {params.seeds} {params.differences}"
        f" --output {{output.csv}} {SHARED}"


rule publish_table:
    input:
        csv=f"{PLAN.folder}/tables/{{table}}.csv",
        markdown=f"{PLAN.folder}/tables/{{table}}.md",
        latex=f"{PLAN.folder}/tables/{{table}}.tex",
        tracked=lambda wildcards: PLAN.tracked(wildcards.table),
        differences=lambda wildcards: PLAN.seed_differences(wildcards.table),
    output:
        csv="results/{table}.csv",
        markdown="results/{table}.md",
        latex="results/{table}.tex",
    log:
        "results/.{table}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        shown=[SCALE, SETTINGS.preset],  # another scale or preset replaces the published copy
    shell:
        "cp {input.csv} {output.csv} 2> {log} && cp {input.markdown} {output.markdown} 2>> {log}"
        " && cp {input.latex} {output.latex} 2>> {log}"


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
        layout=lambda wildcards: PLAN.figure_draws(wildcards.figure),
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
        caption="results/{scale}/figures/{figure}.txt",
    log:
        "results/{scale}/figures/{figure}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        layout=lambda wildcards: REGISTRY.figures[wildcards.figure].model_dump(),
        caption=lambda wildcards: PLAN.figure_caption(wildcards.figure),
        options=lambda wildcards: PLAN.figure_options(wildcards.figure),
        results=PLAN.folder,
    shell:
        "python -m artune figure {wildcards.figure} {params.options} --results {params.results}"
        f" --output {{output.pdf}} {SHARED}"


rule publish_figure:
    input:
        pdf=f"{PLAN.folder}/figures/{{figure}}.pdf",
        png=f"{PLAN.folder}/figures/{{figure}}.png",
        caption=f"{PLAN.folder}/figures/{{figure}}.txt",
    output:
        pdf="results/{figure}.pdf",
        png="results/{figure}.png",
        caption="results/{figure}.txt",
    log:
        "results/.{figure}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        shown=[SCALE, SETTINGS.preset],  # another scale or preset replaces the published copy
    shell:
        "cp {input.pdf} {output.pdf} 2> {log} && cp {input.png} {output.png} 2>> {log}"
        " && cp {input.caption} {output.caption} 2>> {log}"
