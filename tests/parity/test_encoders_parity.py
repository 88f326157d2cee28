"""The paper's frozen networks against their reference implementations, on random weights."""

import gzip
import importlib
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from project import ROOT
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.transforms.v2.functional import normalize, resize

from artune.config.registry import Registry
from artune.config.run import Data, Network
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network, load_network
from artune.models.encoders.clip import HPSv2, OpenCLIP, clip_pixels, hps_pixels
from artune.models.encoders.inception import Inception
from artune.models.encoders.inception_torchvision import TorchvisionInception
from artune.models.encoders.maniqa import Maniqa, ManiqaSizes, grid_crops, random_crops
from artune.models.weights.checkpoints import save_module

DATA = Path(__file__).parent / "data"
IMAGENET = Data(source="imagenet", image_size=256, classes=1000)
TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
TINY_MANIQA = {"crop": 32, "patch": 4, "width": 32, "depth": 4, "heads": 2, "taps": [1, 2], "hidden": 24, "crops": 20}


def draw(*shape, seed=0):
    """Random images of smooth colours with noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:-2], 5, 5, generator=generator)
    smooth = F.interpolate(coarse, shape[-2:], mode="bilinear") * 255
    noise = torch.randint(-40, 41, shape, generator=generator)
    return (smooth + noise).clamp(0, 255).to(torch.uint8)


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def network(kind, architecture):
    return Network(kind=kind, architecture=str(architecture))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "Tiny-CLIP-of-the-tests.json"
    path.write_text(json.dumps(TINY))
    return path


def test_every_network_of_the_paper_is_built_at_full_size_without_filling_its_weights():
    sizes = {"inception": 21_785_568 + 2049 * 1008, "clip": 427_616_513, "hps": 986_109_441, "maniqa": 135_747_530}
    sizes |= {"dinov2": 304_367_616}
    networks = Registry("imagenet", root=ROOT / "config").networks
    for name, size in sizes.items():
        module = build_network(networks[name], IMAGENET, empty=True)
        assert sum(parameter.numel() for parameter in module.parameters()) == size, name


def test_networks_of_the_mnist_scale_load_without_the_packages_of_the_paper():
    code = "import sys, artune.models.encoders.build; sys.exit(bool({'timm', 'torch_fidelity', 'open_clip'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Inception


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    torch.manual_seed(0)
    module = Inception()
    for name, buffer in module.named_buffers():  # statistics with which batch norm is not the identity
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.empty_like(buffer).uniform_(-0.3, 0.3))
    path = tmp_path_factory.mktemp("inception") / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception(inception_file):
    return load_network(inception_file, network("inception", "inception-v3-compat"), IMAGENET)


def test_inception_equals_torch_fidelity_from_its_own_file_and_from_ours(inception, inception_file, tmp_path):
    images = draw(3, 3, 256, 256)
    reference = FeatureExtractorInceptionV3("reference", ["2048", "logits_unbiased"], str(inception_file))
    features, logits = reference(images)
    assert features.std() > 0.01  # the features are not degenerate
    save_module(tmp_path / "inception.safetensors", inception)
    ours = load_network(tmp_path / "inception.safetensors", network("inception", "inception-v3-compat"), IMAGENET)
    for module in (inception, ours):
        torch.testing.assert_close(module.features(images), features, rtol=1e-6, atol=0)
        torch.testing.assert_close(module.probabilities(images), logits.softmax(1), rtol=1e-5, atol=1e-12)


def test_class_probabilities_leave_the_bias_out_and_keep_all_1008_columns(inception):
    images = draw(2, 3, 64, 64)
    expected = (inception.features(images) @ inception.fc.weight.T).softmax(dim=1)
    assert expected.shape == (2, 1008)
    torch.testing.assert_close(inception.probabilities(images), expected)
    assert not torch.allclose(inception.probabilities(images), inception.fc(inception.features(images)).softmax(1))


def test_spatial_features_are_seven_channels_of_mixed_6d_with_the_channel_fastest(inception, inception_file):
    images = draw(2, 3, 256, 256, seed=1)
    reference = FeatureExtractorInceptionV3("reference", ["2048"], str(inception_file))
    seen = []
    reference.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    (features,) = reference(images)
    found = inception.outputs(images)
    got, spatial = found["features"], found["spatial"]
    torch.testing.assert_close(got, features, rtol=1e-6, atol=0)
    assert spatial.shape == (2, 2023)
    assert spatial.std() > 0.01
    for image, row, column, channel in [(0, 0, 0, 6), (1, 16, 3, 0), (1, 5, 11, 2)]:
        assert spatial[image, (row * 17 + column) * 7 + channel] == seen[0][image, channel, row, column]
    assert not inception.Mixed_6d.branch1x1._forward_hooks


def test_inception_resizes_as_tensorflow_does(inception):
    with np.load(DATA / "metrics" / "resize.npz") as arrays:
        image, rows, expected = (arrays[f"up256/{name}"] for name in ("image", "rows", "tf_299_rows"))
        spread = torch.from_numpy(arrays["up256/tf_mean_std"])
        assert arrays["up256/torch_fidelity_max_abs_diff"] < 2e-5
    seen = []
    hook = inception.Conv2d_1a_3x3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    inception.features(torch.from_numpy(image).permute(2, 0, 1)[None])
    hook.remove()
    whole = (seen[0][0] * 128 + 128).permute(1, 2, 0)
    torch.testing.assert_close(whole[torch.from_numpy(rows)], torch.from_numpy(expected), rtol=0, atol=2e-5)
    torch.testing.assert_close(torch.tensor([whole.mean(), whole.std()]), spread.float(), rtol=1e-5, atol=0)


@pytest.fixture
def tf32():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


def test_inception_runs_without_tf32_and_autocast_whatever_the_caller_set(inception, tf32):
    inside = []

    def look(module, inputs, output):
        flags = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        inside.append((*flags, torch.is_autocast_enabled("cpu"), output.dtype))

    hook = inception.Mixed_7c.register_forward_hook(look)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inception.features(draw(1, 3, 32, 32))
    hook.remove()
    assert inside == [(False, False, False, torch.float32)]
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_many_images_are_taken_in_parts(inception, monkeypatch):
    images = draw(5, 3, 40, 40)
    whole = inception.outputs(images).values()
    monkeypatch.setattr("artune.models.encoders.inception.IMAGES_AT_ONCE", 2)
    for one, other in zip(inception.outputs(images).values(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- CLIP and HPSv2


SHAPES = [(256, 256), (224, 224), (32, 32), (300, 201), (97, 384)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_clip_preprocessing_equals_the_reference_on_pil_images(shape):
    images = draw(3, 3, *shape)
    transform = open_clip.image_transform(224, is_train=False)
    expected = torch.stack([transform(pil(image)) for image in images])
    assert torch.equal(clip_pixels(images, 224), expected)


@pytest.fixture(scope="module")
def hpsv2_package():
    """The hpsv2 package. Its wheel lacks the vocabulary that its import reads; open_clip has the same file."""
    vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")

    def reading(path, *args, original=gzip.open, **kwargs):
        missing = Path(path).name == vocabulary.name and not Path(path).exists()
        return original(vocabulary if missing else path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip, "open", reading)
        yield importlib.import_module("hpsv2.img_score")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hps_preprocessing_equals_the_packages(hpsv2_package, shape):
    transforms = importlib.import_module("hpsv2.src.open_clip.transform")
    transform = transforms.image_transform(224, is_train=False, resize_longest_max=True)
    images = draw(2, 3, *shape)
    expected = torch.stack([transform(pil(image)) for image in images])
    torch.testing.assert_close(hps_pixels(images, 224), expected, rtol=0, atol=2e-5)


def test_clip_and_hps_each_use_their_own_preprocessing(tiny):
    images = draw(2, 3, 48, 40)
    assert torch.equal(OpenCLIP(str(tiny)).pixels(images), clip_pixels(images, 32))
    assert torch.equal(HPSv2(str(tiny)).pixels(images), hps_pixels(images, 32))
    assert (clip_pixels(images, 32) - hps_pixels(images, 32)).abs().max() > 1


def test_images_whose_longest_side_fits_are_padded_too():
    pixels = hps_pixels(draw(1, 3, 100, 224), 224)
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels[0, 0, 0].unique().numel() == 1


def test_hps_tokens_equal_the_packages(hpsv2_package):
    texts = ["a photo of tench", "A photo of jack-o'-lantern", "a photo of " + "very " * 90 + "long"]
    theirs = importlib.import_module("hpsv2.src.open_clip.tokenizer").tokenize(texts)
    assert torch.equal(HPSv2("ViT-H-14", empty=True).tokenizer(texts), theirs)


def test_tiny_clip_cosines_equal_open_clips_own_forward(tiny, tmp_path):
    torch.manual_seed(1)
    ours = build_network(network("open_clip", tiny), IMAGENET).eval()
    save_module(tmp_path / "weights.safetensors", ours)
    open_clip.add_model_config(tiny)
    theirs, _, transform = open_clip.create_model_and_transforms(
        tiny.stem, pretrained=str(tmp_path / "weights.safetensors"), require_pretrained=True, weights_only=True
    )
    theirs.eval()
    images, texts = draw(4, 3, 32, 32), ["a photo of tench", "a photo of a goldfish, orange", "x"]
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(tiny.stem)(texts)
        image, text, _ = theirs(torch.stack([transform(pil(image)) for image in images]), tokens)
    cosine = ours.embed_images(images) @ ours.embed_texts(texts).T
    torch.testing.assert_close(cosine, image @ text.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.embed_images(images).norm(dim=1), torch.ones(4))
    assert cosine.std() > 0.01


@pytest.mark.parametrize("kind", ["open_clip", "hpsv2"])
def test_clip_loads_from_an_official_file_and_from_ours_with_the_weights_unset_before(tiny, tmp_path, kind):
    torch.manual_seed(2)
    module = build_network(network(kind, tiny), IMAGENET).eval()
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "HPS_v2.1_compressed.pt")
    save_module(tmp_path / "ours.safetensors", module)
    images = draw(2, 3, 48, 40)
    for name in ("HPS_v2.1_compressed.pt", "ours.safetensors"):
        loaded = load_network(tmp_path / name, network(kind, tiny), IMAGENET)
        assert torch.equal(loaded.embed_images(images), module.embed_images(images))
        assert torch.equal(loaded.embed_texts(["a photo of tench"]), module.embed_texts(["a photo of tench"]))


def test_quick_gelu_follows_the_name():
    assert OpenCLIP("ViT-L-14-quickgelu", empty=True).quick_gelu
    assert OpenCLIP("ViT-B-32-quickgelu", empty=True).quick_gelu
    assert not HPSv2("ViT-H-14", empty=True).quick_gelu


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ViT-L-14-quickgleu", "is unknown; open_clip has ViT-L-14-quickgelu"),
        ("hf-hub:someone/model", "is unknown"),
        ("ViT-B-16-SigLIP", "is not a plain CLIP"),
        ("roberta-ViT-B-32", "does not have CLIP's vocabulary"),
        ("missing.json", "missing.json"),
    ],
)
def test_unknown_architectures_are_refused_in_one_line(architecture, message):
    with pytest.raises(ArtuneError, match=message) as caught:
        build_network(network("open_clip", architecture), IMAGENET)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_hps_score_equals_the_packages_own_scoring_at_full_size(hpsv2_package, tmp_path, monkeypatch):
    torch.manual_seed(3)
    path = tmp_path / "HPS_v2.1_compressed.pt"
    torch.save({"state_dict": HPSv2("ViT-H-14").state_dict()}, path)
    images, prompt = draw(2, 3, 256, 256), "a photo of tench"
    ours = load_network(path, network("hpsv2", "ViT-H-14"), IMAGENET)
    scores = (ours.embed_images(images) @ ours.embed_texts([prompt]).T).squeeze(1)
    del ours
    factory = importlib.import_module("hpsv2.src.open_clip")
    with monkeypatch.context() as patch:
        for name in ("kaiming_uniform_", "normal_", "uniform_"):  # the file has all weights; drawing them takes seconds
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        model, _, transform = factory.create_model_and_transforms(
            "ViT-H-14", None, precision="amp", device="cpu", light_augmentation=True, output_dict=True
        )
    monkeypatch.setattr(hpsv2_package, "model_dict", {"model": model, "preprocess_val": transform})
    expected = hpsv2_package.score([pil(image) for image in images], prompt, cp=str(path))
    path.unlink()  # 4 GB
    torch.testing.assert_close(scores, torch.tensor(np.array(expected)), rtol=0, atol=2e-6)


# --- MANIQA


def recipe(name, shape):
    """Weights of one parameter, drawn as they were for the parity arrays."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    owner, leaf = name.rsplit(".", 1)
    if leaf == "weight" and len(shape) == 1 and owner.split(".")[-1].startswith("norm"):
        value = generator.uniform(0.8, 1.2, shape)
    else:
        value = generator.standard_normal(shape)
        if leaf == "bias":
            value = 0.02 * value - (0.5 if name == "fc_score.3.bias" else 0.0)
        elif name in ("vit.cls_token", "vit.pos_embed"):
            value = 0.2 * value
        elif leaf == "relative_position_bias_table":
            value = 0.5 * value
        else:
            small = owner.split(".")[-1] in ("c_q", "c_k", "conv1", "conv2")
            value = (0.3 if small else 1.0) * value / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


@pytest.fixture(scope="module")
def maniqa(tmp_path_factory):
    """A network loaded from the released layout: a flat state dict, made from the list of keys, not from our module."""
    entries = json.loads((DATA / "maniqa" / "state_dict_shapes.json").read_text())["entries"]
    fresh = Maniqa()
    buffers = dict(fresh.named_buffers())
    state = {
        entry["name"]: recipe(entry["name"], entry["shape"]) if entry["kind"] == "parameter" else buffers[entry["name"]]
        for entry in entries
    }
    path = tmp_path_factory.mktemp("maniqa") / "ckpt_koniq10k.pt"
    torch.save(state, path)
    module = load_network(path, network("maniqa", "vit_base_patch8_224"), IMAGENET)
    path.unlink()  # 0.5 GB
    return module


@pytest.fixture(scope="module")
def maniqa_arrays():
    with np.load(DATA / "maniqa" / "maniqa.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_maniqa_has_exactly_the_keys_shapes_and_dtypes_of_the_checkpoint():
    listing = json.loads((DATA / "maniqa" / "state_dict_shapes.json").read_text())
    expected = {entry["name"]: (entry["shape"], entry["dtype"]) for entry in listing["entries"]}
    state = Maniqa(empty=True).state_dict()
    assert {key: (list(value.shape), str(value.dtype).split(".")[1]) for key, value in state.items()} == expected


def test_maniqa_equals_the_reference_in_every_stage(maniqa, maniqa_arrays):
    stages = {
        "tab1_0": (maniqa.tablock1[0], np.s_[:, ::192, ::49]),
        "tab1_1": (maniqa.tablock1[1], np.s_[:, ::192, ::49]),
        "conv1": (maniqa.conv1, np.s_[:, ::48, ::9, ::9]),
        "swin1": (maniqa.swintransformer1, np.s_[:, ::48, ::9, ::9]),
        "tab2_0": (maniqa.tablock2[0], np.s_[:, ::48, ::49]),
        "tab2_1": (maniqa.tablock2[1], np.s_[:, ::48, ::49]),
        "conv2": (maniqa.conv2, np.s_[:, ::24, ::9, ::9]),
        "swin2": (maniqa.swintransformer2, np.s_[:, ::24, ::9, ::9]),
    }
    stages |= {f"vit_block{block}": (maniqa.vit.blocks[block], np.s_[:, ::49, ::48]) for block in (0, 5, 6, 7, 8, 9)}
    for stage, channels in ((1, 48), (2, 24)):
        for number, layer in enumerate(getattr(maniqa, f"swintransformer{stage}").layers):
            part = np.s_[:, ::49, ::channels]
            stages[f"swin{stage}_layer{number}"] = (layer, part)
            stages |= {f"swin{stage}_layer{number}_block{b}": (layer.blocks[b], part) for b in (0, 1)}
    assert {name.removeprefix("t_") for name in maniqa_arrays if name.startswith("t_")} == {*stages, "vit_block11"}
    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.setdefault(name, output)

    hooks = [module.register_forward_hook(keep(name)) for name, (module, _) in stages.items()]
    pixels = torch.from_numpy(maniqa_arrays["crops"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        scores, weights = maniqa.rate_patches((pixels - 0.5) / 0.5)
    for hook in hooks:
        hook.remove()
    for name, (_, part) in stages.items():
        got = seen[name]
        if got.ndim == 4 and "_block" in name:  # [B, H, W, D]
            got = got.flatten(1, 2)
        elif "_layer" in name and "_block" not in name:  # [B, D, H, W]
            got = got.flatten(2).transpose(1, 2)
        mean, spread, largest = maniqa_arrays[f"st_{name}"]
        assert np.abs(got.numpy()[part] - maniqa_arrays[f"t_{name}"]).max() < 5e-5 * spread, name
        whole = got.double()
        found = (whole.mean(), whole.std(correction=0), whole.abs().max())
        np.testing.assert_allclose(found, (mean, spread, largest), rtol=0, atol=5e-5 * spread, err_msg=name)
    for got, name in ((scores, "patch_score"), (weights, "patch_weight")):
        for kind in (name, f"{name}_fp64"):
            np.testing.assert_allclose(got.numpy(), maniqa_arrays[kind], rtol=0, atol=2e-5)
    final = ((scores * weights).sum(1) / weights.sum(1)).numpy()
    for name in ("final_fp64", "final_fp32_timm055", "final_fp32_timm1031"):
        np.testing.assert_allclose(final, maniqa_arrays[name], rtol=0, atol=2e-6)
    np.testing.assert_allclose(final.mean(), maniqa_arrays["image_score_mean_of_crops_fp64"], rtol=0, atol=2e-6)
    pooled = ((scores * weights).sum() / weights.sum()).item()  # the grid's score pools all crops in this way
    np.testing.assert_allclose(pooled, maniqa_arrays["image_score_pooled_fp64"], rtol=0, atol=2e-6)


def test_maniqas_blocks_after_the_last_one_read_are_in_the_checkpoint_as_well(maniqa, maniqa_arrays):
    pixels = torch.from_numpy(maniqa_arrays["crops"][:1]).permute(0, 3, 1, 2).float() / 255
    seen = []
    hook = maniqa.vit.blocks[11].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        maniqa.vit((pixels - 0.5) / 0.5)
    hook.remove()
    spread = maniqa_arrays["st_vit_block11"][1]
    assert np.abs(seen[0].numpy()[:, ::49, ::48] - maniqa_arrays["t_vit_block11"][:1]).max() < 5e-5 * spread


def test_the_two_kinds_of_layer_norm_differ_in_epsilon(maniqa):
    epsilons = {
        name.split(".")[0]: module.eps
        for name, module in maniqa.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
    }
    assert epsilons == {"vit": 1e-6, "swintransformer1": 1e-5, "swintransformer2": 1e-5}


@pytest.mark.parametrize("shape", [(768, 1024), (512, 512), (256, 256)], ids=str)
def test_random_crops_are_the_official_scripts(maniqa_arrays, shape):
    expected = maniqa_arrays[f"offsets_seed20_h{shape[0]}_w{shape[1]}"]
    assert random_crops(*shape, 224, 20) == [tuple(row) for row in expected.tolist()]


def test_grid_crops_are_the_first_twenty_of_five_by_five():
    crops = grid_crops(256, 256, 224, 20)
    assert crops[:6] == [(0, 0), (0, 8), (0, 16), (0, 24), (0, 32), (8, 0)]
    assert (len(crops), crops[-1]) == (20, (24, 32))


@pytest.fixture(scope="module", params=["", "-grid"])
def tiny_maniqa(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "maniqa.json"
    path.write_text(json.dumps(TINY_MANIQA))
    torch.manual_seed(4)
    module = build_network(network("maniqa", f"{path}{request.param}"), IMAGENET).eval()
    with torch.no_grad():  # without these changes every score of a new head is about 0
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        module.fc_score[3].bias.fill_(2.0)
    return module


def test_maniqa_scores_of_a_batch_equal_crop_by_crop_scoring(tiny_maniqa):
    images = draw(3, 3, 50, 44)
    grid = tiny_maniqa.grid
    offsets = (grid_crops if grid else random_crops)(50, 44, 32, 20)
    expected = []
    for image in images:
        rated = []
        for top, left in offsets:
            crop = (image[None, :, top : top + 32, left : left + 32].float() / 255 - 0.5) / 0.5
            with torch.no_grad():
                rated.append(tiny_maniqa.rate_patches(crop))
        if grid:
            expected.append(sum((s * w).sum() for s, w in rated) / sum(w.sum() for _, w in rated))
        else:
            expected.append(sum((s * w).sum() / w.sum() for s, w in rated) / 20)
    got = tiny_maniqa.score(images)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert got.std() > 1e-4


def test_images_without_room_for_random_crops_are_refused_and_enlarged_for_the_grid(tiny_maniqa):
    if tiny_maniqa.grid:
        assert tiny_maniqa.score(draw(2, 3, 32, 32)).shape == (2,)
    else:
        with pytest.raises(ArtuneError, match="no room for crops of 32"):
            tiny_maniqa.score(draw(2, 3, 32, 32))


def test_the_released_sizes_are_the_default():
    assert (ManiqaSizes().side, ManiqaSizes().crops, ManiqaSizes().taps) == (28, 20, (6, 7, 8, 9))


# --- torchvision's Inception


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    """As downloaded: a raw state dict with the auxiliary classifier and, as in old files, no batch norm counters."""
    torch.manual_seed(5)
    module = TorchvisionInception()
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.empty_like(buffer).uniform_(-0.3, 0.3))
    path = tmp_path_factory.mktemp("torchvision") / "inception_v3_google-0cc3c7bd.pth"
    torch.save({name: value for name, value in module.state_dict().items() if "num_batches" not in name}, path)
    return path


def test_torchvisions_inception_equals_torchvisions_on_normalised_images(torchvision_file):
    ours = load_network(torchvision_file, network("inception_torchvision", "inception_v3"), IMAGENET)
    theirs = torchvision.models.inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    theirs.load_state_dict(torch.load(torchvision_file, weights_only=True), strict=False)
    images = draw(1, 3, 256, 256)
    pixels = resize(images.float() / 255, [299, 299], antialias=True)  # antialias changes no enlarged image
    pixels = normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(ours.pixels(images), pixels, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours.probabilities(images), theirs(pixels).softmax(1), rtol=1e-4, atol=1e-7)
        theirs.fc = torch.nn.Identity()
        features = theirs(pixels)
    assert features.std() > 0.01
    torch.testing.assert_close(ours.features(images), features, rtol=1e-4, atol=1e-5)


def test_torchvisions_weights_have_the_published_digest_and_number_of_parameters():
    registry = Registry("imagenet", root=ROOT / "config")
    settings = registry.networks["inception_torchvision"]
    published = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1
    assert registry.assets[settings.checkpoint].url == published.url
    assert f"-{registry.assets[settings.checkpoint].sha256_prefix}." in published.url
    module = build_network(settings, IMAGENET, empty=True)
    assert sum(parameter.numel() for parameter in module.parameters()) == published.meta["num_params"]
