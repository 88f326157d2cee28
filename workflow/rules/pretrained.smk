# Tokenizers and priors (pretrained policies): imported from released weights, or trained at scales that have none.


rule tokenizer:
    input:
        lambda wildcards: settled(PLAN.tokenizer_source(wildcards.tokenizer)),
    output:
        "results/{home}/pretrained/{tokenizer}/tokenizer.safetensors",
    log:
        "results/{home}/pretrained/{tokenizer}/tokenizer.log",
    benchmark:
        "results/{home}/pretrained/{tokenizer}/tokenizer.benchmark.tsv"
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        tokenizer=lambda wildcards: recipe(wildcards.home, recipes.tokenizer_recipe, wildcards.tokenizer),
    shell:
        f"python -m artune tokenizer {{wildcards.tokenizer}} --data {{input}} --output {{output}} {SHARED}"


# Several processes encode ImageNet's images. At other scales this word stays out of the text of the command, a change of
# which would have finished results made again.
CODES_LAUNCHER = "{resources.launcher}" if REGISTRY.data.source == "imagenet" else "python"


rule codes:
    input:
        tokenizer="results/{home}/pretrained/{tokenizer}/tokenizer.safetensors",
        data=settled(PLAN.images()),
    output:
        "results/{home}/pretrained/{tokenizer}/codes.npz",
    log:
        "results/{home}/pretrained/{tokenizer}/codes.log",
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    resources:
        launcher="python",
    params:
        recipe=lambda wildcards: recipe(wildcards.home, recipes.codes_recipe, wildcards.tokenizer),
    shell:
        f"{CODES_LAUNCHER} -m artune codes {{wildcards.tokenizer}} --data {{input.data}} --tokenizer {{input.tokenizer}}"
        f" --output {{output}} {SHARED}"


rule pretrained_policy:
    input:
        lambda wildcards: settled(PLAN.prior_source(wildcards.prior)),
    output:
        "results/{home}/pretrained/{prior}/policy.safetensors",
    log:
        "results/{home}/pretrained/{prior}/policy.log",
    benchmark:
        "results/{home}/pretrained/{prior}/policy.benchmark.tsv"
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        backbone=lambda wildcards: recipe(wildcards.home, recipes.prior_recipe, wildcards.prior),
    shell:
        f"python -m artune pretrained_policy {{wildcards.prior}} --codes {{input}} --output {{output}} {SHARED}"


rule external_policy:
    input:
        lambda wildcards: settled(PLAN.asset(wildcards.asset)),
    output:
        "results/{home}/pretrained/external/{asset}/policy.safetensors",
    log:
        "results/{home}/pretrained/external/{asset}/policy.log",
    conda:
        "../../envs/artune.yaml"
    params:
        backbone=lambda wildcards: PLAN.external_backbone(wildcards.asset),
    shell:
        "python -m artune external_policy {params.backbone} --asset {wildcards.asset} --data {input}"
        f" --output {{output}} {SHARED}"
