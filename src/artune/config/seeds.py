"""The seeds in the name of a run, a prior, a tokenizer or a frozen network: ``NAME[-tN][-nN][-sN]``.

A plain name has seed 0 of everything. ``-t1`` is the tokenizer of seed 1, with its codes and its priors; ``-n1`` is the
first further set of frozen networks, those of the rewards and those of the evaluation; ``-s1`` is the first repetition
of prior and tuning.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from artune.config.run import Backbone, Evaluation, Network, Tokenizer
from artune.config.settings import About
from artune.config.yaml_layers import Tree, one_of
from artune.errors import ArtuneError, unknown

# What a name may end with, as regular expressions, in this order.
ENDINGS = {"tokenizer": r"(-t[1-9]\d*)?", "networks": r"(-n[1-9]\d*)?", "repetition": r"(-s[1-9]\d*)?"}
SUFFIX = re.compile("".join(ENDINGS.values()) + r"\Z")
LIKE = {
    "s": "a repetition",
    "t": "a tokenizer's seed",
    "n": "a further set of frozen networks",
}  # letter of a seed -> what it is


@dataclass(frozen=True)
class Seeds:
    """The seeds in a name, 0 for what it does not give; ``str`` is the end of the name, ``-t1-s2``."""

    tokenizer: int = 0
    networks: int = 0  # number of the set of frozen networks
    repetition: int = 0  # of prior and tuning

    def __str__(self) -> str:
        letters = (("t", self.tokenizer), ("n", self.networks), ("s", self.repetition))
        return "".join(f"-{letter}{seed}" for letter, seed in letters if seed)

    @property
    def inputs(self) -> "Seeds":
        """The seeds of the inputs that are trained here: all but the repetition."""
        return replace(self, repetition=0)


def cut_seeds(name: str) -> tuple[str, Seeds]:
    """The name without its seeds, and the seeds: ``llamagen_l-t1-s2`` -> ``("llamagen_l", Seeds(1, 0, 2))``."""
    base, *found, _ = SUFFIX.split(name, maxsplit=1)  # matches once, if only the empty end
    return base, Seeds(*(int(part[2:]) if part else 0 for part in found))


def refuse_like_seeds(name: str, where: str) -> None:
    """Raise an ArtuneError if a name of ``config/`` ends like a seed."""
    if ending := str(cut_seeds(name)[1]).rpartition("-")[2]:
        raise ArtuneError(f"{where}: {name}: ends in -{ending[0]}N like {LIKE[ending[0]]}; rename it")


def row_of(spec: Mapping[str, Any]) -> str:
    """The name by which tables know a run: without its repetition."""
    return f"{spec['base']}{Seeds(spec.get('tokenizer_seed', 0), spec.get('networks_seed', 0))}"


def in_set(name: Any, number: int, networks: Mapping[str, Network]) -> Any:
    """The network ``name`` in a set of frozen networks; one that is not trained here is the same in all of them."""
    own = number and isinstance(name, str) and name in networks and networks[name].train is not None
    return f"{name}{Seeds(networks=number)}" if own else name


def evaluation_in(evaluation: Evaluation, number: int, networks: Mapping[str, Network]) -> Evaluation:
    """The evaluation by the networks of a set."""
    roles = {role: in_set(name, number, networks) for role, name in evaluation.networks.items()}
    return evaluation.model_copy(update=roles) if number else evaluation


def under_seeds(spec: Tree, seeds: Seeds, networks: Mapping[str, Network]) -> Tree:
    """A run's settings with the names of the tokenizer and of the frozen networks that its seeds choose.

    Args:
        spec: the settings without seeds of inputs, as plain values; not changed.
        seeds: the seeds in the run's name.
        networks: all frozen networks of the scale.
    """
    named = dict(spec)
    if seeds.tokenizer:
        tokenizer = f"{spec['backbone']['tokenizer']}{Seeds(tokenizer=seeds.tokenizer)}"
        named |= {"tokenizer_seed": seeds.tokenizer, "backbone": spec["backbone"] | {"tokenizer": tokenizer}}
    if not seeds.networks:
        return named

    def renamed(names: Tree) -> Tree:
        return {key: in_set(name, seeds.networks, networks) for key, name in names.items()}

    named["networks_seed"] = seeds.networks
    named["networks"] = {in_set(name, seeds.networks, networks): kept for name, kept in spec["networks"].items()}
    if "vapi" in spec:
        named["vapi"] = spec["vapi"] | renamed({"network": spec["vapi"]["network"]})
    if "rewards" in spec:  # a distribution-level reward names its network in its own settings
        own = {key: part for key, part in spec["rewards"].items() if isinstance(part, dict) and "network" in part}
        own = {key: part | renamed({"network": part["network"]}) for key, part in own.items()}
        named["rewards"] = spec["rewards"] | own | {"networks": renamed(spec["rewards"]["networks"])}
    return named


class Names:
    """The names that a registry knows, with their seeds."""

    scale: str
    about: About
    lines: dict[str, Tree]  # of the runs
    tokenizers: dict[str, Tokenizer]
    backbones: dict[str, Backbone]
    networks: dict[str, Network]
    evaluation: Evaluation

    def _known(self, name: str, where: str) -> None:
        if not one_of(name, self.lines):
            raise ArtuneError(f"{where}: {unknown(name, tuple(self.lines), 'run')}")

    def _known_row(self, name: str, where: str) -> None:
        """A row of a table may give the seeds of its inputs; the setting ``seeds`` repeats it."""
        base, seeds = self.split(name, where)
        if seeds.repetition:
            raise ArtuneError(
                f"{where}: {name}: a row names no repetition; name {base}{seeds.inputs}, which is repeated"
            )

    def split(self, name: str, where: str = "run") -> tuple[str, Seeds]:
        """``llamagen_l-ours-t1-s2`` -> ``("llamagen_l-ours", Seeds(tokenizer=1, repetition=2))``.

        Raises:
            ArtuneError: no such run, or its seeds stand in another order.
        """
        base, seeds = cut_seeds(name)
        if base not in self.lines and re.sub(r"(-[tns][1-9]\d*)+\Z", "", base) in self.lines:
            raise ArtuneError(f"{where}: {name}: a name is RUN[-tN][-nN][-sN], its seeds in this order and each once")
        self._known(base, where)
        return base, seeds

    def split_seed(self, name: str) -> tuple[str, int]:
        """The run without any seed, and its repetition: ``llamagen_l-ours-s2`` -> ``("llamagen_l-ours", 2)``."""
        base, seeds = self.split(name)
        return base, seeds.repetition

    def split_prior(self, name: str) -> tuple[str, Seeds]:
        """``llamagen_l-s2`` -> ``("llamagen_l", Seeds(repetition=2))``.

        Raises:
            ArtuneError: no backbone has this name, or a seed is of something that a prior is not trained with.
        """
        base, seeds = cut_seeds(name)
        if base not in self.backbones or seeds.networks:
            raise ArtuneError(f"backbone: {unknown(base if base not in self.backbones else name, self.backbones)}")
        if seeds.tokenizer and not self._retrainable(base):
            raise ArtuneError(f"backbone: {name}: tokenizer and prior are not trained at {self.scale}; leave out -tN")
        return base, seeds

    def split_tokenizer(self, name: str) -> tuple[str, int]:
        """``vq-t1`` -> ``("vq", 1)``. Raises ArtuneError: no such tokenizer, or it is not trained at this scale."""
        return self._split_input(name, self.tokenizers, "tokenizer", "tokenizer")

    def split_network(self, name: str) -> tuple[str, int]:
        """``judge-n1`` -> ``("judge", 1)``. Raises ArtuneError: no such network, or it is not trained at this scale."""
        return self._split_input(name, self.networks, "network", "networks")

    def _split_input(self, name: str, section: Mapping[str, Any], what: str, kind: str) -> tuple[str, int]:
        base, seeds = cut_seeds(name)
        number = getattr(seeds, kind)
        if base not in section or seeds != Seeds(**{kind: number}):
            raise ArtuneError(f"{what}: {unknown(name if base in section else base, section)}")
        if number and section[base].train is None:
            raise ArtuneError(f"{what}: {name}: {base} is not trained at the {self.scale} scale; name {base} itself")
        return base, number

    def network(self, name: str) -> Network:
        """Settings of a frozen network, those of ``judge`` for ``judge-n1``; errors as :meth:`split_network`."""
        return self.networks[self.split_network(name)[0]]

    def evaluation_in(self, number: int) -> Evaluation:
        """The evaluation by the networks of a set; 0 is the plain one."""
        return evaluation_in(self.evaluation, number, self.networks)

    def _retrainable(self, backbone: str) -> bool:
        """Whether the backbone's tokenizer and prior are trained at this scale, so that there can be further ones."""
        settings = self.backbones[backbone]
        return settings.train is not None and self.tokenizers[settings.tokenizer].train is not None

    def seed_names(self, name: str, seeds: int) -> list[str]:
        """The names of a run's ``seeds`` repetitions, the plain name first; ``about.seeds`` may allow fewer."""
        most = self.about.seeds.get(self.split(name)[0], self.about.seeds.get("others", seeds))
        return [name if seed == 0 else f"{name}-s{seed}" for seed in range(min(seeds, most))]

    def common_seeds(self, runs: Iterable[str], seeds: int) -> int:
        """The repetitions that all of these runs have if ``seeds`` are asked for."""
        return min((len(self.seed_names(run, seeds)) for run in runs), default=seeds)

    def lacking(self, spec: Tree, seeds: Seeds) -> str | None:
        """The seed of an input that a run cannot have at this scale, with the reason; None: it can have all of them.

        Args:
            spec: the settings of the run.
            seeds: the seeds that are asked for.
        """
        if seeds.networks and not any(network.train for network in self.networks.values()):
            return f"-n{seeds.networks}: frozen networks are not trained"
        if seeds.tokenizer and spec["method"] in ("real", "external"):
            return f"-t{seeds.tokenizer}: a run of method {spec['method']} starts from no prior that is trained"
        if seeds.tokenizer and not self._retrainable(spec["backbone_name"]):
            return f"-t{seeds.tokenizer}: its tokenizer and prior are not trained"
        return None
