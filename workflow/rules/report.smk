# Summaries of a scale: its runs in MLflow, its costs, its claims, the report. An MLflow rule that fails affects no run.


rule mlflow_store:
    output:
        "results/.mlflow_store.json",
    log:
        "results/.mlflow_store.log",
    priority: 5  # a store that is there before the first training spares the trainings the making of it
    conda:
        "../../envs/artune.yaml"
    shell:
        # Without --scale: a command that changes with the scale would hide, by Snakemake's order of reasons, that the
        # published table is another scale's.
        "python -m artune mlflow_store --output {output} --log {log}"


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


rule mlflow:  # it has no output, so it runs whenever it is asked for by name
    log:
        f"{PLAN.folder}/tracking/mlflow.log",
    conda:
        "../../envs/artune.yaml"
    params:
        runs=PLAN.runs,
    shell:
        f"python -m artune mlflow --runs {{params.runs}} {SHARED}"


# Appendix E lists the seconds of each stage of an iteration. They come from the tuning of LlamaGen-L; if its released
# weights are missing, the rule bench measures the stages on random weights.
rule bench:
    output:
        timings="results/{scale}/bench/iteration/timings.jsonl",
        manifest="results/{scale}/bench/iteration/manifest.json",
    log:
        "results/{scale}/bench/iteration.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        backbone="llamagen_l",
    shell:
        f"python -m artune bench iteration --backbone {{params.backbone}} --output {{output.timings}} {SHARED}"


rule costs:
    input:
        timings=f"{PLAN.timed()}/timings.jsonl",
        manifest=f"{PLAN.timed()}/manifest.json",
    output:
        "results/{scale}/costs.csv",
    log:
        "results/{scale}/costs.log",
    conda:
        "../../envs/artune.yaml"
    shell:
        f"python -m artune costs --timings {{input.timings}} --output {{output}} {SHARED}"


rule publish_costs:
    input:
        f"{PLAN.folder}/costs.csv",
    output:
        "results/costs.csv",
    log:
        "results/.costs.log",
    conda:
        "../../envs/artune.yaml"
    params:
        shown=[SCALE, SETTINGS.preset],
    shell:
        "cp {input} {output} 2> {log}"


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
        shown=[SCALE, SETTINGS.preset],  # another scale or preset makes the published page again
    shell:
        f"python -m artune report --results {PLAN.folder} --output {{output.page}} {SHARED}"
        f" && python -m artune report --results results --output {{output.published}} {SHARED}"


rule report_so_far:  # it has no output, so it runs whenever it is asked for by name
    log:
        f"{PLAN.folder}/report_so_far.log",
    conda:
        "../../envs/artune.yaml"
    shell:
        f"python -m artune report --results results --output results/report.html {SHARED}"
