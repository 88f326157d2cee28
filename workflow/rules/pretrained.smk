# Tokenizers and priors: trained at the scales that have no released weights, imported where there are some.


def tokenizer_inputs(wildcards):
    settings = REGISTRY.tokenizers[wildcards.tokenizer]
    if settings.train is None:
        return [asset_stamp(settings.checkpoint)]
    return [f"results/{SCALE}/inputs/data.npz"]


rule tokenizer:
    input:
        tokenizer_inputs,
    output:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.safetensors",
    log:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.log",
    benchmark:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.benchmark.tsv"
    params:
        tokenizer=lambda wildcards: REGISTRY.tree["tokenizers"][wildcards.tokenizer],
    threads: SETTINGS.threads
    shell:
        f"python -m artune tokenizer {{wildcards.tokenizer}} --data {{input}} --output {{output}} {SHARED}"


def codes_inputs(wildcards):
    tokenizer = f"results/{SCALE}/pretrained/{wildcards.tokenizer}/tokenizer.safetensors"
    images = f"results/{SCALE}/inputs/data.npz" if REGISTRY.data.source == "mnist" else asset_stamp("imagenet")
    return {"tokenizer": tokenizer, "data": images}


rule codes:
    input:
        unpack(codes_inputs),
    output:
        "results/{scale}/pretrained/{tokenizer}/codes.npz",
    log:
        "results/{scale}/pretrained/{tokenizer}/codes.log",
    threads: SETTINGS.threads
    shell:
        f"python -m artune codes {{wildcards.tokenizer}} --data {{input.data}} --tokenizer {{input.tokenizer}}"
        f" --output {{output}} {SHARED}"


def prior_settings(wildcards):
    return REGISTRY.tree["backbones"][wildcards.prior.split("-s")[0]]


def prior_inputs(wildcards):
    settings = prior_settings(wildcards)
    if "train" not in settings:
        return [asset_stamp(settings["checkpoint"])]
    return [f"results/{SCALE}/pretrained/{settings['tokenizer']}/codes.npz"]


rule pretrained_policy:
    input:
        prior_inputs,
    output:
        "results/{scale}/pretrained/{prior}/policy.safetensors",
    log:
        "results/{scale}/pretrained/{prior}/policy.log",
    benchmark:
        "results/{scale}/pretrained/{prior}/policy.benchmark.tsv"
    params:
        backbone=prior_settings,
    threads: SETTINGS.threads
    shell:
        f"python -m artune pretrained_policy {{wildcards.prior}} --codes {{input}} --output {{output}} {SHARED}"


def external_backbone(wildcards):
    runs = [name for name in REGISTRY.run_names if spec(name).get("checkpoint") == wildcards.asset]
    return spec(runs[0])["backbone_name"]


rule external_policy:
    input:
        lambda wildcards: asset_stamp(wildcards.asset),
    output:
        "results/{scale}/pretrained/external/{asset}/policy.safetensors",
    log:
        "results/{scale}/pretrained/external/{asset}/policy.log",
    params:
        backbone=external_backbone,
    shell:
        f"python -m artune external_policy {{params.backbone}} --asset {{wildcards.asset}} --output {{output}} {SHARED}"
