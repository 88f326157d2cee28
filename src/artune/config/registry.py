"""Compose the YAML layers of ``config/`` and resolve a run's name into its settings.

Layers, each over the one before: axis files (one per section) -> preset -> scale overlay -> base runs -> the run's own
line -> the scale's own line for that run. Everything is validated when it is read; this module never imports torch.
"""

import functools
from pathlib import Path
from typing import Any

from artune.config.claims import read_claims
from artune.config.methods import reward_networks, used
from artune.config.run import Backbone, Data, Evaluation, Network, Run, Tokenizer, parse_run
from artune.config.seeds import Names, Seeds, refuse_like_seeds, under_seeds
from artune.config.settings import PRESETS, About, Asset, merged_remarks, require_tokens, results_name
from artune.config.tables import HumanStudy, read_figures, read_tables
from artune.config.yaml_layers import (
    Model,
    Tree,
    config_folder,
    lines_of,
    mapping,
    merge,
    one_of,
    parse,
    read_yaml,
    scale_names,
    undot,
)
from artune.errors import ArtuneError, brief, unknown

SECTIONS = (  # names of the axis files; each file holds the section of the same name
    "data", "tokenizers", "backbones", "networks", "grpo", "mle", "vapi", "entropy", "rewards", "sampling",
    "evaluation", "study",
)  # fmt: skip
RUN_SECTIONS = ("grpo", "mle", "vapi", "entropy", "rewards", "sampling")


class Registry(Names):
    """Everything that ``config/`` says at one scale and preset.

    Args:
        scale: the name of a file in ``scales/``.
        preset: paper or release.
        root: folder of the settings; None: :func:`artune.config.yaml_layers.config_folder`.

    Raises:
        ArtuneError: an unknown scale or preset, an unknown key, a row that names an unknown run, a row with a wrong
            number of paper values; one line that names file and key.
    """

    def __init__(self, scale: str, preset: str = "paper", root: Path | str | None = None):
        self.scale, self.preset, self.root = scale, preset, config_folder() if root is None else Path(root)
        self.scales = scale_names(self.root)
        if scale not in self.scales:
            raise ArtuneError(f"scale: {unknown(scale, self.scales)}")
        if preset not in PRESETS:
            raise ArtuneError(f"preset: unknown {brief(preset)}; choose {' or '.join(PRESETS)}")
        overlays = self._overlays(scale)
        about = [mapping(layer.pop("about", {}), f"config/{file}: about") for file, layer in overlays]
        lines, assets = ([layer.pop(key, {}) for _, layer in overlays] for key in ("experiments", "assets"))
        self.about = parse(About, merged_remarks(about), f"config/scales/{scale}.yaml: about")
        where = f"config/scales/{scale}.yaml: experiments"
        self._scale_lines = functools.reduce(merge, (lines_of(own, where) for own in lines))
        own_assets = (lines_of(own, f"config/scales/{scale}.yaml: assets", "files", "{file: mine}") for own in assets)
        self.layers: list[tuple[str, Tree]] = [(f"{name}.yaml", self._read(f"{name}.yaml")) for name in SECTIONS]
        self.layers.append((f"presets/{preset}.yaml", self._read(f"presets/{preset}.yaml")))
        self.layers += overlays
        self._check_layers()
        self.tree: Tree = functools.reduce(merge, (layer for _, layer in self.layers), {})
        self.lines = lines_of(self._read("experiments.yaml"), "config/experiments.yaml")
        self.run_names: tuple[str, ...] = tuple(self.lines)
        for name in (
            *self._scale_lines,
            *self.about.unavailable,
            *self.about.notes,
            *({*self.about.seeds} - {"others"}),
        ):
            self._known(name, f"config/scales/{scale}.yaml")
        self.evaluation = parse(Evaluation, self.tree["evaluation"], "config/evaluation.yaml")
        self.data = parse(Data, self.tree["data"], "config/data.yaml")
        self.networks = self._section(Network, "networks", "config/networks.yaml")
        self.tokenizers = self._section(Tokenizer, "tokenizers", "config/tokenizers.yaml")
        self.backbones = self._section(Backbone, "backbones", "config/backbones.yaml")
        every = functools.reduce(merge, own_assets, self._read("assets.yaml"))
        self.assets = {key: parse(Asset, value, f"config/assets.yaml: {key}") for key, value in every.items()}
        self.study = parse(HumanStudy, self.tree["study"], "config/study.yaml: study")
        self._check_references()
        self.tables = read_tables(self._read("tables.yaml"), self._known_row)
        self.figures = read_figures(self._read("figures.yaml"), self._known, self.data.embedded)
        self.claims = read_claims(self._read("claims.yaml"), self.tables, self._known)

    def _check_layers(self) -> None:
        """An axis file holds only the section of the same name; a preset or a scale may hold any section."""
        for file, layer in self.layers:
            own = file.removesuffix(".yaml")
            known = (own,) if own in SECTIONS else SECTIONS
            if own in SECTIONS and own not in layer:
                raise ArtuneError(f"config/{file}: {own}: missing; the file must hold this section")
            for key, value in layer.items():
                if key not in known:
                    raise ArtuneError(f"config/{file}: {key}: unknown key; known are {', '.join(known)}")
                mapping(value, f"config/{file}: {key}")

    def _check_references(self) -> None:
        """Every network, tokenizer and asset that is named must be known."""

        def known(name: Any, among: dict[str, Any], where: str) -> None:
            if name is not None and not one_of(name, among):
                raise ArtuneError(f"{where}: {unknown(name, among)}")

        protocol = self.evaluation
        for role, name in protocol.networks.items():
            known(name, self.networks, f"config/evaluation.yaml: {role}")
        for name in self.data.files:
            known(name, self.assets, "config/data.yaml: files")
        if not self.data.embedded:
            for name in (protocol.reference, *protocol.references):
                known(name, self.assets, "config/evaluation.yaml: reference")
            known(self.study.reference, self.assets, "config/study.yaml: reference")
        known(self.study.judge, self.networks, "config/study.yaml: judge")
        for setting in self.study.settings.values():
            for run in setting.runs:
                self._known(run, "config/study.yaml: settings")
        if not self.backbones:
            raise ArtuneError("config/backbones.yaml: backbones: empty; name at least one backbone")
        for section in ("tokenizers", "networks", "backbones"):
            for name in getattr(self, section):
                refuse_like_seeds(str(name), f"config/{section}.yaml")
        for name in self.lines:
            refuse_like_seeds(str(name), "config/experiments.yaml")
        for name, backbone in self.backbones.items():
            known(backbone.tokenizer, self.tokenizers, f"config/backbones.yaml: backbones.{name}.tokenizer")
        for section in ("tokenizers", "backbones", "networks"):
            for name, settings in getattr(self, section).items():
                known(settings.checkpoint, self.assets, f"config: {section}.{name}.checkpoint")
        for name, line in self.lines.items():
            known(line.get("checkpoint"), self.assets, f"config/experiments.yaml: {name}: checkpoint")

    def _read(self, name: str) -> Tree:
        return read_yaml(self.root / name)

    def _overlays(self, scale: str, above: tuple[str, ...] = ()) -> list[tuple[str, Tree]]:
        """The layers of a scale; ``extends: mnist`` puts its own over those of another scale."""
        overlay = self._read(f"scales/{scale}.yaml")
        below, above = overlay.pop("extends", None), (*above, scale)
        if below is not None and (below in above or not one_of(below, self.scales)):
            others = ", ".join(name for name in self.scales if name not in above)
            raise ArtuneError(f"config/scales/{scale}.yaml: extends: {brief(below)} must be another scale: {others}")
        return [*(self._overlays(below, above) if below else []), (f"scales/{scale}.yaml", overlay)]

    def _section(self, kind: type[Model], key: str, where: str) -> dict[str, Model]:
        return {name: parse(kind, value, f"{where}: {key}.{name}") for name, value in self.tree[key].items()}

    @property
    def results_name(self) -> str:
        """Name of the folder in ``results/`` that the runs of this scale and preset have."""
        return results_name(self.scale, self.preset)

    @property
    def judged_tokenizer(self) -> str:
        """The first backbone's tokenizer; networks of kind preference and quality are trained on its decodings."""
        return next(iter(self.backbones.values())).tokenizer

    def run_layers(self, base: str, visited: tuple[str, ...] = ()) -> list[tuple[str, Tree]]:
        """The layers of a run, lowest first: from its remotest base to itself the registry's line and the scale's."""
        if base in visited:
            raise ArtuneError(f"config/experiments.yaml: {base}: is its own base")
        own = dict(self.lines[base])
        parent = own.pop("base", None)
        if parent is not None:
            self._known(parent, f"config/experiments.yaml: {base}: base")
        below = self.run_layers(parent, (*visited, base)) if parent else []
        at_scale = undot(self._scale_lines.get(base, {}))
        return [*below, (f"experiments.yaml: {base}", undot(own)), (f"scales/{self.scale}.yaml: {base}", at_scale)]

    def spec(self, name: str) -> Tree:
        """The settings that the run uses, as plain values: only keys of the YAML, so a new default outdates no run.

        A name with seeds of inputs has the networks and the tokenizer of these seeds.
        """
        spec, seeds = self._merged(name), self.split(name)[1]
        if reason := self.lacking(spec, seeds):
            raise ArtuneError(f"run: {name}: {reason} at the {self.scale} scale; leave this seed out")
        return under_seeds(used(spec), seeds, self.networks)

    def _merged(self, name: str) -> Tree:
        base, seed = self.split_seed(name)
        tree = self.tree
        for _, layer in self.run_layers(base):
            tree = merge(tree, layer)
        method, backbone = tree.get("method"), tree.get("backbone")
        where = f"config/experiments.yaml: {base}"
        if method != "real" and not one_of(backbone, self.backbones):
            raise ArtuneError(f"{where}: backbone: {unknown(backbone, self.backbones)}")
        parts = {"grpo": ("grpo", "entropy", "rewards"), "mle": ("mle",), "vapi": ("vapi",)}.get(str(method), ())
        known = ("method", "backbone", "checkpoint", "policy", "at", "sampling", *parts)
        known = ("method", "images") if method == "real" else known
        for layer_name, layer in self.run_layers(base):
            if foreign := [key for key in layer if key not in known]:
                raise ArtuneError(
                    f"config/{layer_name}: {foreign[0]}: unknown key; a run of method {method} has {', '.join(known)}"
                )
        for needing, key in (("external", "checkpoint"), ("real", "images")):
            if method == needing and key not in tree:
                raise ArtuneError(f"{where}: {key}: missing; method {method} needs it")
        spec = {
            "name": name,
            "base": base,
            "seed": seed,
            "scale": self.scale,
            "preset": self.preset,
            "method": method,
        }
        if method == "real":
            return spec | {"images": tree["images"], "data": tree["data"], "networks": {}}
        spec |= {"checkpoint": tree["checkpoint"]} if method == "external" else {}  # a scale may train the run instead
        spec |= {"policy": self._policy_of(str(tree["policy"]), where)} if "policy" in tree else {}
        spec |= {"at": self._share_of(spec, tree["at"], where)} if "at" in tree else {}
        sizes = tree["backbones"][backbone]
        require_tokens(self.assets, spec.get("checkpoint"), str(backbone), self.backbones[str(backbone)], where)
        spec |= {"data": tree["data"], "sampling": tree["sampling"], "backbone_name": backbone, "backbone": sizes}
        spec |= {"tokenizer": tree["tokenizers"][sizes["tokenizer"]]} | {part: tree[part] for part in parts}
        return spec | {"networks": {key: tree["networks"][key] for key in self.reward_networks(spec, where)}}

    def _policy_of(self, name: str, where: str) -> str:
        """The run whose policy is sampled; it must have a policy of its own."""
        self._known(name, f"{where}: policy")
        if any("policy" in layer for _, layer in self.run_layers(name)):
            raise ArtuneError(f"{where}: policy: {name} has no policy of its own; name the run that has one")
        return name

    def _share_of(self, spec: Tree, share: Any, where: str) -> Any:
        """The share of its iterations after which a run's policy is sampled; only GRPO keeps its weights there."""
        if "policy" not in spec:
            raise ArtuneError(f"{where}: at: needs policy, the run whose training is sampled on its way")
        if (method := self._merged(spec["policy"])["method"]) != "grpo":
            raise ArtuneError(f"{where}: at: {spec['policy']} is of method {method}; name a run of method grpo")
        return share

    def reward_networks(self, spec: Tree, where: str = "rewards") -> list[str]:
        """The networks that the run's rewards need."""
        if spec["method"] == "vapi":
            if not one_of(name := spec["vapi"].get("network"), self.networks):
                raise ArtuneError(f"{where}: vapi.network: {unknown(name, self.networks)}")
            return [name]
        if spec["method"] != "grpo":
            return []
        return reward_networks(spec["rewards"], self.networks, where)

    def resolve(self, name: str) -> Run:
        """The run's typed settings.

        Raises:
            ArtuneError: unknown run, unknown key, or a value out of range.
        """
        where = f"config/experiments.yaml: {name}"
        parse_run(self._merged(name), where)  # names a wrong key among the settings that the run does not use, too
        return parse_run(self.spec(name), where)

    def pretrained_name(self, name: str) -> str:
        """The prior that a run starts from: ``llamagen_l``, or ``llamagen_l-s1`` where priors are per seed."""
        base, seeds = self.split(name)
        repetition = seeds.repetition if self.about.pretrained_per_seed else 0
        return f"{self.spec(base)['backbone_name']}{Seeds(tokenizer=seeds.tokenizer, repetition=repetition)}"

    def unavailable(self, name: str) -> str | None:
        """Why a run is not available at this scale, or None."""
        base, seeds = self.split(name)
        if base in self.about.unavailable:
            return self.about.unavailable[base]
        if any("at" in layer for _, layer in self.run_layers(base)) and not self.about.snapshots:
            return "needs about.snapshots"
        return "not trained here" if seeds.inputs != Seeds() and self.lacking(self._merged(base), seeds) else None
