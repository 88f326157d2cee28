# App. E: seconds of the stages of an iteration, measured while LlamaGen-L was tuned.


rule costs:
    input:
        f"{PLAN.runs}/llamagen_l-ours/timings.jsonl",
    output:
        "results/{scale}/costs.csv",
    log:
        "results/{scale}/costs.log",
    conda:
        "../../envs/artune.yaml"
    params:
        run="llamagen_l-ours",
    shell:
        f"python -m artune costs {{params.run}} --timings {{input}} --output {{output}} {SHARED}"


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
