# Table 3: image pairs for human voters (`artune study serve` collects their votes), the choices of an automatic judge, and
# the tally. Before there are votes, the table says "no votes yet".


rule study_samples:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        policy=lambda wildcards: PLAN.policy(wildcards.run),
        tokenizer=lambda wildcards: PLAN.tokenizer(wildcards.run),
    output:
        temp("results/{scale}/study/samples/{run}.npz"),
    log:
        "results/{scale}/study/samples/{run}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        settings={name: setting.model_dump() for name, setting in REGISTRY.study.settings.items()},
        draw=[REGISTRY.study.seed, REGISTRY.evaluation.batch],
    shell:
        "python -m artune study_samples --config {input.config} --policy {input.policy}"
        f" --tokenizer {{input.tokenizer}} --output {{output}} {SHARED}"


rule study_make:
    input:
        samples=PLAN.study_samples(),
        data=settled(PLAN.study_images()),
    output:
        "results/{scale}/study/pairs.zip",
    log:
        "results/{scale}/study/make.log",
    conda:
        "../../envs/artune.yaml"
    params:
        study=REGISTRY.study.model_dump(exclude={"judge", "page"}),
        samples=lambda wildcards, input: Path(input.samples[0]).parent,
    shell:
        "python -m artune study_make --samples {params.samples} --data {input.data}" f" --output {{output}} {SHARED}"


rule study_judge:
    input:
        pairs="results/{scale}/study/pairs.zip",
        networks=PLAN.judge_networks(),
    output:
        "results/{scale}/study/judge.json",
    log:
        "results/{scale}/study/judge.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    shell:
        "python -m artune study_judge --pairs {input.pairs} --networks {input.networks}"
        f" --output {{output}} {SHARED}"


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
        tally="results/{scale}/study/tally.json",
        judge=PLAN.study_judge(),
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
        judge=lambda wildcards, input: option("judge", input) if input.judge else "",
    shell:
        "python -m artune table {wildcards.table} --runs {params.runs} --tally {input.tally} {params.judge}"
        f" --output {{output.csv}} {SHARED}"
