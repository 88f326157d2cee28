# Data, downloaded files, frozen networks, and moments of the real images.
from artune.planning.needs import needed_assets


rule asset:
    output:
        "results/{scale}/assets/{asset}.json",
    log:
        "results/{scale}/assets/{asset}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        asset=lambda wildcards: REGISTRY.assets[wildcards.asset].model_dump(),
    shell:
        f"python -m artune asset {{wildcards.asset}} --output {{output}} {SHARED}"


rule assets:  # all downloaded files of the scale; --keep-going fetches the rest if one has to be provided by hand
    input:
        [PLAN.asset(key) for key in needed_assets(REGISTRY)],
    log:
        f"{PLAN.folder}/assets.log",
    conda:
        "../../envs/artune.yaml"
    shell:
        f"python -m artune assets {SHARED}"


if REGISTRY.data.source == "mnist":

    rule data:
        output:
            "results/{scale}/inputs/data.npz",
        log:
            "results/{scale}/inputs/data.log",
        priority: 4
        conda:
            "../../envs/artune.yaml"
        params:
            data=REGISTRY.tree["data"],
        shell:
            f"python -m artune data --output {{output}} {SHARED}"


rule network:
    input:
        unpack(lambda wildcards: PLAN.network(wildcards.network)),
    output:
        "results/{scale}/inputs/networks/{network}.safetensors",
    log:
        "results/{scale}/inputs/networks/{network}.log",
    benchmark:
        "results/{scale}/inputs/networks/{network}.benchmark.tsv"
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        network=lambda wildcards: REGISTRY.tree["networks"][wildcards.network],
        data=lambda wildcards, input: option("data", input),
        tokenizer=lambda wildcards, input: option("tokenizer", input),
    shell:
        f"python -m artune network {{wildcards.network}} {{params.data}} {{params.tokenizer}} --output {{output}} {SHARED}"


rule further_reference:
    input:
        data=lambda wildcards: PLAN.asset(wildcards.asset),
        networks=PLAN.reference()["networks"],
    output:
        "results/{scale}/references/{asset}.npz",
    log:
        "results/{scale}/references/{asset}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        networks=lambda wildcards, input: Path(input.networks[0]).parent,
    shell:
        "python -m artune further_reference --data {input.data} --networks {params.networks}"
        f" --output {{output}} {SHARED}"


rule reference:
    input:
        **PLAN.reference(),
    output:
        "results/{scale}/reference.npz",
    log:
        "results/{scale}/reference.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        networks=lambda wildcards, input: Path(input.networks[0]).parent,
        moments=lambda wildcards, input: option("moments", input),
    shell:
        "python -m artune reference --data {input.data} --networks {params.networks} {params.moments}"
        f" --output {{output}} {SHARED}"


rule class_moments:  # moments of the training images per class, for rewards.loo_fid.reference: class_matched
    input:
        **PLAN.class_moments(),
    output:
        "results/{scale}/class_moments.npz",
    log:
        "results/{scale}/class_moments.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        networks=lambda wildcards, input: Path(input.networks[0]).parent,
    shell:
        f"python -m artune class_moments --data {{input.data}} --networks {{params.networks}} --output {{output}} {SHARED}"


if REGISTRY.data.source == "imagenet":

    rule train_moments:  # one pass over the whole training set: an hour or more on a GPU
        input:
            data=PLAN.asset("imagenet"),
            network=lambda wildcards: PLAN.networks([wildcards.network]),
        output:
            "results/{scale}/references/train-{network}.npz",
        log:
            "results/{scale}/references/train-{network}.log",
        conda:
            "../../envs/artune.yaml"
        threads: SETTINGS.threads
        params:
            networks=lambda wildcards, input: Path(input.network[0]).parent,
            images=REGISTRY.data.moment_images,
        shell:
            "python -m artune train_moments {wildcards.network} --data {input.data} --networks {params.networks}"
            f" --output {{output}} {SHARED}"
