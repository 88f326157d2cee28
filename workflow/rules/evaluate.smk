# Sample a policy, take features of the images, score them.


rule sample:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        policy=lambda wildcards: policy_file(wildcards.run),
        pretrained=lambda wildcards: prior_file(wildcards.run),
        tokenizer=lambda wildcards: tokenizer_file(wildcards.run),
    output:
        samples=temp("results/{scale}/runs/{run}/samples.npz"),
        grid=report(
            "results/{scale}/runs/{run}/grid.png",
            category="Sample grids",
            labels={"run": "{run}", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/runs/{run}/sample.log",
    benchmark:
        "results/{scale}/runs/{run}/sample.benchmark.tsv"
    params:
        protocol=[REGISTRY.evaluation.samples, REGISTRY.evaluation.labels, REGISTRY.evaluation.seed],
    threads: SETTINGS.threads
    resources:
        launcher="python",
    shell:
        "{resources.launcher} -m artune sample --config {input.config} --policy {input.policy}"
        " --pretrained {input.pretrained} --tokenizer {input.tokenizer} --output {output.samples}"
        f" --grid {{output.grid}} {SHARED}"


rule features:
    input:
        samples="results/{scale}/runs/{run}/samples.npz",
        networks=evaluation_networks,
    output:
        "results/{scale}/runs/{run}/features.npz",
    log:
        "results/{scale}/runs/{run}/features.log",
    params:
        networks=f"results/{SCALE}/inputs/networks",
    threads: SETTINGS.threads
    shell:
        "python -m artune features --samples {input.samples} --networks {params.networks}"
        f" --output {{output}} {SHARED}"


def timings_of(wildcards):
    if spec(wildcards.run)["method"] in ("grpo", "mle"):
        return [f"results/{SCALE}/runs/{wildcards.run}/timings.jsonl"]
    return []


rule evaluate:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        features="results/{scale}/runs/{run}/features.npz",
        reference="results/{scale}/reference.npz",
        timings=timings_of,
    output:
        "results/{scale}/runs/{run}/scores.json",
    log:
        "results/{scale}/runs/{run}/evaluate.log",
    benchmark:
        "results/{scale}/runs/{run}/evaluate.benchmark.tsv"
    params:
        protocol=REGISTRY.tree["evaluation"],
        timings=lambda wildcards, input: f"--timings {input.timings}" if input.timings else "",
    threads: SETTINGS.threads
    shell:
        "python -m artune evaluate --config {input.config} --features {input.features} --reference {input.reference}"
        f" {{params.timings}} --output {{output}} {SHARED}"
