# MLflow is the view of what the files record; none of these rules can stop a run.


rule mlflow_store:
    output:
        "results/.mlflow_store.json",
    log:
        "results/.mlflow_store.log",
    conda:
        "../../envs/artune.yaml"
    shell:
        f"python -m artune mlflow_store --output {{output}} {SHARED}"


rule mlflow_log:
    input:
        store=ancient("results/.mlflow_store.json"),
        scores=lambda wildcards: PLAN.scores(wildcards.table),
    output:
        "results/{scale}/tracking/{table}.json",
    log:
        "results/{scale}/tracking/{table}.log",
    wildcard_constraints:
        table="|".join(PLAN.score_tables),
    conda:
        "../../envs/artune.yaml"
    params:
        runs=PLAN.runs,
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune mlflow_log {wildcards.table} --runs {params.runs} --seeds {params.seeds}"
        f" --output {{output}} {SHARED}"


rule mlflow:  # no output: asked for by name, it always runs
    log:
        f"{PLAN.folder}/tracking/mlflow.log",
    conda:
        "../../envs/artune.yaml"
    params:
        runs=PLAN.runs,
    shell:
        f"python -m artune mlflow --runs {{params.runs}} {SHARED}"
