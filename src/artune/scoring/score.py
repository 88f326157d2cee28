"""The command ``score``: from image files of any origin to scores, by the code that scores runs."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artune.config.glossary import COMPARED
from artune.config.registry import Registry
from artune.config.run import Evaluation
from artune.data.prompts import prompts_digest
from artune.errors import ArtuneError
from artune.evaluation.compare import holm, paired_difference
from artune.evaluation.features import Extractor
from artune.evaluation.protocol import OFFICIAL
from artune.evaluation.scores import kid_pairs
from artune.models.encoders.build import load_network
from artune.runtime.files import sha256
from artune.scoring.cache import (
    Known,
    identity_of,
    keep_scores,
    kept_features,
    kept_scores,
    known_images,
)
from artune.scoring.checks import (
    check_counts,
    check_images,
    check_labels,
    check_number,
    check_order,
    check_pair,
    check_resize,
    check_width,
)
from artune.scoring.few import few_left_out, few_scores
from artune.scoring.image_sets import labels_of, lines_of
from artune.scoring.request import Opened, Request, Scored
from artune.scoring.statistics import Arrays, given_features, moments_of, reference_arrays, source_of
from artune.scoring.weights import Weights, absent, find_weights
from artune.tracking.provenance import code_digest

ONLY_MOMENTS = "the reference holds moments alone; give its images or features"
OF_FEATURES = ("kid", "precision", "recall", "density", "coverage")
OF_REWARDS = ("fid_reward", "clip_score_reward")  # equal to fid and clip_score: a scorer knows no rewards


class Scorer:
    """Scores image files under the protocol of a scale.

    Args:
        request: what is scored.
        registry: registry of the scale: networks, protocol, prompts, assets.
        device: device of the networks.
    """

    def __init__(self, request: Request, registry: Registry, device: torch.device):
        if request.batch is not None and request.batch < 1:
            raise ArtuneError(f"--batch {request.batch}: give 1 or more images per forward pass")
        self.request, self.registry, self.device = request, registry, device
        protocol = registry.evaluation
        self.judge = protocol.features
        change = {
            "batch": request.batch or protocol.batch,
            "reward_features": protocol.features,
            "reward_clip": protocol.clip,
            "density_neighbours": protocol.density_neighbours or 5,
            "references": (),
            "cmmd": None,
            "dinov2": None,
        }
        self.protocol: Evaluation = protocol.model_copy(update=change)
        self.found: dict[str, Weights] = {}
        self.used: dict[str, Weights] = {}  # those whose features are scored

    def run(self) -> Scored:
        """Score the samples; whatever can be refused is refused before the first image goes through a network.

        Raises:
            ArtuneError: a file is missing, damaged or not what it should be; a trap that is not accepted; the weights
                of the network of FID are needed and missing.
        """
        request = self.request
        samples, reference = self._open(request.samples), self._open(request.reference, reference=True)
        against = self._open(request.against) if request.against else None
        given = [reference, samples] + ([against] if against is not None else [])
        notes = [note for each in given for note in check_resize(each.source, request.accepted)]
        notes += check_images(samples.known, reference.known, request.accepted)
        if against is not None:
            notes += check_images(against.known, reference.known, request.accepted, f"images of {request.against}")
            notes += check_pair(samples.known, against.known, request.accepted)
        check_counts(samples, reference, against)
        identity = self._identity(samples, reference, against)
        if samples.known is not None and (kept := kept_scores(samples.known, identity)) is not None:
            with contextlib.suppress(TypeError):  # of another version
                return Scored(**kept)
        found = self._compute(samples, reference, against, notes)
        if samples.known is not None:
            keep_scores(samples.known, identity, asdict(found))
        return found

    def _compute(self, samples: Opened, reference: Opened, against: Opened | None, notes: list[str]) -> Scored:
        """The scores of files in which nothing was refused; ``notes`` is what was said about them."""
        request = self.request
        theirs, ours = self._reference(reference), self._arrays(samples, compared=True)
        n, width = ours["features"].shape
        check_width(str(request.reference), len(theirs[f"heldout/{self.judge}/mu"]), width)
        protocol = self.protocol.model_copy(update={"samples": n, "reference": request.reference.name})
        missing: dict[str, str] = {}
        scores = few_scores(ours, theirs, protocol, self.registry.data.classes, missing)
        scores = {name: value for name, value in scores.items() if not name.startswith(OF_REWARDS)}
        if bad := [name for name, value in scores.items() if not np.isfinite(value)]:
            raise ArtuneError(f"{request.samples}: {', '.join(bad)} is not finite; look for broken images")
        missing |= {name: why for name, why in self._reasons(ours, theirs).items() if name not in scores}
        notes += [*check_number(n, width), *check_order(ours, protocol, scores)]
        notes += check_labels(ours.get("labels"), self.registry.data.classes, self.registry.scale)
        differences = self._differences(ours, against, theirs, protocol) if against is not None else {}
        facts = self._facts(protocol, samples, reference) | {"kid_pairs": kid_pairs(theirs, protocol, n)}
        return Scored(facts, scores, missing, list(dict.fromkeys(notes)), differences)

    def _identity(self, samples: Opened, reference: Opened, against: Opened | None) -> str:
        """Everything that decides the scores, as one text."""
        given = [each.described() for each in (samples, reference, against) if each is not None]
        # Which of the two a file is decides as well: one file may be given as labels or as captions
        texts = [path and sha256(path) for path in (self.request.labels, self.request.captions)]
        names = dict.fromkeys((self.protocol.features, self.protocol.classifier, self.protocol.clip))
        weights = {}
        if samples.known is not None:  # otherwise no scores are kept
            known = {name: found for name in names if (found := self._find(name)) is not None}
            weights = {name: [w.digest, self.registry.networks[name].model_dump_json()] for name, w in known.items()}
        accepted = sorted(self.request.accepted)
        protocol = self.protocol.model_dump_json()
        data = self.registry.data.model_dump_json()
        scale = self.registry.scale
        return identity_of([given, texts, weights, accepted, protocol, data, scale, self.device.type, code_digest()])

    def _open(self, path: Path, reference: bool = False) -> Opened:
        """A file or folder and what is known of its images. Raises ArtuneError: it cannot be what it is given for."""
        source = source_of(path, self.judge)
        if source.kind in ("reference", "moments") and not reference:
            raise ArtuneError(f"{path}: holds moments; samples are images, or an npz with features [n, D]")
        if source.kind not in ("images", "adm"):
            return Opened(source)
        for role in ("features", "classifier"):
            if self._find(self.protocol.networks[role]) is None:
                raise ArtuneError(absent(self.registry, self.protocol.networks[role], self.request.networks))
        return Opened(source, known_images(path, self.request.cache))

    def _arrays(self, opened: Opened, compared: bool) -> Arrays:
        """Features that are given, kept or computed."""
        known = opened.known
        return given_features(opened.source.path) if known is None else self._features(known, compared)

    def _reference(self, opened: Opened) -> Arrays:
        """The arrays of the reference under the names of reference.npz."""
        source, found = opened.source, Arrays()
        if source.kind in ("reference", "moments", "adm"):
            found = moments_of(source, self.judge)
        if source.kind in ("images", "adm", "features"):
            taken = self._arrays(opened, compared=False)
            parts = (
                ("features",) if source.kind == "adm" else ("features", "spatial")
            )  # ADM's moments are of more images
            found = found | {name: taken[name] for name in parts if name in taken}
        if "features" in found and "mu" in found:
            check_width(str(source.path), found["features"].shape[1], len(found["mu"]))
        return reference_arrays(found, self.judge)

    def _features(self, known: Known, compared: bool) -> Arrays:
        """The features of images, kept or computed; with ``compared`` also labels and cosines with their texts."""
        images, data, request = known.images, self.registry.data, self.request
        labels = labels_of(images, request.labels, data.classes) if compared else None
        texts = lines_of(request.captions, images, "caption") if compared and request.captions else None
        ids = torch.arange(images.count) if texts is not None else None
        if texts is None and labels is not None:
            ids = torch.from_numpy(labels)
        names = [self.protocol.features, self.protocol.classifier]
        if ids is not None and self._find(self.protocol.clip) is not None:
            names.append(self.protocol.clip)
        else:
            ids = None
        own = {name: self.found[name] for name in dict.fromkeys(names)}
        self.used |= own
        decides = [[w.digest, self.registry.networks[name].model_dump_json()] for name, w in own.items()]
        facts: list[object] = [decides, self.protocol.batch, self.device.type]
        if ids is not None:
            facts += [texts or prompts_digest(data), ids.tolist() if texts is None else None]

        def extractor() -> Extractor:
            networks = {
                name: load_network(weights.path, self.registry.networks[name], data, self.device)
                for name, weights in own.items()
            }
            return Extractor(self.protocol, data, networks, self.device, texts=texts)

        arrays = kept_features(known, identity_of(facts), self.protocol.batch, ids, extractor)
        return arrays | ({} if labels is None else {"labels": labels})

    def _find(self, name: str) -> Weights | None:
        if name not in self.found:
            found = find_weights(self.registry, name, self.request.networks)
            if found is None:
                return None
            self.found[name] = found
        return self.found[name]

    def _reasons(self, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, str]:
        """Why each score that may be missing is missing."""
        found: dict[str, str] = {}
        if f"heldout/{self.judge}/features" not in theirs:
            found |= dict.fromkeys(OF_FEATURES, ONLY_MOMENTS)
        if "spatial" not in ours:
            found["sfid"] = f"the features of the samples have no spatial part ({self.judge})"
        elif f"heldout/{self.judge}/mu_s" not in theirs:
            found["sfid"] = "the reference has no spatial moments (mu_s and sigma_s)"
        if "probabilities" not in ours:
            found["inception_score"] = "the features of the samples come without class probabilities"
        if "clip" not in ours:
            no_text = "labels" not in ours and self.request.captions is None
            found["clip_score"] = (
                "no labels and no captions (--labels, --captions)"
                if no_text
                else absent(self.registry, self.protocol.clip, self.request.networks)
            )
        if "labels" not in ours:
            found["accuracy"] = "no labels (--labels)"
        elif "probabilities" in ours:
            columns, classes = ours["probabilities"].shape[1], self.registry.data.classes
            found["accuracy"] = f"the classifier's {columns:,} outputs are not the {classes:,} classes in their order"
        return found

    def _differences(
        self, ours: Arrays, against: Opened, theirs: Arrays, protocol: Evaluation
    ) -> dict[str, dict[str, float]]:
        """Scores of the second set minus those of the first, with paired errors, p and p after Holm's correction."""
        other, second = against.source.path, self._arrays(against, compared=True)
        check_width(str(other), second["features"].shape[1], ours["features"].shape[1])
        if "labels" in ours and "labels" in second and not np.array_equal(ours["labels"], second["labels"]):
            raise ArtuneError(f"{other}: its labels are not those of {self.request.samples}, so no image has a partner")
        both = [few_left_out(each, theirs, protocol, self.registry.data.classes) for each in (ours, second)]
        names = [name for name in COMPARED if all(name in each for each in both)]
        found = {name: paired_difference(*([each[name]] for each in both)) for name in names}
        for line, chance in zip(found.values(), holm([line["p"] for line in found.values()]), strict=True):
            line["p_holm"] = chance
        return found

    def _facts(self, protocol: Evaluation, samples: Opened, reference: Opened) -> dict[str, Any]:
        """Everything that the scores depend on, by name."""
        side = samples.known.facts["size"][0] if samples.known else None
        compared = protocol.model_dump(mode="json") | {"n": protocol.samples, "image_size": side}
        compared["reference"] = self._reference_name()
        differs = [
            f"{name} {compared[name]}, not {value}" for name, value in OFFICIAL.items() if compared[name] != value
        ]
        differs += [f"digest of {each.path.name} not published" for each in self.used.values() if not each.published]
        return {
            "n": protocol.samples,
            "scale": self.registry.scale,
            "protocol": "; ".join(differs) or "official",
            "files": {
                "samples": samples.described(),
                "reference": reference.described(),
                **({"against": str(self.request.against)} if self.request.against else {}),
            },
            "networks": {
                name: {"file": str(each.path), "sha256": each.digest, "published": each.published}
                for name, each in self.used.items()
            },
            "evaluation": protocol.model_dump(mode="json"),
        }

    def _reference_name(self) -> str:
        """The reference as the protocol calls it: ADM's file by its key, any other by its own name."""
        name, asset = self.request.reference.name, self.registry.assets.get(str(OFFICIAL["reference"]))
        return str(OFFICIAL["reference"]) if asset is not None and name == Path(asset.file).name else name
