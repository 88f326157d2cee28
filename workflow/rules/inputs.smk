# Data, files from outside, frozen networks, the reference's moments.


rule asset:
    output:
        "results/{scale}/assets/{asset}.json",
    log:
        "results/{scale}/assets/{asset}.log",
    params:
        asset=lambda wildcards: REGISTRY.assets[wildcards.asset].model_dump(),
    shell:
        f"python -m artune asset {{wildcards.asset}} --output {{output}} {SHARED}"


if REGISTRY.data.source == "mnist":

    rule data:
        output:
            "results/{scale}/inputs/data.npz",
        log:
            "results/{scale}/inputs/data.log",
        params:
            data=REGISTRY.tree["data"],
        shell:
            f"python -m artune data --output {{output}} {SHARED}"


def network_inputs(wildcards):
    settings = REGISTRY.networks[wildcards.network]
    if settings.train is None:
        return {"asset": asset_stamp(settings.checkpoint)}
    inputs = {"data": f"results/{SCALE}/inputs/data.npz"}
    if settings.kind in ("preference", "quality"):  # trained on token-corrupted decodings
        inputs["tokenizer"] = f"results/{SCALE}/pretrained/vq/tokenizer.safetensors"
    return inputs


rule network:
    input:
        unpack(network_inputs),
    output:
        "results/{scale}/inputs/networks/{network}.safetensors",
    log:
        "results/{scale}/inputs/networks/{network}.log",
    benchmark:
        "results/{scale}/inputs/networks/{network}.benchmark.tsv"
    params:
        network=lambda wildcards: REGISTRY.tree["networks"][wildcards.network],
        data=lambda wildcards, input: f"--data {input.data}" if "data" in input.keys() else "",
        tokenizer=lambda wildcards, input: f"--tokenizer {input.tokenizer}" if "tokenizer" in input.keys() else "",
    threads: SETTINGS.threads
    shell:
        f"python -m artune network {{wildcards.network}} {{params.data}} {{params.tokenizer}} --output {{output}} {SHARED}"


def reference_data(_):
    if REGISTRY.data.source == "mnist":
        return [f"results/{SCALE}/inputs/data.npz"]
    return [asset_stamp(REGISTRY.evaluation.reference)]


rule reference:
    input:
        data=reference_data,
        networks=network_files([REGISTRY.evaluation.features, REGISTRY.evaluation.reward_features]),
    output:
        "results/{scale}/reference.npz",
    log:
        "results/{scale}/reference.log",
    params:
        networks=lambda wildcards, input: Path(input.networks[0]).parent,
    threads: SETTINGS.threads
    shell:
        f"python -m artune reference --data {{input.data}} --networks {{params.networks}} --output {{output}} {SHARED}"
