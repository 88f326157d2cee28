"""The command ``compare``: differences of runs on the same labels and draws, with paired errors and Holm's correction.

Sample i of one run and sample i of the other share class and random numbers, so their common variation cancels: the
jackknife leaves sample i out of both runs and takes the difference.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from artune.config.glossary import COMPARED
from artune.config.registry import Registry
from artune.config.run import Evaluation
from artune.config.seeds import cut_seeds
from artune.data.classes.labels import class_ids
from artune.errors import ArtuneError
from artune.evaluation.left_out import kept, scores_left_out
from artune.metrics import student
from artune.metrics.jackknife import Jackknifed, standard_error
from artune.metrics.precision_recall import neighbour_radii
from artune.runtime.files import load_npz, npz_names

if TYPE_CHECKING:
    from pandas import DataFrame


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's step-down correction: corrected p-values in the given order, each at least as large as the original."""
    corrected, largest = [0.0] * len(chances), 0.0
    for rank, at in enumerate(sorted(range(len(chances)), key=lambda at: chances[at])):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[at]))
        corrected[at] = largest
    return corrected


def two_sided(difference: float, error: float, seeds: int) -> float:
    """Two-sided p-value of ``difference``: normal for one seed, Student's t (seeds - 1) for several."""
    if error == 0 or seeds > 1:
        return student.two_sided(difference, error, seeds)
    return math.erfc(abs(difference) / error / math.sqrt(2))


def paired_difference(first: Sequence[Jackknifed], second: Sequence[Jackknifed]) -> dict[str, float]:
    """Second minus first, from one :class:`Jackknifed` per seed, with its standard error and p-value.

    With one seed the error is the paired jackknife's, of the evaluation alone. With several it is the standard error of
    the mean over the seeds' differences, which includes the scatter of the trainings; ``evaluation_se`` is the
    jackknife's part.
    """
    apart = [b.value - a.value for a, b in zip(first, second, strict=True)]
    paired = [standard_error(b.left_out - a.left_out) for a, b in zip(first, second, strict=True)]
    seeds = len(apart)
    evaluation = math.sqrt(sum(error**2 for error in paired)) / seeds
    error = evaluation if seeds == 1 else stdev(apart) / math.sqrt(seeds)
    return {
        "first_value": fmean(score.value for score in first),
        "second_value": fmean(score.value for score in second),
        "difference": fmean(apart),
        "se": error,
        "evaluation_se": evaluation,
        "p": two_sided(fmean(apart), error, seeds),
    }


class _Evaluated:
    """The runs of a comparison: their labels and their leave-one-out values, each read or computed once.

    Args:
        registry: settings of the runs' scale.
        runs: folder of the runs.
        references: reference.npz of each set of frozen networks, by its number.
    """

    def __init__(self, registry: Registry, runs: Path, references: Mapping[int, Path]):
        self.registry, self.runs, self.references = registry, runs, references
        self.labels: dict[str, np.ndarray | None] = {}
        protocols = {number: registry.evaluation_in(number) for number in references}
        self._real = {number: _real_under(protocols[number], path) for number, path in references.items()}
        self._radii: dict[int, Tensor] = {}
        self._known: dict[str, dict[str, Jackknifed]] = {}

    def scored(self, name: str) -> dict[str, Jackknifed]:
        """The values of a run, from :func:`artune.evaluation.left_out.kept` or from its features."""
        if name not in self._known:
            path, number = self.runs / name / "features.npz", cut_seeds(name)[1].networks
            protocol, arrays = self.registry.evaluation_in(number), _arrays_of(path, self.registry.data.classes)
            self.labels[name] = arrays.get("labels")
            found = kept(self.runs / name / "scores.json", path, self.references[number], protocol)
            self._known[name] = found or self._computed(arrays, number, protocol)
        return self._known[name]

    def _computed(self, arrays: Mapping[str, np.ndarray], number: int, protocol: Evaluation) -> dict[str, Jackknifed]:
        real, classes = self._real[number], self.registry.data.classes
        if number not in self._radii:
            theirs = torch.from_numpy(real[f"heldout/{protocol.features}/features"])
            self._radii[number] = neighbour_radii(theirs, protocol.neighbours, protocol.precision_recall)
        return scores_left_out(arrays, real, protocol, classes, self._radii[number])


def compare(
    registry: Registry,
    pairs: Sequence[tuple[str, str]],
    runs: Path,
    reference: Path | Mapping[int, Path],
    seeds: int = 1,
) -> "DataFrame":
    """One row per pair and metric: both values, second - first, its error, p, and p corrected over all rows.

    Args:
        registry: settings of the runs' scale.
        pairs: pairs of run names.
        runs: folder of the runs, each of which has features.npz. Where the command ``evaluate`` has kept the
            leave-one-out values of a run, they need not be computed again.
        reference: reference.npz, or that of each set of frozen networks by its number.
        seeds: number of repetitions of each run, compared seed by seed.

    Raises:
        ArtuneError: no pairs, a file is missing or damaged, or two runs differ in their labels, in the number of
            their samples or in their set of frozen networks. Runs without labels are compared in the scores that
            need none.
    """
    from pandas import DataFrame

    if not pairs:
        raise ArtuneError("compare: no two runs to compare; name two, or a table of score rows")
    evaluated = _Evaluated(registry, runs, reference if isinstance(reference, Mapping) else {0: reference})
    lines: list[dict[str, Any]] = []
    for first, second in pairs:
        _refuse_other_set(first, second)
        both = zip(*(registry.seed_names(run, seeds) for run in (first, second)), strict=False)  # the seeds of both
        names = [list(side) for side in zip(*both, strict=True)]
        outcomes = [[evaluated.scored(name) for name in side] for side in names]
        for a, b in zip(*names, strict=True):
            if _number_of(evaluated.scored(a)) != _number_of(evaluated.scored(b)):
                raise ArtuneError(f"compare: {a} and {b} have different numbers of samples; sample both again")
            _refuse_other_labels(a, b, evaluated.labels)
        for metric in (name for name in COMPARED if all(name in scores for side in outcomes for scores in side)):
            sides = [[scores[metric] for scores in side] for side in outcomes]
            count = {"n": _number_of(outcomes[0][0]), "seeds": len(names[0])}
            lines.append({"first": first, "second": second, "metric": metric, **paired_difference(*sides), **count})
    for line, chance in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line |= {"p_holm": chance, "n": line.pop("n"), "seeds": line.pop("seeds"), "scale": registry.scale}
        line["note"] = registry.about.note
    return DataFrame(lines)


def _real_under(protocol: Evaluation, reference: Path) -> dict[str, np.ndarray]:
    return load_npz(reference, *(f"heldout/{protocol.features}/{key}" for key in ("mu", "sigma", "features")))


def _refuse_other_set(first: str, second: str) -> None:
    if cut_seeds(first)[1].networks != cut_seeds(second)[1].networks:
        raise ArtuneError(f"compare: {first} and {second} are scored by different sets of networks; name two of one")


def _refuse_other_labels(first: str, second: str, labels: Mapping[str, np.ndarray | None]) -> None:
    ours, theirs = labels[first], labels[second]
    if ours is not None and theirs is not None and not np.array_equal(ours, theirs):
        raise ArtuneError(
            f"compare: {first} and {second} were drawn on different labels; sample and evaluate both again"
        )


def _arrays_of(path: Path, classes: int) -> dict[str, np.ndarray]:
    """The arrays of a run's features.npz that a comparison needs; samples from others may have no labels."""
    arrays = load_npz(path, "features", "probabilities")
    if "labels" in npz_names(path):
        arrays |= load_npz(path, "labels", "clip")
        arrays["labels"] = class_ids(arrays["labels"], len(arrays["features"]), classes, f"{path}: labels")
    return arrays


def _number_of(scores: Mapping[str, Jackknifed]) -> int:
    return len(scores["fid"].left_out)
