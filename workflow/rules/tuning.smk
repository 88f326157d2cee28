# The settings of a run, and the training that tunes its policy.
from artune.config.methods import deciding, snapshot_name


rule run_config:
    output:
        "results/{scale}/runs/{run}/config.yaml",
    log:
        "results/{scale}/runs/{run}/config.log",
    priority: 4
    conda:
        "../../envs/artune.yaml"
    params:
        spec=lambda wildcards: deciding(PLAN.spec(wildcards.run)),  # an edit of one run's settings outdates only that run
    shell:
        f"python -m artune run_config {{wildcards.run}} --output {{output}} {SHARED}"


rule train:
    input:
        unpack(lambda wildcards: settled(PLAN.train(wildcards.run))),
    output:
        policy="results/{scale}/runs/{run}/policy.safetensors",
        metrics="results/{scale}/runs/{run}/metrics.jsonl",
        timings="results/{scale}/runs/{run}/timings.jsonl",
        manifest="results/{scale}/runs/{run}/manifest.json",
    log:
        "results/{scale}/runs/{run}/train.log",
    benchmark:
        "results/{scale}/runs/{run}/train.benchmark.tsv"
    wildcard_constraints:
        run=runs_of(set(REGISTRY.run_names) - set(PLAN.snapshot_runs)),
    priority: TRAIN_FIRST
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    resources:
        launcher="python",
    params:
        networks=lambda wildcards, input: networks(input.get("networks")),
        codes=lambda wildcards, input: option("codes", input),
        data=lambda wildcards, input: option("data", input),
        # The second is part of the first's text: another word in the command would have finished trainings made again.
        reference=lambda wildcards, input: f"{option('reference', input)} {option('second_reference', input)}".strip(),
        class_moments=lambda wildcards, input: option("class_moments", input),
    shell:
        "{resources.launcher} -m artune train --config {input.config} --policy {input.policy}"
        " --tokenizer {input.tokenizer} {params.networks} {params.codes} {params.data} {params.reference}"
        f" {{params.class_moments}} --output {{output.policy}} {SHARED}"


if PLAN.snapshot_runs:

    use rule train as train_with_snapshots with:  # the same training; it also keeps weights on its way (about.snapshots)
        output:
            policy="results/{scale}/runs/{run}/policy.safetensors",
            metrics="results/{scale}/runs/{run}/metrics.jsonl",
            timings="results/{scale}/runs/{run}/timings.jsonl",
            manifest="results/{scale}/runs/{run}/manifest.json",
            snapshots=[f"results/{{scale}}/runs/{{run}}/{snapshot_name(share)}" for share in PLAN.shares],
        wildcard_constraints:
            run=runs_of(PLAN.snapshot_runs),
