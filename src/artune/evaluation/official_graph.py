"""The command ``evaluate_official``: the official network, TensorFlow's graph of 2015, compared with the torch port.

It runs in a separate environment (``make official``, or ``envs/official.yaml`` with --sdm conda), which has TensorFlow
but no torch. The graph's outputs and the distances between them are TensorFlow's; the other arithmetic is in
:mod:`artune.evaluation.official_scores`.
"""

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artune.config.run import Evaluation
from artune.data.npz_images import image_rows
from artune.errors import ArtuneError
from artune.evaluation.official_scores import BLOCK, NAMES, five_numbers, half_distances, precision_recall
from artune.evaluation.protocol import file_order
from artune.runtime.files import load_npz, npz_shape, read_json, sha256, write_json
from artune.runtime.outside.regular import read_regular
from artune.runtime.progress import track

INPUT, POOL, SPATIAL, SOFTMAX = "ExpandDims:0", "pool_3:0", "mixed_6/conv:0", "softmax/logits/MatMul"
CHANNELS = 7  # channels of SPATIAL that are kept
MOST_BYTES = 2**31 - 1  # of the graph's file, the limit of its format
BATCH = 64  # images per call, as in the official evaluator
MOMENTS = ("mu", "sigma", "mu_s", "sigma_s")
Arrays = Mapping[str, np.ndarray]


def _tensorflow() -> Any:
    try:
        import tensorflow.compat.v1 as tf
    except ImportError as error:
        raise ArtuneError(
            "evaluate_official: TensorFlow is not in this environment; run `make official` and try again, or "
            "give Snakemake --sdm conda"
        ) from error
    return tf


class Graph:
    """``classify_image_graph_def.pb``, which resizes, scales and describes images; it defines ADM's scores.

    Raises:
        ArtuneError: TensorFlow is not installed, or the file is not this graph.
    """

    def __init__(self, path: Path):
        tf = _tensorflow()
        definition = tf.GraphDef()
        try:
            definition.ParseFromString(read_regular(path, MOST_BYTES))
            with tf.Graph().as_default() as graph:
                self.images = tf.placeholder(tf.float32, [None, None, None, 3])
                pool, spatial, softmax = tf.import_graph_def(
                    definition, input_map={INPUT: self.images}, return_elements=[POOL, SPATIAL, SOFTMAX], name=""
                )
                rows = tf.shape(self.images)[0]
                features = tf.reshape(pool, [rows, -1])
                probabilities = tf.nn.softmax(tf.matmul(features, softmax.inputs[1]))  # without the bias
                self.outputs = {
                    "features": features,
                    "spatial": tf.reshape(spatial[..., :CHANNELS], [rows, -1]),  # H, W, C order
                    "probabilities": probabilities,
                }
        except Exception as error:  # protobuf and TensorFlow raise errors of their own types
            reason = str(error).splitlines()[0]
            raise ArtuneError(f"{path}: not the Inception graph ({reason}); fetch it again") from error
        self.session = tf.Session(graph=graph)

    def describe(self, batches: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """``features`` [n, 2048], ``spatial`` [n, 2023], ``probabilities`` [n, 1008] for batches uint8 [b, H, W, 3]."""
        parts = [self.session.run(self.outputs, {self.images: batch.astype(np.float32)}) for batch in batches]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


class HalfDistances:
    """Squared distances as the official evaluator has TensorFlow compute them; call an instance with two sets.

    Raises:
        ArtuneError: TensorFlow is not installed.
    """

    def __init__(self) -> None:
        tf = _tensorflow()
        with tf.Graph().as_default() as graph:
            self.features = [tf.placeholder(tf.float32, [None, None]) for _ in range(2)]
            half = _expanded(tf, *(tf.cast(features, tf.float16) for features in self.features))
            self.distances = tf.cond(
                tf.reduce_all(tf.is_finite(half)),
                lambda: tf.cast(half, tf.float32),
                lambda: _expanded(tf, *self.features),
            )
        self.session = tf.Session(graph=graph)

    def __call__(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Features float32 [rows, D] and [columns, D] -> float32 [rows, columns].

        All steps are in half precision, or all in single precision if a number of the block overflows.
        """
        return self.session.run(self.distances, dict(zip(self.features, (u, v), strict=True)))


def _expanded(tf: Any, u: Any, v: Any) -> Any:
    """``max(|u|^2 - 2 u.v + |v|^2, 0)``, summed and rounded by TensorFlow in this order."""
    norm_u, norm_v = (tf.reduce_sum(tf.square(w), 1) for w in (u, v))
    return tf.maximum(norm_u[:, None] - 2 * tf.matmul(u, v, transpose_b=True) + norm_v[None], 0.0)


def evaluate_official(
    run: str,
    samples: Path,
    features: Path,
    scores: Path,
    reference: Path,
    graph: Path,
    evaluation: Evaluation,
    output: Path,
) -> str:
    """Write official.json: the five numbers by the graph and by the port, and the differences (port minus graph).

    ``rounding_model`` has Precision and Recall of the graph's features by the port's model of the rounding, instead of
    TensorFlow's own sums: it tells the two causes of a difference, features and rounding, apart. ``deviation`` is the
    distance of the port's features from the graph's, ``|port - graph| / |graph|`` over all images.

    Args:
        run: name of the run.
        samples: samples.npz of the run.
        features: features.npz of the run, written by the port.
        scores: scores.json of the run.
        reference: ADM's reference file.
        graph: classify_image_graph_def.pb.
        evaluation: the protocol.
        output: file to write.

    Raises:
        ArtuneError: a file is missing or damaged, the run's three files do not belong together, or no TensorFlow.
    """
    port, ported = read_json(scores), load_npz(features, "features", "spatial", "probabilities")
    shape = npz_shape(samples, "arr_0")
    if not shape[0] == port["n"] == len(ported["features"]):
        raise ArtuneError(f"{samples}: {shape[0]} images, but {scores} has {port['n']}; sample and score {run} again")
    network = Graph(graph)
    ours = network.describe(_images(samples, "samples"))
    real = network.describe(_images(reference, "reference")) | load_npz(reference, *MOMENTS)
    try:
        numbers, model = _numbers(ours, real, evaluation)
    except ValueError as error:
        raise ArtuneError(f"{samples} or {reference}: {error}") from error
    half = {name: port["scores"].get(f"{name}_adm_half", port["scores"][name]) for name in NAMES}
    result = {
        "run": run,
        "n": len(ours["features"]),
        "reference": evaluation.reference,
        "protocol": port["protocol"],
        "files": {path.name: sha256(path) for path in (graph, reference)},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("tensorflow-cpu", "numpy")},
        "platform": platform.platform(),
        "graph": numbers,
        "port": half,
        "difference": {name: half[name] - numbers[name] for name in NAMES},
        "rounding_model": model,
        "deviation": {name: _deviation(ported[name], ours[name]) for name in ours},
    }
    write_json(output, result)
    return f"{output}: FID {numbers['fid']:.3f} by the graph, {half['fid']:.3f} by the port"


def _numbers(ours: Arrays, real: Arrays, evaluation: Evaluation) -> tuple[dict[str, float], dict[str, float]]:
    """The five numbers with TensorFlow's distances, and Precision and Recall with those of the port's model."""
    order = file_order(len(ours["features"]), evaluation.seed) if evaluation.inception_shuffle else None
    k, split, distances = evaluation.neighbours, evaluation.inception_split, HalfDistances()
    numbers = five_numbers(ours, real, k, split, order, distances=distances)
    precision, recall = precision_recall(real["features"], ours["features"], k, BLOCK, half_distances)
    return numbers, {"precision": precision, "recall": recall}


def _images(path: Path, label: str) -> Iterator[np.ndarray]:
    count = -(-npz_shape(path, "arr_0")[0] // BATCH)
    yield from track(image_rows(path, BATCH), label, count)


def _deviation(port: np.ndarray, graph: np.ndarray) -> float:
    return float(np.linalg.norm(port.astype(float) - graph) / np.linalg.norm(graph.astype(float)))
