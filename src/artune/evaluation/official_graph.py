"""The command ``evaluate_official``: the official network, TensorFlow's graph of 2015, compared with the torch port.

It runs in a separate environment (``make official``, or ``envs/official.yaml`` with --sdm conda), which has TensorFlow
but no torch. The arithmetic on the graph's outputs is in :mod:`artune.evaluation.official_scores`.
"""

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from artune.config.run import Evaluation
from artune.data.npz_images import image_rows
from artune.errors import ArtuneError
from artune.evaluation.official_scores import NAMES, five_numbers
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


class Graph:
    """``classify_image_graph_def.pb``, which resizes, scales and describes images; it defines ADM's scores.

    Raises:
        ArtuneError: TensorFlow is not installed, or the file is not this graph.
    """

    def __init__(self, path: Path):
        try:
            import tensorflow.compat.v1 as tf
        except ImportError as error:
            raise ArtuneError(
                "evaluate_official: TensorFlow is not in this environment; run `make official` and try again, or "
                "give Snakemake --sdm conda"
            ) from error
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

    ``deviation`` is the distance of the port's features from the graph's, ``|port - graph| / |graph|`` over all images.

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
    order = file_order(len(ours["features"]), evaluation.seed) if evaluation.inception_shuffle else None
    try:
        numbers = five_numbers(ours, real, evaluation.neighbours, evaluation.inception_split, order)
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
        "graph": numbers,
        "port": half,
        "difference": {name: half[name] - numbers[name] for name in NAMES},
        "deviation": {name: _deviation(ported[name], ours[name]) for name in ours},
    }
    write_json(output, result)
    return f"{output}: FID {numbers['fid']:.3f} by the graph, {half['fid']:.3f} by the port"


def _images(path: Path, label: str) -> Iterator[np.ndarray]:
    count = -(-npz_shape(path, "arr_0")[0] // BATCH)
    yield from track(image_rows(path, BATCH), label, count)


def _deviation(port: np.ndarray, graph: np.ndarray) -> float:
    return float(np.linalg.norm(port.astype(float) - graph) / np.linalg.norm(graph.astype(float)))
