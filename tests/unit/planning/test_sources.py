"""The files that runs with other tokenizers and other frozen networks are made from."""

from project import ROOT

from artune.config.yaml_layers import read_yaml
from artune.planning import recipes
from artune.planning.plan import Plan

CONFIG = read_yaml(ROOT / "config/config.yaml")
PLAN = Plan(CONFIG | {"scale": "mnist"}, ROOT / "config")
NETWORKS, PRETRAINED = "results/mnist/inputs/networks", "results/mnist/pretrained"


def test_another_tokenizer_has_codes_and_a_prior_of_its_own_and_the_plain_networks():
    run, plain = PLAN.train("llamagen_l-ours-t1-s1"), PLAN.train("llamagen_l-ours-s1")
    assert run["policy"] == f"{PRETRAINED}/llamagen_l-t1-s1/policy.safetensors"
    assert run["tokenizer"] == f"{PRETRAINED}/vq-t1/tokenizer.safetensors"
    assert (run["networks"], run["reference"]) == (plain["networks"], plain["reference"])
    assert PLAN.prior_source("llamagen_l-t1-s1") == f"{PRETRAINED}/vq-t1/codes.npz"
    assert PLAN.tokenizer_source("vq-t1") == PLAN.tokenizer_source("vq")
    assert PLAN.policy("llamagen_l-pretrained-t1") == f"{PRETRAINED}/llamagen_l-t1/policy.safetensors"
    assert PLAN.train("llamagen_l-mle500-t1")["codes"] == f"{PRETRAINED}/vq-t1/codes.npz"
    assert PLAN.set_of("llamagen_l-ours-t1") == 0


def test_another_set_of_networks_has_a_reference_of_its_own_and_the_plain_prior():
    run, plain = PLAN.train("llamagen_l-ours-n1"), PLAN.train("llamagen_l-ours")
    assert run["networks"] == [f"{NETWORKS}/{name}-n1.safetensors" for name in ("clip", "hps", "inception")]
    assert run["reference"] == "results/mnist/reference-n1.npz"
    assert (run["policy"], run["tokenizer"]) == (plain["policy"], plain["tokenizer"])
    judges = [f"{NETWORKS}/{name}-n1.safetensors" for name in ("clip", "clip_judge", "inception", "judge")]
    assert PLAN.evaluation_networks(PLAN.set_of("llamagen_l-ours-n1")) == judges
    assert PLAN.reference(1)["networks"] == [f"{NETWORKS}/{name}-n1.safetensors" for name in ("inception", "judge")]
    assert PLAN.class_moments(1)["networks"] == [f"{NETWORKS}/inception-n1.safetensors"]
    matched = PLAN.train("llamagen_l-half_prompts-class_matched-n1")
    assert matched["class_moments"] == PLAN.moments_per_class(1) == "results/mnist/class_moments-n1.npz"


def test_networks_of_every_set_learn_from_decodings_of_the_plain_tokenizer():
    assert PLAN.network("hps-n2") == PLAN.network("hps")
    assert PLAN.network("hps-n2")["tokenizer"] == f"{PRETRAINED}/vq/tokenizer.safetensors"


def test_a_policy_that_another_run_samples_is_that_of_the_same_seeds():
    run = "llamagen_xl-vapi-nocfg-n1-s2"
    assert PLAN.policy(run) == "results/mnist/runs/llamagen_xl-vapi-n1-s2/policy.safetensors"
    assert PLAN.timings(run) == ["results/mnist/runs/llamagen_xl-vapi-n1-s2/timings.jsonl"]


def test_plain_files_have_the_paths_and_recipes_that_they_had():
    registry = PLAN.registry
    data = recipes.data_recipe(registry)
    vq = {"tokenizer": registry.tree["tokenizers"]["vq"], "data": data}
    assert recipes.tokenizer_recipe(registry, "vq") == recipes.tokenizer_recipe(registry, "vq-t1") == vq
    hps = {"network": registry.tree["networks"]["hps"], "data": data, "tokenizer": vq}
    hps["texts"] = [registry.data.prompt, *registry.data.class_names, *registry.data.templates]
    assert recipes.network_recipe(registry, "hps") == recipes.network_recipe(registry, "hps-n1") == hps
    assert recipes.prior_recipe(registry, "llamagen_l")["codes"] == vq
    assert recipes.prior_recipe(registry, "llamagen_l-t1") == recipes.prior_recipe(registry, "llamagen_l")
    assert PLAN.reference_moments() == "results/mnist/reference.npz"
    assert PLAN.moments_per_class() == "results/mnist/class_moments.npz"
    assert PLAN.network_weights("judge") == f"{NETWORKS}/judge.safetensors"
    assert PLAN.references_of("table4") == ["results/mnist/reference.npz"]
    assert PLAN.references_of("extra_seeds") == [f"results/mnist/reference{end}.npz" for end in ("", "-n1", "-n2")]


def test_paired_differences_are_of_tables_of_one_seed_at_scales_that_are_not_the_papers():
    plans = {scale: Plan(CONFIG | {"scale": scale}, ROOT / "config") for scale in ("mnist", "imagenet")}
    assert plans["mnist"].paired_differences("table4") == ["results/mnist/tables/table4.compare.csv"]
    assert plans["mnist"].paired_differences("extra_real") == []  # one row
    assert plans["imagenet"].paired_differences("table4") == []
    several = Plan(CONFIG | {"scale": "mnist", "seeds": 2}, ROOT / "config")
    assert several.paired_differences("table4") == []
    assert several.paired_differences("extra_seeds") == ["results/mnist/tables/extra_seeds.compare.csv"]


def test_differences_seed_by_seed_are_of_tables_that_are_repeated_and_have_rows_to_compare():
    several = Plan(CONFIG | {"scale": "mnist", "seeds": 2}, ROOT / "config")
    assert several.seed_differences("table4") == ["results/mnist/tables/table4.seeds.csv"]
    assert PLAN.seed_differences("table4") == []
    assert [several.seed_differences(table) for table in ("extra_seeds", "extra_real", "table3")] == [[], [], []]
