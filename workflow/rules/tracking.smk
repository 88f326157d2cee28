# MLflow is the view of what the files record; none of these rules can stop a run.


rule mlflow_store:
    output:
        "results/.mlflow_store.json",
    log:
        "results/.mlflow_store.log",
    shell:
        f"python -m artune mlflow_store --output {{output}} {SHARED}"


rule mlflow_log:
    input:
        store=ancient("results/.mlflow_store.json"),
        scores=lambda wildcards: expand(
            "results/{scale}/runs/{run}/scores.json", scale=SCALE, run=table_runs(wildcards.table)
        ),
    output:
        "results/{scale}/tracking/{table}.json",
    log:
        "results/{scale}/tracking/{table}.log",
    wildcard_constraints:
        table="|".join(SCORE_TABLES),
    params:
        runs=f"results/{SCALE}/runs",
        seeds=SETTINGS.seeds,
    shell:
        "python -m artune mlflow_log {wildcards.table} --runs {params.runs} --seeds {params.seeds}"
        f" --output {{output}} {SHARED}"
