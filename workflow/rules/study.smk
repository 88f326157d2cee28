# Table 3: votes of people. Without a store of votes it says "no votes yet".


rule study_tally:
    input:
        PLAN.votes(),
    output:
        "results/{scale}/study/tally.json",
    log:
        "results/{scale}/study/tally.log",
    conda:
        "../../envs/artune.yaml"
    params:
        votes=lambda wildcards, input: f"--votes {input}" if input else "",
    shell:
        f"python -m artune study_tally {{params.votes}} --output {{output}} {SHARED}"


rule study_table:
    input:
        "results/{scale}/study/tally.json",
    output:
        csv="results/{scale}/tables/{table}.csv",
        markdown="results/{scale}/tables/{table}.md",
        latex="results/{scale}/tables/{table}.tex",
    log:
        "results/{scale}/tables/{table}.log",
    wildcard_constraints:
        table="|".join(PLAN.study_tables),
    conda:
        "../../envs/artune.yaml"
    params:
        layout=lambda wildcards: REGISTRY.tables[wildcards.table].model_dump(),
        runs=PLAN.runs,
    shell:
        "python -m artune table {wildcards.table} --runs {params.runs} --tally {input}"
        f" --output {{output.csv}} {SHARED}"
