"""A miniature ImageNet world: every file of the imagenet scale in its official format, with random weights.

Rules, kinds and loaders are those of the real scale; only sizes differ, in ``config/scales/imagenet.yaml`` of the copy.
Only Inception has its full size, since its graph exists in no other.
"""

import argparse
import copy
import hashlib
import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from project import OFFICIAL, ROOT, copy_project

from artune.config.registry import Registry
from artune.config.run import Data, Network
from artune.config.yaml_layers import merge, read_yaml
from artune.models.encoders.build import build_network
from artune.models.policies.build import build_policy
from artune.models.tokenizers.build import build_tokenizer

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")
NAMES = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")
CODES = 16
POLICY = {"dim": 16, "layers": 2, "heads": 2, "classes": 5, "codebook_size": CODES, "ffn_multiple_of": 8}
TOKENIZER = {"channels": 8, "residual_blocks": 1, "latent_channels": 8, "codebook_size": CODES, "norm_groups": 4}
CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
JUDGE = CLIP | {"vision_cfg": CLIP["vision_cfg"] | {"image_size": 48}}
HPS = CLIP | {"quick_gelu": False}
MANIQA = {
    "crop": 16, "patch": 4, "width": 16, "depth": 3, "heads": 2, "taps": [1, 2], "hidden": 16, "swin_heads": 2,
    "window": 2, "crops": 2,
}  # fmt: skip
DINO = {"side": 28, "patch": 14, "width": 16, "depth": 1, "heads": 2, "grid": 3}
NETWORKS = {"clip": CLIP, "clip_judge": JUDGE, "hps": HPS, "maniqa": MANIQA, "dinov2": DINO}
SCALE = {
    "data": {"image_size": 32, "classes": 5, "class_names": list(NAMES)},
    "tokenizers": {
        "vq": {**TOKENIZER, "codebook_dim": 4},
        "vqgan": {**TOKENIZER, "codebook_dim": 8, "attention_resolutions": [2]},
    },
    "backbones": {
        "llamagen_b": {**POLICY, "tokens": 4},
        "llamagen_l": {**POLICY, "tokens": 4, "layers": 3},
        "llamagen_xl": {**POLICY, "tokens": 9, "dim": 32},  # 48 pixels, resized to 32, like 384 to 256
        "vqgan": {"dim": 16, "layers": 2, "heads": 2, "classes": 5, "codebook_size": CODES, "tokens": 4},
    },
    "networks": {name: {"architecture": f"config/architectures/{name}.json"} for name in NETWORKS},
    "grpo": {"iterations": 2, "prompts": 2, "group_size": 2, "micro_batch": 4, "save_every": 1, "learning_rate": 0.05},
    "mle": {"batch": 4, "save_every": 2, "learning_rate": 0.05},
    "rewards": {"loo_fid": {"start_samples": 4}},
    "evaluation": {"samples": 8, "batch": 8, "inception_split": 4, "grid_classes": 2, "grid_per_class": 1},
    "experiments": {
        "llamagen_l-mle500": {"mle.iterations": 3},
        "llamagen_l-half_prompts": {"grpo.prompts": 1},  # half of 2
        "llamagen_l-half_prompts-class_matched": {"grpo.prompts": 1},
        "vqgan-pretrained-topk100": {"sampling.top_k": 4},  # out of 16 codes
        "vqgan-ours-topk100": {"sampling.top_k": 4},
    },
}


def shrink(folder: Path) -> None:
    """Write miniature sizes into ``folder/config``; released policies then have as many tokens as its backbones."""
    for name, sizes in NETWORKS.items():
        write(folder / f"config/architectures/{name}.json", json.dumps(sizes))
    path = folder / "config/scales/imagenet.yaml"
    path.write_text(yaml.safe_dump(merge(read_yaml(path), SCALE), sort_keys=False))
    path = folder / "config/assets.yaml"
    assets = read_yaml(path)
    for asset in assets.values():
        if "tokens" in asset:
            asset["tokens"] = {256: 4, 576: 9}[asset["tokens"]]
    path.write_text(yaml.safe_dump(assets, sort_keys=False))


def make_world(folder: Path) -> Path:
    """A copy of the project at ``folder`` with the miniature configuration and every asset of the imagenet scale."""
    copy_project(folder)
    shrink(folder)
    torch.manual_seed(0)
    registry = Registry("imagenet", root=folder / "config")
    files = {key: folder / "data/assets" / asset.file for key, asset in registry.assets.items()}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_llamagen(registry, files)
    write_taming(registry, files["taming_cin"])
    write_encoders(registry, files, folder)
    write_graph(files["inception"], files["inception_graph"])
    write_virtual(files["adm_virtual"])
    write_images(files["imagenet"], each=2)
    write_images(files["imagenet_val"], each=2)
    use_digests(folder / "config/assets.yaml", files)
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def random_policy(settings):
    """A policy whose head is not zero, so that classes and tokens matter."""
    policy = build_policy(settings)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return policy


def write_llamagen(registry: Registry, files: dict[str, Path]) -> None:
    """LlamaGen's training checkpoints, its tokenizer, and VA-pi's consolidated XL."""
    for key, size in (("llamagen_b", "B"), ("llamagen_l", "L"), ("llamagen_xl", "XL")):
        state = random_policy(registry.backbones[key]).state_dict()
        arguments = argparse.Namespace(gpt_model=f"GPT-{size}", gpt_type="c2i", vocab_size=CODES)
        torch.save({"model": state, "steps": 300000, "args": arguments}, files[key])
    tokenizer = build_tokenizer(registry.tokenizers["vq"], registry.data.image_size)
    statistic = {"quantize.codebook_used": torch.zeros(65536)}
    torch.save({"model": tokenizer.state_dict() | statistic}, files["vq_ds16_c2i"])
    torch.save(random_policy(registry.backbones["llamagen_xl"]).state_dict(), files["vapi_xl"])
    write(files["vapi_xl"].with_name("state_type.txt"), "full\n")


def write_taming(registry: Registry, path: Path) -> None:
    """The Lightning checkpoint of taming's c-IN model, with an entry for callbacks, and its YAML."""
    policy = random_policy(registry.backbones["vqgan"])
    first_stage = build_tokenizer(registry.tokenizers["vqgan"], registry.data.image_size)
    state = {f"transformer.{name}": value for name, value in policy.state_dict().items()}
    state["transformer.blocks.0.attn.mask"] = torch.ones(1, 1, 4, 4)
    state |= {f"first_stage_model.{name}": value for name, value in first_stage.state_dict().items()}
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.ones(1)
    torch.save({"state_dict": state, "global_step": 3, "epoch": 1, "optimizer_states": [], "callbacks": {}}, path)
    config = {"model": {"target": "taming.models.cond_transformer.Net2NetTransformer", "base_learning_rate": 4.5e-6}}
    write(path.parents[1] / "configs/2021-04-03T19-39-50-project.yaml", yaml.safe_dump(config))


def write_encoders(registry: Registry, files: dict[str, Path], folder: Path) -> None:
    """OpenAI's CLIP files (TorchScript, half precision), HPSv2, MANIQA, DINOv2 and the Inception of FID."""
    for name in ("clip", "clip_judge"):
        settings = registry.networks[name]
        write_torchscript(network(folder, name, settings, registry.data), files[settings.checkpoint])
    hps = network(folder, "hps", registry.networks["hps"], registry.data)
    torch.save({"state_dict": hps.state_dict(), "epoch": 1}, files["hps_v2_1"])
    maniqa = network(folder, "maniqa", registry.networks["maniqa"], registry.data)
    torch.save(maniqa.state_dict(), files["maniqa_koniq10k"])
    dino = network(folder, "dinov2", registry.networks["dinov2"], registry.data)
    torch.save(dino.state_dict() | {"mask_token": torch.zeros(1, 16)}, files["dinov2_vitl14"])
    for name, asset in (("inception", "inception"), ("inception_torchvision", "torchvision_inception")):
        torch.save(build_network(registry.networks[name], registry.data).state_dict(), files[asset])


def network(folder: Path, name: str, settings: Network, data: Data) -> torch.nn.Module:
    architecture = str(folder / f"config/architectures/{name}.json")
    return build_network(settings.model_copy(update={"architecture": architecture}), data).eval()


def write_torchscript(model: torch.nn.Module, path: Path) -> None:
    released = copy.deepcopy(model)
    for name, value in (("input_resolution", model.side), ("context_length", 77), ("vocab_size", 49408)):
        vars(released).pop(name, None)
        released.register_buffer(name, torch.tensor(value))
    inputs = {
        "encode_image": torch.zeros(1, 3, model.side, model.side),
        "encode_text": torch.zeros(1, 77, dtype=torch.long),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace_module(released, inputs, check_trace=False).half().save(str(path))


def write_graph(weights: Path, path: Path) -> None:
    """The same Inception as TensorFlow's graph, where there is a TensorFlow to write it."""
    if OFFICIAL is None:
        return
    arrays = path.with_name("inception.npz")
    np.savez(arrays, **{name: value.numpy() for name, value in torch.load(weights).items()})
    builder = str(ROOT / "tests/support/inception_graph.py")
    subprocess.run([OFFICIAL, builder, arrays, path], check=True, capture_output=True)
    arrays.unlink()


def write_virtual(path: Path, images: int = 8) -> None:
    """ADM's reference: a few images, and moments of the full width that a random network's features might have."""
    draw = np.random.default_rng(0)
    arrays = {"arr_0": draw.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)}
    for suffix, width in (("", 2048), ("_s", 2023)):
        factors = draw.normal(size=(width, 16))
        arrays[f"mu{suffix}"] = draw.uniform(size=width)
        arrays[f"sigma{suffix}"] = 0.01 * factors @ factors.T + 0.05 * np.eye(width)
    np.savez(path, **arrays)


def write_images(folder: Path, each: int) -> None:
    """Synset folders with smooth JPEGs of several sizes, one colour per class."""
    draw = np.random.default_rng(1)
    for number, synset in enumerate(SYNSETS):
        (folder / synset).mkdir(parents=True)
        for index in range(each):
            small = draw.integers(0, 200, (4, 5, 3)) + np.array([number * 11, 55 - number * 11, 0])
            picture = Image.fromarray(small.astype(np.uint8)).resize((80 + 8 * index, 64), Image.Resampling.BICUBIC)
            picture.save(folder / synset / f"{synset}_{index}.JPEG")


def use_digests(path: Path, files: dict[str, Path]) -> None:
    """Replace every published digest by that of the miniature file, and remove all URLs and sizes."""
    assets = read_yaml(path)
    for key, asset in assets.items():
        asset.pop("url", None)
        asset.pop("size", None)
        for name in ("sha256", "sha256_prefix"):
            if name in asset and files[key].is_file():
                digest = hashlib.sha256(files[key].read_bytes()).hexdigest()
                asset[name] = digest[:8] if name == "sha256_prefix" else digest
    path.write_text(yaml.safe_dump(assets, sort_keys=False))
