# Tokenizers and priors (pretrained policies): imported from released weights, or trained at scales that have none.


rule tokenizer:
    input:
        lambda wildcards: PLAN.tokenizer_source(wildcards.tokenizer),
    output:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.safetensors",
    log:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.log",
    benchmark:
        "results/{scale}/pretrained/{tokenizer}/tokenizer.benchmark.tsv"
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        tokenizer=lambda wildcards: REGISTRY.tree["tokenizers"][wildcards.tokenizer],
    shell:
        f"python -m artune tokenizer {{wildcards.tokenizer}} --data {{input}} --output {{output}} {SHARED}"


rule codes:
    input:
        tokenizer="results/{scale}/pretrained/{tokenizer}/tokenizer.safetensors",
        data=PLAN.images(),
    output:
        "results/{scale}/pretrained/{tokenizer}/codes.npz",
    log:
        "results/{scale}/pretrained/{tokenizer}/codes.log",
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    shell:
        f"python -m artune codes {{wildcards.tokenizer}} --data {{input.data}} --tokenizer {{input.tokenizer}}"
        f" --output {{output}} {SHARED}"


rule pretrained_policy:
    input:
        lambda wildcards: PLAN.prior_source(wildcards.prior),
    output:
        "results/{scale}/pretrained/{prior}/policy.safetensors",
    log:
        "results/{scale}/pretrained/{prior}/policy.log",
    benchmark:
        "results/{scale}/pretrained/{prior}/policy.benchmark.tsv"
    priority: 3
    conda:
        "../../envs/artune.yaml"
    threads: SETTINGS.threads
    params:
        backbone=lambda wildcards: PLAN.backbone(wildcards.prior),
    shell:
        f"python -m artune pretrained_policy {{wildcards.prior}} --codes {{input}} --output {{output}} {SHARED}"


rule external_policy:
    input:
        lambda wildcards: PLAN.asset(wildcards.asset),
    output:
        "results/{scale}/pretrained/external/{asset}/policy.safetensors",
    log:
        "results/{scale}/pretrained/external/{asset}/policy.log",
    conda:
        "../../envs/artune.yaml"
    params:
        backbone=lambda wildcards: PLAN.external_backbone(wildcards.asset),
    shell:
        f"python -m artune external_policy {{params.backbone}} --asset {{wildcards.asset}} --output {{output}} {SHARED}"
