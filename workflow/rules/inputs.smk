# Data, downloaded files, frozen networks, and moments of the real images.
from artune.planning import recipes
from artune.planning.needs import needed_assets


rule asset:
    input:
        lambda wildcards: PLAN.class_files(wildcards.asset),
    output:
        update("results/{home}/assets/{asset}.json"),  # a check that fails leaves the stamp of the check before
    log:
        "results/{home}/assets/{asset}.log",
    conda:
        "../../envs/artune.yaml"
    params:
        place=lambda wildcards: PLAN.asset_place(wildcards.asset),
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


if REGISTRY.data.embedded:

    rule data:
        input:
            settled(PLAN.data_files()),
        output:
            "results/{home}/inputs/data.npz",
        log:
            "results/{home}/inputs/data.log",
        priority: 4
        conda:
            "../../envs/artune.yaml"
        params:
            data=lambda wildcards: recipe(wildcards.home, recipes.data_recipe),
        shell:
            f"python -m artune data{DATA_FILES} --output {{output}} {SHARED}"


rule network:
    input:
        unpack(lambda wildcards: settled(PLAN.network(wildcards.network))),
    output:
        "results/{home}/inputs/networks/{network}.safetensors",
    log:
        "results/{home}/inputs/networks/{network}.log",
    benchmark:
        "results/{home}/inputs/networks/{network}.benchmark.tsv"
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        network=lambda wildcards: recipe(wildcards.home, recipes.network_recipe, wildcards.network),
        data=lambda wildcards, input: option("data", input),  # of an imported network the stamp of its file
        tokenizer=lambda wildcards, input: option("tokenizer", input),
    shell:
        f"python -m artune network {{wildcards.network}} {{params.data}} {{params.tokenizer}} --output {{output}} {SHARED}"


rule further_reference:
    input:
        data=lambda wildcards: settled(PLAN.asset(wildcards.asset)),
        networks=PLAN.reference()["networks"],
    output:
        "results/{home}/references/{asset}.npz",
    log:
        "results/{home}/references/{asset}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.reference_recipe, wildcards.asset),
    shell:
        "python -m artune further_reference --data {input.data} --networks {input.networks}"
        f" --output {{output}} {SHARED}"


rule reference:
    input:
        unpack(lambda wildcards: settled(PLAN.reference(set_of(wildcards)))),
    output:
        "results/{home}/reference{set}.npz",
    log:
        "results/{home}/reference{set}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.reference_recipe),
        moments=lambda wildcards, input: option("moments", input),
    shell:
        "python -m artune reference --data {input.data} --networks {input.networks} {params.moments}"
        f" --output {{output}} {SHARED}"


rule class_moments:  # moments of the training images per class, for rewards.loo_fid.reference: class_matched
    input:
        unpack(lambda wildcards: settled(PLAN.class_moments(set_of(wildcards)))),
    output:
        "results/{home}/class_moments{set}.npz",
    log:
        "results/{home}/class_moments{set}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.class_moments_recipe),
    shell:
        f"python -m artune class_moments --data {{input.data}} --networks {{input.networks}} --output {{output}} {SHARED}"


rule train_moments:  # one pass over the whole training set: of ImageNet an hour or more on a GPU
    input:
        data=settled(PLAN.images()),
        network=lambda wildcards: PLAN.networks([wildcards.network]),
    output:
        "results/{home}/references/train-{network}.npz",
    log:
        "results/{home}/references/train-{network}.log",
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.train_moments_recipe, wildcards.network),
    shell:
        "python -m artune train_moments {wildcards.network} --data {input.data} --networks {input.network}"
        f" --output {{output}} {SHARED}"
