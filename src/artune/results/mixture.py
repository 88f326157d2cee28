"""Whether the scores of several runs may stand side by side: one protocol, and which versions of the code made them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from artune.config.run import Evaluation
from artune.config.seeds import Seeds
from artune.errors import ArtuneError, cut

Scores = Mapping[str, Any]  # one scores.json
# What every row must share beside the settings of the evaluation, which a file holds under ``evaluation``: fields of
# scores.json -> the setting that decides a field. The settings come first, so that a message names what a user can set.
SHARED = {
    "n": "samples",
    "labels": "labels",
    "reference": "reference",
    "precision_recall": "precision_recall",
    "networks": "networks",
    "evaluation_seed": "seed",
    "inception_split": "inception_split",
    "inception_shuffle": "inception_shuffle",
    "protocol": None,
    "image_size": None,
    "prompts_sha256": None,
}
OF_SAMPLES = ("n", "protocol", "samples")  # real images may be fewer, or more
NOT_SCORING = ("batch", "grid_classes", "grid_per_class")  # settings that move no score
# Settings that move no more than the scores of given features; what else differs needs other samples or features.
OF_SCORES = (
    "protocol", "reference", "references", "precision_recall", "neighbours", "inception_split", "inception_shuffle",
    "density_neighbours",
)  # fmt: skip


def facts_of(record: Scores) -> dict[str, Any]:
    """The protocol by which a ``scores.json`` was made, by name; an older file has fewer names.

    Samples without labels (``labels: none``) have none of the scores that labels decide, and fit rows of any labels.
    Networks have their names without the set of frozen networks, which the name of the run tells: a table may hold rows
    of several sets, and says so.
    """
    facts = {name: value for name, value in (record.get("evaluation") or {}).items() if name not in NOT_SCORING}
    facts |= {name: record[name] for name in SHARED if name in record}
    if number := record.get("networks_seed"):
        facts = {name: _of_plain_set(value, str(Seeds(networks=number))) for name, value in facts.items()}
    if record.get("labels") == "none":
        del facts["labels"]
    if record.get("images") not in (None, "sampled"):
        facts = {name: value for name, value in facts.items() if name not in OF_SAMPLES}
    return facts


def _of_plain_set(value: Any, ending: str) -> Any:
    if isinstance(value, dict):
        return {role: _of_plain_set(name, ending) for role, name in value.items()}
    return value.removesuffix(ending) if isinstance(value, str) else value


def check_one_protocol(where: str, records: Sequence[Scores], evaluation: Evaluation) -> None:
    """Refuse scores of different protocols.

    Args:
        where: name of what is made from the scores, such as ``table4``.
        records: contents of the ``scores.json`` files.
        evaluation: the present protocol, which decides what the message asks the user to score again.

    Raises:
        ArtuneError: two of the files differ in a setting; the message names it, the runs and the remedy.
    """
    facts = [(str(record["run"]), facts_of(record)) for record in records]
    now = evaluation.model_dump(mode="json") | {"networks": evaluation.networks}
    for name in dict.fromkeys(name for _, found in facts for name in found):
        by_value: dict[str, list[str]] = {}
        for run, found in facts:
            if name in found:
                by_value.setdefault(repr(found[name]), []).append(run)
        if len(by_value) > 1:
            setting = SHARED.get(name, name)
            present = repr(now.get(setting)) if setting else None
            old = [run for value, runs in by_value.items() if value != present for run in runs]
            said = "; ".join(f"{cut(value, 60)} for {', '.join(runs)}" for value, runs in by_value.items())
            files = "scores.json" if (setting or name) in OF_SCORES else "scores.json and features.npz"
            raise ArtuneError(
                f"{where}: its rows were scored by different settings ({name}: {said}); delete {files} of "
                f"{', '.join(old)} and give the same command again"
            )


def code_versions(records: Iterable[Scores]) -> dict[str, list[str]]:
    """Version of the code -> what it made; empty if one version made everything.

    Args:
        records: contents of ``scores.json`` files; ``trained_by`` may hold the provenance in the run's manifest.json.

    Returns:
        For example ``{"3f2a9c1": ["training of llamagen_l-ours"], "8d0e11b": ["scores of llamagen_l-ours"]}``.
    """
    made: list[tuple[Mapping[str, Any], str]] = []
    for record in records:
        made.append((record.get("versions") or {}, f"scores of {record['run']}"))
        if record.get("trained_by"):
            made.append((record["trained_by"], f"training of {record['run']}"))
    key = "code" if all(origin.get("code") for origin, _ in made) else "commit"  # files may be older than the digest
    found: dict[str, list[str]] = {}
    for origin, what in made:
        found.setdefault(str(origin.get(key) or "unknown")[:7], []).append(what)
    return found if len(found) > 1 else {}


def say_versions(versions: Mapping[str, Sequence[str]]) -> str:
    """A sentence on :func:`code_versions`, or an empty string."""
    every = [one for what in versions.values() for one in what]
    made = "; ".join(f"{version}: {', '.join(_in_short(what, every))}" for version, what in versions.items())
    return f"made by different versions of the code ({made})" if versions else ""


def _in_short(what: Sequence[str], every: Sequence[str]) -> list[str]:
    """``scores of a, scores of b, scores of c`` as ``all 3 scores``, where one version made all of a kind."""
    told: list[str] = []
    for kind, several in (("scores of ", "scores"), ("training of ", "trainings")):
        own = [one for one in what if one.startswith(kind)]
        whole = len(own) > 2 and len(own) == sum(one.startswith(kind) for one in every)
        told += [f"all {len(own)} {several}"] if whole else own
    return told
