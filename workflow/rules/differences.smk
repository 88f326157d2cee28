# Differences between the rows of a table: every row against the baseline of its block.


rule compare:  # from the samples' features; at scales that are not the paper's, tables of one seed show its differences
    input:
        features=lambda wildcards: PLAN.compared(wildcards.table),
        scores=lambda wildcards: PLAN.scores(wildcards.table),  # beside which evaluate keeps the scores without each sample
        reference=lambda wildcards: PLAN.references_of(wildcards.table),
    output:
        "results/{scale}/tables/{table}.compare.csv",
    log:
        "results/{scale}/tables/{table}.compare.log",
    wildcard_constraints:
        table="|".join(PLAN.score_tables),
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        layout=lambda wildcards: layout_of(wildcards.table),
        protocol=PLAN.scoring_protocol(),
        runs=PLAN.runs,
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune compare --table {wildcards.table} --runs {params.runs} --reference {input.reference}"
        f" --seeds {{params.seeds}} --output {{output}} {SHARED}"


rule seed_differences:  # seed by seed, where rows have several seeds
    input:
        lambda wildcards: PLAN.scores(wildcards.table),
    output:
        csv="results/{scale}/tables/{table}.seeds.csv",
        markdown="results/{scale}/tables/{table}.seeds.md",
    log:
        "results/{scale}/tables/{table}.seeds.log",
    wildcard_constraints:
        table="|".join(PLAN.score_tables),
    conda:
        "../../envs/artune.yaml"
    params:
        layout=lambda wildcards: layout_of(wildcards.table),
        title=lambda wildcards: PLAN.title("table", wildcards.table),
        runs=PLAN.runs,
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune seed_differences {wildcards.table} --runs {params.runs} --seeds {params.seeds}"
        f" --output {{output.csv}} {SHARED}"
