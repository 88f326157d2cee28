"""Paths of a scale's files, and the inputs of the rules that make inputs, policies, samples and references.

Never imports torch.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from artune.config.fields import PACKAGES
from artune.config.methods import DISTRIBUTION, snapshot_name
from artune.config.registry import Registry
from artune.config.seeds import Seeds, cut_seeds, in_set
from artune.config.yaml_layers import Tree
from artune.errors import ArtuneError
from artune.planning import recipes

RuleInputs = dict[str, Any]
TRAINED = ("grpo", "mle", "vapi")  # methods of the runs that are trained here

REFERENCES = {"loo_fid": "reference", "loo_fid_second": "second_reference"}  # reward -> a training's input


class Sources:
    """The paths of a scale's files, and the files from which each of them is made.

    ``results/{scale}`` is the folder of the preset ``paper``, ``results/{scale}-{preset}`` that of any other preset. A
    file that the preset does not change (:mod:`artune.planning.recipes`) has one path, in ``results/{scale}``.

    Args:
        registry: registry of the scale and preset.
    """

    def __init__(self, registry: Registry):
        self.registry = registry
        self.scale = registry.scale
        self.shared = f"results/{self.scale}"
        self.folder = f"results/{registry.results_name}"
        self.runs = f"{self.folder}/runs"
        self.stamps = f"{self.shared}/assets"
        self.spec = functools.cache(registry.spec)
        self._home = functools.cache(self._home_of)

    @functools.cached_property
    def _paper(self) -> Registry:
        """The registry under the preset ``paper``."""
        return self.registry if self.shared == self.folder else Registry(self.scale, "paper", self.registry.root)

    def _home_of(self, recipe: Callable[..., Tree], *name: str) -> str:
        """The folder of a file: the scale's, or the preset's own if the preset changes the recipe."""
        if self.shared == self.folder:
            return self.folder
        return self.shared if recipe(self.registry, *name) == recipe(self._paper, *name) else self.folder

    def recipe(self, home: str, recipe: Callable[..., Tree], *name: str) -> Tree:
        """The settings that decide a file.

        Raises:
            ArtuneError: ``results/{home}`` is not the file's folder under this preset, but another preset's.
        """
        if (folder := self._home(recipe, *name)) != f"results/{home}":
            raise ArtuneError(f"results/{home}: preset {self.registry.preset} has this file in {folder}; ask for that")
        return recipe(self.registry, *name)

    def asset(self, key: str | None) -> str:
        """The stamp of a checked external file (asset)."""
        return f"{self.stamps}/{key}.json"

    def asset_key(self, path: str) -> str | None:
        """The key of the asset whose stamp is ``path``; None for any other path."""
        before, stamp, name = path.partition(f"{self.stamps}/")
        return name.removesuffix(".json") if stamp and not before else None

    def embedded_data(self) -> str:
        """The data set of an embedded source, with its splits."""
        return f"{self._home(recipes.data_recipe)}/inputs/data.npz"

    def data_files(self) -> list[str]:
        """Files from which the data set of an embedded source is made."""
        return [self.asset(key) for key in self.registry.data.files]

    def images(self) -> str:
        """The data set: data.npz, or the user's ImageNet."""
        return self.embedded_data() if self.registry.data.embedded else self.asset("imagenet")

    def network(self, name: str) -> RuleInputs:
        """Files from which a frozen network is made; in every set, decoded tokens are those of the plain tokenizer."""
        settings = self.registry.network(name)
        if settings.kind in PACKAGES:
            raise ArtuneError(f"networks.{name}: comes out of a package; it can be evaluation.efficientnet only")
        if settings.train is None:
            return {"data": self.asset(settings.checkpoint)}
        files = {"data": self.embedded_data()}
        if settings.kind in recipes.READS_TOKENS:
            files["tokenizer"] = self.tokenizer_weights(self.registry.judged_tokenizer)
        return files

    def network_weights(self, name: str) -> str:
        """Weights of a frozen network."""
        return f"{self._home(recipes.network_recipe, name)}/inputs/networks/{name}.safetensors"

    def networks(self, names: Iterable[str]) -> list[str]:
        """Weight files of frozen networks."""
        return [self.network_weights(name) for name in sorted(set(names))]

    def set_of(self, run: str) -> int:
        """Number of the set of frozen networks by which a run is rewarded and scored; 0 is the plain one."""
        return self.registry.split(run)[1].networks

    def evaluation_networks(self, number: int = 0) -> list[str]:
        """Weight files that the features of a run need, in a set of frozen networks."""
        names = self.registry.evaluation_in(number).networks.values()
        return self.networks(name for name in names if self.registry.network(name).kind not in PACKAGES)

    def reference_moments(self, number: int = 0) -> str:
        """Moments of the first reference under a set: the real images that every run of the set is scored against."""
        return f"{self._home(recipes.reference_recipe)}/reference{Seeds(networks=number)}.npz"

    def reference(self, number: int = 0) -> RuleInputs:
        """Files from which the moments of the first reference are made."""
        protocol = self.registry.evaluation_in(number)
        data = self.embedded_data() if self.registry.data.embedded else self.asset(protocol.reference)
        names = [protocol.features, *protocol.judges.values()]
        if self.registry.data.embedded:
            return {"data": data, "networks": self.networks([*names, protocol.reward_features])}
        files = {"data": data, "networks": self.networks(names)}
        if protocol.reward_features != protocol.features:  # ADM's file has no moments under it
            files["moments"] = self.train_moments(protocol.reward_features)
        return files

    def train_moments(self, network: str) -> str:
        """Moments of the training images under a network for which the first reference has none."""
        return f"{self._home(recipes.train_moments_recipe, network)}/references/train-{network}.npz"

    def reward_reference(self, network: str) -> str:
        """The file with the moments that LOO-FID compares a network's features with."""
        protocol, base = self.registry.evaluation, cut_seeds(network)[0]
        own = protocol.reward_features if self.registry.data.embedded else protocol.features
        return self.reference_moments(cut_seeds(network)[1].networks) if base == own else self.train_moments(network)

    def moments_per_class(self, number: int = 0) -> str:
        """Moments of the training images of each class, under LOO-FID's network of a set."""
        return f"{self._home(recipes.class_moments_recipe)}/class_moments{Seeds(networks=number)}.npz"

    def class_moments(self, number: int = 0) -> RuleInputs:
        """Files from which the moments of the training images of each class are made."""
        network = in_set(self.registry.tree["rewards"]["loo_fid"]["network"], number, self.registry.networks)
        return {"data": self.images(), "networks": self.networks([network])}

    def further_reference(self, asset: str) -> str:
        """Moments of a further reference: real images that runs are scored against as well."""
        return f"{self._home(recipes.reference_recipe, asset)}/references/{asset}.npz"

    def further_references(self) -> RuleInputs:
        """Moments of all further references, and the first one's features under a judge out of a package."""
        files = [self.further_reference(name) for name in self.registry.evaluation.references]
        files += [self.judge_reference(name) for name in filter(None, [self.registry.evaluation.efficientnet])]
        return {"references": files} if files else {}

    def judge_reference(self, network: str) -> str:
        """Features of the held-out images under a judge out of a package.

        Raises:
            ArtuneError: the images are not in data.npz, or the network does not come out of a package.
        """
        if not self.registry.data.embedded or self.registry.networks[network].kind not in PACKAGES:
            raise ArtuneError(
                f"evaluation.efficientnet: {network}: give a network of kind {', '.join(PACKAGES)}, at a scale whose "
                "images lie in data.npz, or leave the key out"
            )
        return f"{self._home(recipes.judge_reference_recipe, network)}/references/{network}.npz"

    def tokenizer_source(self, name: str) -> str:
        """The file from which a tokenizer is made."""
        settings = self.registry.tokenizers[self.registry.split_tokenizer(name)[0]]
        return self.embedded_data() if settings.train else self.asset(settings.checkpoint)

    def tokenizer_weights(self, name: str) -> str:
        """Weights of a tokenizer."""
        return f"{self._home(recipes.tokenizer_recipe, name)}/pretrained/{name}/tokenizer.safetensors"

    def codes(self, tokenizer: str) -> str:
        """Token codes of the data set under a tokenizer."""
        return f"{self._home(recipes.codes_recipe, tokenizer)}/pretrained/{tokenizer}/codes.npz"

    def tokenizer(self, run: str) -> str:
        """Weights of a run's tokenizer."""
        return self.tokenizer_weights(self.spec(run)["backbone"]["tokenizer"])

    def prior_source(self, prior: str) -> str:
        """The file from which a prior is made."""
        name, seeds = self.registry.split_prior(prior)
        settings, tokenizer = self.registry.backbones[name], Seeds(tokenizer=seeds.tokenizer)
        return self.codes(f"{settings.tokenizer}{tokenizer}") if settings.train else self.asset(settings.checkpoint)

    def prior_weights(self, prior: str) -> str:
        """Weights of a prior."""
        return f"{self._home(recipes.prior_recipe, prior)}/pretrained/{prior}/policy.safetensors"

    def prior(self, run: str) -> str:
        """Weights that a run starts from."""
        return self.prior_weights(self.registry.pretrained_name(run))

    def policy(self, run: str) -> str:
        """Weights that a run is sampled from: trained here, released by others, the prior itself, or another run's."""
        if "at" in self.spec(run):
            return self._snapshot_of(run)
        if "policy" in self.spec(run):
            return self.policy(self._sampled(run))
        method = self.spec(run)["method"]
        if method == "real":
            raise ArtuneError(f"{run}: consists of real images and has no policy; name a run of another method")
        if method in TRAINED:
            return f"{self.runs}/{run}/policy.safetensors"
        if method == "external":
            return f"{self.shared}/pretrained/external/{self.spec(run)['checkpoint']}/policy.safetensors"
        return self.prior(run)

    def _snapshot_of(self, run: str) -> str:
        if not self.registry.about.snapshots:
            raise ArtuneError(
                f"{run}: samples {self.spec(run)['policy']} on its way, whose weights are kept only with "
                f"about: {{snapshots: true}} in config/scales/{self.scale}.yaml"
            )
        return f"{self.runs}/{self._sampled(run)}/{snapshot_name(self.spec(run)['at'])}"

    @functools.cached_property
    def snapshot_runs(self) -> list[str]:
        """The runs whose trainings keep weights on their way, which other runs are sampled from (``at``)."""
        specs = [self.spec(run) for run in self.registry.run_names] if self.registry.about.snapshots else []
        return sorted({spec["policy"] for spec in specs if "at" in spec})

    @functools.cached_property
    def shares(self) -> list[float]:
        """The shares of its iterations after which each of :attr:`snapshot_runs` keeps its weights."""
        specs = [self.spec(run) for run in self.registry.run_names] if self.registry.about.snapshots else []
        return sorted({spec["at"] for spec in specs if "at" in spec})

    def snapshots(self, run: str) -> list[str]:
        """The weights that a run's training keeps on its way."""
        keeps = self.registry.split_seed(run)[0] in self.snapshot_runs
        return [f"{self.runs}/{run}/{snapshot_name(share)}" for share in self.shares] if keeps else []

    def _sampled(self, run: str) -> str:
        """The run, of the same seeds, whose policy is sampled."""
        return f"{self.spec(run)['policy']}{self.registry.split(run)[1]}" if "policy" in self.spec(run) else run

    def external_backbone(self, asset: str) -> str:
        """The backbone that a released policy belongs to."""
        names = [name for name in self.registry.run_names if self.spec(name).get("checkpoint") == asset]
        return self.spec(names[0])["backbone_name"]

    def real(self, run: str) -> str:
        """The real images that a run of method ``real`` takes."""
        return self.embedded_data() if self.registry.data.embedded else self.asset(self.spec(run)["images"])

    def samples(self, run: str) -> str:
        """Images of a run that are scored."""
        return f"{self.runs}/{run}/samples.npz"

    @property
    def real_runs(self) -> list[str]:
        """Runs that score real images, not a policy's."""
        return [run for run in self.registry.run_names if self.spec(run)["method"] == "real"]

    def train(self, run: str) -> RuleInputs:
        """Files that a training reads."""
        spec = self.spec(run)
        files: RuleInputs = {
            "config": f"{self.runs}/{run}/config.yaml",
            "policy": self.prior(run),
            "tokenizer": self.tokenizer(run),
        }
        codes = {"codes": self.codes(spec["backbone"]["tokenizer"])}
        if spec["method"] == "mle":
            return files | codes
        files["networks"] = self.networks(spec["networks"])
        if spec["method"] == "vapi":
            return files | codes | {"data": self.images()}
        used = {name: spec["rewards"][name] for name in DISTRIBUTION if name in spec["rewards"]["terms"]}
        files |= {REFERENCES[name]: self.reward_reference(settings["network"]) for name, settings in used.items()}
        if used.get("loo_fid", {}).get("reference") == "class_matched":
            files["class_moments"] = self.moments_per_class(self.set_of(run))
        return files

    def timings(self, run: str) -> list[str]:
        """The file of seconds per stage, if the run's policy is trained here."""
        return [f"{self.runs}/{self._sampled(run)}/timings.jsonl"] if self.spec(run)["method"] in TRAINED else []

    def study_pairs(self) -> str:
        """The pairs of images that the human study shows."""
        return f"{self.folder}/study/pairs.zip"

    def study_images(self) -> str:
        """The file of the study's real images."""
        return self.embedded_data() if self.registry.data.embedded else self.asset(self.registry.study.reference)

    def judge_networks(self) -> list[str]:
        """Weight files of the automatic judge."""
        return self.networks([self.registry.study.judge] if self.registry.study.judge else [])
