# Samples of a policy, the features of the samples, and the scores of the features.


rule sample:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        policy=lambda wildcards: PLAN.policy(wildcards.run),
        pretrained=lambda wildcards: PLAN.prior(wildcards.run),
        tokenizer=lambda wildcards: PLAN.tokenizer(wildcards.run),
    output:
        samples=temp("results/{scale}/runs/{run}/samples.npz"),
        grid=report(
            "results/{scale}/runs/{run}/grid.png",
            category="Sample grids",
            caption="../report/grid.rst",
            labels={"run": "{run}", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/runs/{run}/sample.log",
    benchmark:
        "results/{scale}/runs/{run}/sample.benchmark.tsv"
    wildcard_constraints:
        run=runs_of(set(REGISTRY.run_names) - set(PLAN.real_runs)),
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    resources:
        launcher="python",
    params:
        protocol=PLAN.sampling_protocol(),
    shell:
        "{resources.launcher} -m artune sample --config {input.config} --policy {input.policy}"
        " --pretrained {input.pretrained} --tokenizer {input.tokenizer} --output {output.samples}"
        f" --networks {' '.join(PLAN.evaluation_networks())}"  # not an input, so that sampling does not wait for them
        f" --grid {{output.grid}} {SHARED}"


rule real_samples:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        data=lambda wildcards: settled(PLAN.real(wildcards.run)),
    output:
        samples=temp("results/{scale}/runs/{run}/samples.npz"),
        grid=report(
            "results/{scale}/runs/{run}/grid.png",
            category="Sample grids",
            labels={"run": "{run}", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/runs/{run}/sample.log",
    wildcard_constraints:
        run=runs_of(PLAN.real_runs),
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        protocol=PLAN.sampling_protocol(),
    shell:
        "python -m artune real_samples --config {input.config} --data {input.data} --output {output.samples}"
        f" --grid {{output.grid}} {SHARED}"


rule features:
    input:
        samples="results/{scale}/runs/{run}/samples.npz",
        networks=lambda wildcards: PLAN.evaluation_networks(PLAN.set_of(wildcards.run)),
    output:
        "results/{scale}/runs/{run}/features.npz",
    log:
        "results/{scale}/runs/{run}/features.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    resources:
        launcher="python",
    params:
        # Features are stored per role; another network in a role outdates them.
        roles=lambda wildcards: PLAN.feature_roles(PLAN.set_of(wildcards.run)),
    shell:
        "{resources.launcher} -m artune features --samples {input.samples} --networks {input.networks}"
        f" --output {{output}} {SHARED}"


rule judge_reference:  # a file of its own, so that trainings do not depend on this judge; without its package it is empty
    input:
        data=PLAN.embedded_data() if REGISTRY.data.embedded else [],
    output:
        "results/{home}/references/{network}.npz",
    log:
        "results/{home}/references/{network}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.judge_reference_recipe, wildcards.network),
    shell:
        "python -m artune judge_reference {wildcards.network} --data {input.data}" f" --output {{output}} {SHARED}"


rule evaluate:
    input:
        **PLAN.further_references(),
        config="results/{scale}/runs/{run}/config.yaml",
        features="results/{scale}/runs/{run}/features.npz",
        reference=lambda wildcards: PLAN.reference_moments(PLAN.set_of(wildcards.run)),
        timings=lambda wildcards: PLAN.timings(wildcards.run),
    output:
        "results/{scale}/runs/{run}/scores.json",
    log:
        "results/{scale}/runs/{run}/evaluate.log",
    benchmark:
        "results/{scale}/runs/{run}/evaluate.benchmark.tsv"
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        protocol=PLAN.scoring_protocol(),
        further=lambda wildcards, input: option("references", input),
        timings=lambda wildcards, input: (f"--timings {input.timings}" if input.timings else ""),
    shell:
        "python -m artune evaluate --config {input.config} --features {input.features} --reference {input.reference}"
        f" {{params.further}} {{params.timings}} --output {{output}} {SHARED}"


# The official evaluator's own TensorFlow graph, to compare the torch port with. It runs in an environment of its own:
# envs/official.yaml, or `make official`.
if not REGISTRY.data.embedded:

    rule evaluate_official:  # made only on request: results/imagenet/runs/llamagen_l-ours/official.json
        input:
            samples="results/{scale}/runs/{run}/samples.npz",
            features="results/{scale}/runs/{run}/features.npz",
            scores="results/{scale}/runs/{run}/scores.json",
            data=settled(PLAN.asset(REGISTRY.evaluation.reference)),
            graph=settled(PLAN.asset("inception_graph")),
        output:
            "results/{scale}/runs/{run}/official.json",
        log:
            "results/{scale}/runs/{run}/official.log",
        benchmark:
            "results/{scale}/runs/{run}/official.benchmark.tsv"
        conda:
            "../../envs/official.yaml"
        threads: SETTINGS.threads
        resources:
            launcher=OFFICIAL,
        shell:
            "{resources.launcher} -m artune evaluate_official {wildcards.run} --samples {input.samples}"
            " --features {input.features} --scores {input.scores} --data {input.data} --graph {input.graph}"
            f" --output {{output}} {SHARED}"
