"""The inputs of every rule of the workflow. Never imports torch.

Every path of ``results/`` is written here, in :mod:`artune.planning.sources` or in the output lines of
``workflow/rules``; rules hold no logic.
"""

from pathlib import Path
from typing import Any

from artune.config.paper import (
    available_figures,
    curve_shares,
    figure_caption,
    pairs_of,
    report_tables,
    runs_of_tables,
    same_figures,
)
from artune.config.registry import Registry
from artune.config.settings import Settings
from artune.config.yaml_layers import Tree, parse
from artune.data.assets import class_map, find_asset, place_of
from artune.data.classes.folders import class_file
from artune.data.pins import read_used
from artune.errors import ArtuneError
from artune.planning.sources import RuleInputs, Sources


class Plan(Sources):
    """The inputs of every rule at the scale in ``config`` (config.yaml, overridden by the command line).

    Raises:
        ArtuneError: anything wrong in ``config/``, as one line.
    """

    def __init__(self, config: Tree, root: Path):
        self.settings = parse(Settings, config, "config/config.yaml")
        super().__init__(Registry(self.settings.scale, self.settings.preset, root))
        for name in self.registry.run_names:
            try:
                self.registry.resolve(name)
            except (TypeError, LookupError, AttributeError) as error:  # a list where a mapping should be, or the like
                raise ArtuneError(f"config/: {name}: a section it uses has the wrong form ({error}); fix it") from error
        for name in self.settings.figure2.compare:
            if self.spec(name)["method"] != "grpo":
                raise ArtuneError(f"config/config.yaml: figure2.compare: {name} was not tuned and has no curves")
        tables = self.registry.tables
        self.score_tables = [name for name, table in tables.items() if table.kind == "scores"]
        self.study_tables = [name for name, table in tables.items() if table.kind == "study"]
        self.figures = available_figures(self.registry)

    def sampling_protocol(self) -> list[Any]:
        """Settings of the evaluation that decide the images of a run and its grid."""
        protocol = self.registry.evaluation
        return [protocol.samples, protocol.labels, protocol.seed, protocol.batch, protocol.grid_classes,
                protocol.grid_per_class]  # fmt: skip

    def feature_roles(self, number: int = 0) -> dict[str, str]:
        """Role -> network of all that features hold, by set of networks; the reward's network is also a classifier."""
        protocol = self.registry.evaluation_in(number)
        apart = protocol.reward_features != protocol.classifier
        return protocol.networks | ({"reward_classifier": protocol.reward_features} if apart else {})

    def scoring_protocol(self) -> Tree:
        """Settings of the evaluation that decide a run's scores, given its samples."""
        drawing = ("samples", "batch", "grid_classes", "grid_per_class")
        return {key: value for key, value in self.registry.tree["evaluation"].items() if key not in drawing}

    def timed(self) -> str:
        """The folder of the timings.jsonl from which costs.csv is made.

        LlamaGen-L's training or, if its weights are an external file that is missing, iterations on random weights.
        """
        key = self.registry.backbones["llamagen_l"].checkpoint
        there = key is None or find_asset(self.registry, key, Path(self.settings.assets)) is not None
        return f"{self.runs}/llamagen_l-ours" if there else f"{self.folder}/bench/iteration"

    def asset_place(self, key: str) -> str:
        """Place, published digest and names of the classes of an asset, a change of which has it checked again."""
        folder = Path(self.settings.assets)
        return f"{place_of(self.registry, key, folder)} {class_map(self.registry, key, folder) or ''}".strip()

    def moved(self, path: str) -> bool:
        """Whether ``path`` is the stamp of an asset that will be checked again at another place.

        What was made from the asset stays valid, because the check fails unless the file there is the same. Other names
        of the classes do not fail it: what was made with the former ones is outdated.
        """
        key, folder = self.asset_key(path), Path(self.settings.assets)
        used = read_used(Path(path).parent).get(key, {}) if key else {}
        if not key or "place" not in used or not Path(path).exists():
            return False
        same = used.get("classes") == class_map(self.registry, key, folder)
        return same and used["place"] != place_of(self.registry, key, folder)

    def class_files(self, asset: str) -> list[str]:
        """The file that maps the class names of an asset, if there is one; a change of it is a change of the images."""
        path = class_file(Path(self.settings.assets) / self.registry.assets[asset].file)
        return [str(path)] if path.exists() else []

    def table_runs(self, table: str) -> list[str]:
        """Every run of a score table that is available at this scale, with its repetitions."""
        return runs_of_tables(self.registry, [table], self.settings.seeds)

    def scores(self, table: str) -> list[str]:
        """Files of the scores behind a table."""
        return [f"{self.runs}/{run}/scores.json" for run in self.table_runs(table)]

    def compared(self, table: str) -> list[str]:
        """Files of the features behind a table's comparisons."""
        return [f"{self.runs}/{run}/features.npz" for run in self.table_runs(table)]

    def references_of(self, table: str) -> list[str]:
        """Moments of the first reference under each set of frozen networks that a table's runs have."""
        sets = sorted({0, *(self.set_of(run) for run in self.table_runs(table))})
        return [self.reference_moments(number) for number in sets]

    def seed_differences(self, table: str) -> list[str]:
        """The file of a table's differences seed by seed, if there are rows to compare and several repetitions."""
        if table not in self.score_tables:
            return []
        number, names = self.registry.tables[table].repetitions(self.settings.seeds), self.registry.seed_names
        several = any(min(len(names(run, number)) for run in pair) > 1 for pair in pairs_of(self.registry, table))
        return [f"{self.folder}/tables/{table}.seeds.csv"] if several else []

    def paired_differences(self, table: str) -> list[str]:
        """The file of a table's paired differences, where a table at a scale that is not the paper's shows them.

        Rows of several seeds need none: they are compared seed by seed. At the paper's own scale the file takes hours
        of processors and is made on request only.
        """
        number, names = self.registry.tables[table].repetitions(self.settings.seeds), self.registry.seed_names
        once = any(min(len(names(run, number)) for run in pair) == 1 for pair in pairs_of(self.registry, table))
        return [f"{self.folder}/tables/{table}.compare.csv"] if once and self.registry.about.note else []

    def tracked(self, table: str) -> list[str]:
        """The file that records that a table's runs are in the tracking store."""
        return [f"{self.folder}/tracking/{table}.json"] if table in self.score_tables else []

    def figure(self, figure: str) -> list[str]:
        """Files from which a figure is drawn, which follow from its kind."""
        chosen = self.registry.figures[figure]
        if chosen.kind == "training_dynamics":
            return [f"{self.runs}/{run}/metrics.jsonl" for run in (*chosen.runs, *self.settings.figure2.compare)]
        if chosen.kind == "samples":
            drawn = same_figures(self.registry, figure)[0]
            return [f"{self.folder}/figures/samples/{drawn}/{run}.npz" for run in chosen.runs]
        return self._curve_files(figure) if chosen.kind == "over_optimisation" else []

    def _curve_files(self, figure: str) -> list[str]:
        """Scores of all runs of a figure's curves, and the logs of their trainings."""
        chosen = self.registry.figures[figure]
        missing = [f"{run}: {why}" for run in chosen.shown if (why := self.registry.unavailable(run))]
        if missing:
            raise ArtuneError(f"{figure}: not at the {self.scale} scale as its file is ({missing[0]})")
        logged = [runs[-1] for runs in chosen.curves.values() if curve_shares(self.registry, figure, runs)]
        files = [(run, "scores.json") for run in chosen.shown] + [(run, "metrics.jsonl") for run in logged]
        seeds = self.registry.common_seeds(chosen.shown, self.settings.seeds)
        return [f"{self.runs}/{name}/{file}" for run, file in files for name in self.registry.seed_names(run, seeds)]

    def figure_options(self, figure: str) -> str:
        """Command line options of a figure: changing one redraws the figure and retrains nothing."""
        if self.registry.figures[figure].kind == "over_optimisation":
            return f"--seeds {self.registry.common_seeds(self.registry.figures[figure].shown, self.settings.seeds)}"
        if self.registry.figures[figure].kind != "training_dynamics":
            return ""
        chosen = self.settings.figure2
        compare = f" --compare {' '.join(chosen.compare)}" if chosen.compare else ""
        return f"--smoothing {chosen.smoothing}{compare}"

    def figure_draws(self, figure: str) -> Tree:
        """The settings of a figure that decide its samples; a change of another one draws no sample again."""
        return self.registry.figures[figure].model_dump(include={"classes", "number", "per_class", "seed"})

    def figure_caption(self, figure: str) -> str:
        """What stands under a figure, in the report and in the file beside it."""
        chosen = self.settings.figure2
        return figure_caption(self.registry, figure, chosen.smoothing, chosen.compare, self.settings.seeds)

    def claims(self) -> list[str]:
        """Files by which the claims that are tested at this scale are judged."""
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

    def report(self) -> RuleInputs:
        """Files from which the report is assembled."""
        tables = report_tables(self.registry, Path(f"{self.folder}/tables"))
        runs = dict.fromkeys(run for table in tables for run in self.table_runs(table))
        return {
            "claims": f"{self.folder}/claims.json",
            "tables": [f"{self.folder}/tables/{table}.md" for table in tables],
            "figures": [f"{self.folder}/figures/{figure}.png" for figure in self.figures],
            "costs": f"{self.folder}/costs.csv",
            "rulegraph": f"{self.folder}/rulegraph.mmd",
            "scores": [f"{self.runs}/{run}/scores.json" for run in runs],
        }

    def study_samples(self) -> list[str]:
        """Images of every run of the human study."""
        settings = self.registry.study.settings.values()
        return [f"{self.folder}/study/samples/{run}.npz" for setting in settings for run in setting.runs]

    def study_judge(self) -> list[str]:
        """The file of the automatic judge's preferences, if the study has a judge."""
        return [f"{self.folder}/study/judge.json"] if self.registry.study.judge else []

    def votes(self) -> list[str]:
        """The store of votes, if it exists."""
        store = Path(f"{self.folder}/study/votes.sqlite")
        return [str(store)] if store.exists() else []

    def title(self, kind: str, name: str) -> str:
        """Caption of a table or figure in the report."""
        section = self.registry.tables if kind == "table" else self.registry.figures
        return ". ".join(part for part in (section[name].title, self.registry.about.note) if part)
