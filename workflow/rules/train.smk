# A run's settings, and its training.


rule run_config:
    output:
        "results/{scale}/runs/{run}/config.yaml",
    log:
        "results/{scale}/runs/{run}/config.log",
    params:
        spec=lambda wildcards: spec(wildcards.run),  # editing one run's line replans that run only
    shell:
        f"python -m artune run_config {{wildcards.run}} --output {{output}} {SHARED}"


def train_inputs(wildcards):
    run = wildcards.run
    inputs = {
        "config": f"results/{SCALE}/runs/{run}/config.yaml",
        "policy": prior_file(run),
        "tokenizer": tokenizer_file(run),
        "store": ancient("results/.mlflow_store.json"),
    }
    if spec(run)["method"] == "mle":
        return inputs | {"codes": codes_file(run)}
    networks = list(spec(run)["networks"])
    inputs["networks"] = network_files(networks)
    if "loo_fid" in spec(run)["rewards"]["terms"]:
        inputs["reference"] = f"results/{SCALE}/reference.npz"
    return inputs


rule train:
    input:
        unpack(train_inputs),
    output:
        policy="results/{scale}/runs/{run}/policy.safetensors",
        metrics="results/{scale}/runs/{run}/metrics.jsonl",
        timings="results/{scale}/runs/{run}/timings.jsonl",
        manifest="results/{scale}/runs/{run}/manifest.json",
    log:
        "results/{scale}/runs/{run}/train.log",
    benchmark:
        "results/{scale}/runs/{run}/train.benchmark.tsv"
    params:
        networks=f"results/{SCALE}/inputs/networks",
        codes=lambda wildcards, input: f"--codes {input.codes}" if "codes" in input.keys() else "",
        reference=lambda wildcards, input: f"--reference {input.reference}" if "reference" in input.keys() else "",
    threads: SETTINGS.threads
    resources:
        launcher="python",
    shell:
        "{resources.launcher} -m artune train --config {input.config} --policy {input.policy}"
        " --tokenizer {input.tokenizer} --networks {params.networks} {params.codes} {params.reference}"
        f" --output {{output.policy}} {SHARED}"
