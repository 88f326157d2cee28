"""Networks with random weights, images in every layout, and calls of ``artune score`` at the smoke scale."""

import functools
import io
import json
import tarfile

import numpy as np
import torch
from PIL import Image
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.models.encoders.build import build_network
from artune.models.weights.checkpoints import save_module

REGISTRY = Registry("smoke", root=ROOT / "config")
N = 40


def write_networks(folder):
    """The networks of the smoke scale's evaluation, as its rules would write them."""
    torch.manual_seed(0)
    for name in sorted(set(REGISTRY.evaluation.networks.values())):
        save_module(folder / f"{name}.safetensors", build_network(REGISTRY.networks[name], REGISTRY.data).eval())
    return folder


@functools.cache
def pixels(seed, n=N, side=28):
    """Coloured noise uint8 [n, side, side, 3], brighter for higher seeds."""
    draw = np.random.default_rng(seed)
    colours = draw.normal(90 + 10 * seed, 40, (n, 1, 1, 3))
    return np.clip(colours + draw.normal(0, 50, (n, side, side, 3)), 0, 255).astype(np.uint8)


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def as_folder(path, images, kind="PNG", name="{:03d}"):
    for at, image in enumerate(images):
        file = path / f"{name.format(at)}.{kind.lower()}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(image, kind))
    return path


def as_tar(path, images, kind="PNG"):
    with tarfile.open(path, "w") as archive:
        for at, image in enumerate(images):
            data, entry = encoded(image, kind), tarfile.TarInfo(f"{at:03d}.{kind.lower()}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def as_npz(path, images, **further):
    np.savez(path, arr_0=images, **further)
    return path


class Call:
    """A call of ``artune score``: its status, what it said, and what it wrote."""

    def __init__(self, capsys, samples, reference, *words, networks=None, scale="smoke"):
        output = samples.parent / "out.json"
        output.unlink(missing_ok=True)
        given = ["score", samples, "--reference", reference, "--output", output, "--threads", "1", "--device", "cpu"]
        given += ["--networks", networks] if networks else []
        self.status = main([*map(str, given), "--scale", scale, *map(str, words)])
        self.out, self.err = capsys.readouterr()
        self.last = self.err.splitlines()[-1]
        self.json = json.loads(output.read_text()) if output.exists() else {}
        self.scores = self.json.get("scores", {})
