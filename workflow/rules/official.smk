# The official evaluator's own TensorFlow graph beside the torch port; envs/official.yaml or `make official`.

if REGISTRY.data.source == "imagenet":

    rule evaluate_official:  # by name only: results/imagenet/runs/llamagen_l-ours/official.json
        input:
            samples="results/{scale}/runs/{run}/samples.npz",
            features="results/{scale}/runs/{run}/features.npz",
            scores="results/{scale}/runs/{run}/scores.json",
            data=PLAN.asset(REGISTRY.evaluation.reference),
            graph=PLAN.asset("inception_graph"),
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
