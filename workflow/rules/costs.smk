# App. E: seconds of the stages of an iteration: of LlamaGen-L's tuning, or on random weights where there are no others.


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
        scale=SCALE,
    shell:
        "cp {input} {output} 2> {log}"
