"""ImageNet readers on tiny generated images, codes of these images, and the two references."""

import io
import tarfile
import types

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from processes import outcomes, run_processes

from artune.config.run import Data, Tokenizer
from artune.data import crops as crops_module
from artune.data.crops import centre_crop, load_images, ten_crop, twenty_crops
from artune.data.imagenet import open_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.inputs import token_codes
from artune.inputs.references import adm_reference, write_adm_reference, write_val_reference
from artune.inputs.token_codes import CropPlan, chosen_crops, load_codes, write_imagenet_codes
from artune.models.encoders.feature_network import FeatureNetwork
from artune.models.tokenizers.build import build_tokenizer
from artune.models.weights.checkpoints import save_module
from artune.runtime.distributed import World
from artune.runtime.files import load_npz, npz_rows, save_npz

SYNSETS = ("n01440764", "n01443537", "n02102040")
EACH = 3
CPU = torch.device("cpu")
DATA = Data(source="imagenet", image_size=16, classes=len(SYNSETS))


def images(path, classes=None):
    """RGB images and class indices of a split."""
    return load_images(open_split(path, classes), lambda image: image)


def picture(label, index, size=(40, 24)):
    noise = np.random.default_rng([label, index]).integers(0, 60, (size[1], size[0], 3))
    noise[..., label] += 150
    noise[..., 0] += 10 * index
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def encoded(label, index):
    data = io.BytesIO()
    picture(label, index).save(data, "PNG")
    return data.getvalue()


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def as_folder(path):
    for label, synset in enumerate(SYNSETS):
        (path / synset).mkdir(parents=True)
        for index in range(EACH):
            # The file holds a PNG, as some files of ImageNet do.
            (path / synset / f"{synset}_{index}.JPEG").write_bytes(encoded(label, index))
    (path / ".cache").mkdir()
    return path


def as_tar(path, folder):
    with tarfile.open(path, "w") as archive:
        for label in (2, 0, 1):  # the order in the file must not matter
            for index in (1, 0, 2):
                name = f"{SYNSETS[label]}_{index}.JPEG"
                add(archive, folder.format(SYNSETS[label]) + name, encoded(label, index))
    return path


def as_tar_of_tars(path):
    with tarfile.open(path, "w") as archive:
        for label in (2, 0, 1):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as own:
                for index in range(EACH):
                    add(own, f"{SYNSETS[label]}_{index}.JPEG", encoded(label, index))
            add(archive, f"{SYNSETS[label]}.tar", inner.getvalue())
    return path


def as_parquet(path, plain=False):
    path.mkdir()
    rows = [(label, index) for label in range(len(SYNSETS)) for index in range(EACH)]
    for number, part in enumerate((rows[:4], rows[4:])):
        data = [encoded(*row) if plain else {"bytes": encoded(*row), "path": "x.JPEG"} for row in part]
        table = pyarrow.table({"image": data, "label": [label for label, _ in part]})
        pyarrow.parquet.write_table(table, path / f"train-{number:05d}-of-00002.parquet", row_group_size=2)
    return path


LAYOUTS = {
    "folder": lambda tmp: as_folder(tmp / "train"),
    "tar of folders": lambda tmp: as_tar(tmp / "train.tar", "train/{}/"),
    "tar of one folder": lambda tmp: as_tar(tmp / "train.tar", "images/"),
    "flat tar": lambda tmp: as_tar(tmp / "train.tar", ""),
    "tar of tars": lambda tmp: as_tar_of_tars(tmp / "train.tar"),
    "parquet": lambda tmp: as_parquet(tmp / "train"),
    "parquet of bytes": lambda tmp: as_parquet(tmp / "train", plain=True),
    "one parquet file": lambda tmp: only_shard(as_parquet(tmp / "train")),
}


def only_shard(folder):
    shards = sorted(folder.glob("*.parquet"))
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(shard) for shard in shards])
    pyarrow.parquet.write_table(table, folder / "whole.parquet")
    return folder / "whole.parquet"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_in_the_order_of_the_synsets(layout, tmp_path):
    found = list(images(LAYOUTS[layout](tmp_path), classes=3))
    assert [label for _, label in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for (image, label), index in zip(found, [0, 1, 2] * 3, strict=True):
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(picture(label, index)))
        assert np.asarray(image).mean((0, 1)).argmax() == label


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_later_start_reads_nothing_before_it(layout, tmp_path):
    split = open_split(LAYOUTS[layout](tmp_path), len(SYNSETS))
    assert split.size in (9, None)
    reads = []

    def watched():
        for number, record in enumerate(split.records()):
            yield types.SimpleNamespace(
                name=record.name, label=record.label, read=lambda r=record, n=number: (reads.append(n), r.read())[1]
            )

    watched_split = types.SimpleNamespace(records=watched)
    assert [label for _, label in load_images(watched_split, lambda image: image, start=7)] == [2, 2]
    assert reads == [7, 8]


def test_a_missing_synset_is_an_error_because_it_would_shift_the_classes(tmp_path):
    with pytest.raises(ArtuneError, match="holds 3 classes, not 1000"):
        open_split(as_folder(tmp_path / "train"), 1000)


@pytest.mark.parametrize("layout", ["folder", "flat tar", "tar of tars", "parquet"])
def test_a_damaged_image_is_one_line_that_names_it(layout, tmp_path, monkeypatch):
    good = encoded
    monkeypatch.setitem(globals(), "encoded", lambda *at: good(*at)[:300] if at == (1, 2) else good(*at))
    path = LAYOUTS[layout](tmp_path)
    with pytest.raises(ArtuneError, match="damaged image") as caught:
        list(images(path))
    named = {"parquet": "row 1"}.get(layout, "n01443537_2.JPEG")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_without_a_split_are_one_line(tmp_path):
    with pytest.raises(ArtuneError, match="no such file or folder"):
        open_split(tmp_path / "absent")
    with pytest.raises(ArtuneError, match="neither synset folders"):
        open_split(tmp_path)
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(ArtuneError, match="has no images"):
        open_split(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"no tar at all")
    with pytest.raises(ArtuneError, match="not an uncompressed tar"):
        open_split(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        add(archive, "ILSVRC2012_val_00000001.JPEG", encoded(0, 0))
    with pytest.raises(ArtuneError, match="sort the images by synset"):
        open_split(tmp_path / "val.tar")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ArtuneError, match="damaged parquet"):
        open_split(tmp_path / "b.parquet")


def test_a_tar_that_is_cut_short_is_one_line(tmp_path):
    whole = as_tar_of_tars(tmp_path / "train.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtuneError, match="damaged"):
        list(images(tmp_path / "cut.tar"))


def test_shards_of_two_splits_in_one_folder_and_unlabelled_ones_are_refused(tmp_path):
    path = as_parquet(tmp_path / "data")
    (path / "train-00001-of-00002.parquet").rename(path / "test-00000-of-00001.parquet")
    with pytest.raises(ArtuneError, match=r"several splits \(test, train\)"):
        open_split(path)
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""], "label": [-1]}), tmp_path / "t.parquet")
    with pytest.raises(ArtuneError, match="without a gap"):
        open_split(tmp_path / "t.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""]}), tmp_path / "u.parquet")
    with pytest.raises(ArtuneError, match="no column label"):
        open_split(tmp_path / "u.parquet")


# -- crops --------------------------------------------------------------------------------------------------------


def test_the_centre_crop_halves_by_boxes_then_resizes_then_cuts():
    image = picture(0, 0, (140, 67))  # short sides 67, 33: one halving, since 33 < 2 * 17
    steps = image.resize((70, 33), Image.Resampling.BOX).resize((36, 17), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(centre_crop(image, 17)), np.asarray(steps)[:, 9:26])


def test_the_centre_crop_of_an_image_of_the_size_is_the_image():
    image = picture(1, 1, (16, 16))
    assert np.array_equal(np.asarray(centre_crop(image, 16)), np.asarray(image))


def test_the_centre_crop_enlarges_small_images():
    assert centre_crop(picture(0, 0, (10, 12)), 32).size == (32, 32)


def test_ten_crop_is_torchvisions_on_the_adm_square():
    from torchvision.transforms.functional import ten_crop as official

    image = picture(2, 0, (90, 70))
    found = ten_crop(image, 32, 1.1)
    expected = np.stack([np.asarray(crop) for crop in official(centre_crop(image, 35), [32, 32])])
    assert np.array_equal(found, expected)


def test_twenty_crops_are_both_ranges():
    image = picture(2, 0, (90, 70))
    crops = twenty_crops(image, 32)
    assert crops.shape == (20, 32, 32, 3)
    assert np.array_equal(crops[:10], ten_crop(image, 32, 1.1))
    assert np.array_equal(crops[10:], ten_crop(image, 32, 1.05))


# -- codes --------------------------------------------------------------------------------------------------------

VQ = Tokenizer(
    family="vq", channels=8, channel_multipliers=(1, 1, 1), residual_blocks=1, latent_channels=8,
    codebook_size=32, codebook_dim=4, norm_groups=4,
)  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_module(tmp_path / "vq.safetensors", build_tokenizer(VQ, image_size=16))
    return tmp_path / "vq.safetensors"


def tokenizer_of(weights):
    from artune.models.weights.checkpoints import load_into

    module = build_tokenizer(VQ, image_size=16)
    load_into(module, weights)
    return module


def test_codes_are_the_tokens_of_every_crop_and_load_as_the_trainer_does(tmp_path, weights):
    write_imagenet_codes(
        VQ, weights, as_folder(tmp_path / "train"), tmp_path / "codes.npz", CPU, DATA, CropPlan(shard=4)
    )
    codes, labels = load_codes(tmp_path / "codes.npz", "train")
    assert codes.shape == (9 * 20, 16)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [label for label in range(3) for _ in range(3 * 20)]
    crops = torch.from_numpy(twenty_crops(picture(1, 2), 16)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = tokenizer_of(weights).encode(to_pixels(crops))
    assert torch.equal(codes.long()[5 * 20 : 6 * 20], expected)
    assert len(codes.unique()) > 1
    assert not (tmp_path / "codes.shards").exists()


def test_a_first_image_that_cannot_be_read_is_one_line_that_names_it(tmp_path, weights):
    path = as_folder(tmp_path / "train")
    first = sorted((path / SYNSETS[0]).iterdir())[0]
    first.unlink()
    first.symlink_to("nowhere.png")
    with pytest.raises(ArtuneError, match=rf"{first.name}: cannot be read .*fetch it again"):
        write_imagenet_codes(VQ, weights, path, tmp_path / "codes.npz", CPU, DATA)


def test_fewer_crops_are_a_fixed_draw_of_the_twenty(tmp_path, weights):
    folder = as_folder(tmp_path / "train")
    for name, crops in (("all", 20), ("two", 2), ("one", 1)):
        write_imagenet_codes(VQ, weights, folder, tmp_path / f"{name}.npz", CPU, DATA, CropPlan(crops=crops, shard=4))
    every = load_npz(tmp_path / "all.npz")["train_codes"].reshape(9, 20, 16)
    two = load_npz(tmp_path / "two.npz")["train_codes"].reshape(9, 2, 16)
    draws = [chosen_crops(index, 2).numpy() for index in range(9)]
    assert np.array_equal(two, np.stack([every[index][draw] for index, draw in enumerate(draws)]))
    assert len({tuple(draw) for draw in draws}) > 1
    one = load_npz(tmp_path / "one.npz")["train_codes"]
    assert np.array_equal(one, np.stack([every[index][int(chosen_crops(index, 1))] for index in range(9)]))
    with pytest.raises(ArtuneError, match="--crops: 21 is not 1 to 20"):
        write_imagenet_codes(VQ, weights, folder, tmp_path / "x.npz", CPU, DATA, CropPlan(crops=21))


def test_an_interrupted_extraction_goes_on_at_the_last_whole_shard(tmp_path, weights, monkeypatch):
    folder = as_folder(tmp_path / "train")
    write_imagenet_codes(VQ, weights, folder, tmp_path / "straight.npz", CPU, DATA, CropPlan(shard=2, batch=60))
    encode, calls = token_codes.encode_crops, []

    def breaks(tokenizer, crops, *rest):
        calls.append(len(crops))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokenizer, crops, *rest)

    monkeypatch.setattr(token_codes, "encode_crops", breaks)
    with pytest.raises(KeyboardInterrupt):
        write_imagenet_codes(VQ, weights, folder, tmp_path / "codes.npz", CPU, DATA, CropPlan(shard=2, batch=60))
    assert sorted(path.name for path in (tmp_path / "codes.shards").glob("*.npz")) == ["000000.npz", "000001.npz"]
    calls.clear()
    calls.extend([0] * 3)
    write_imagenet_codes(VQ, weights, folder, tmp_path / "codes.npz", CPU, DATA, CropPlan(shard=2, batch=60))
    assert sum(calls) == 9 - 4
    straight, again = load_npz(tmp_path / "straight.npz"), load_npz(tmp_path / "codes.npz")
    assert all(np.array_equal(straight[key], again[key]) for key in straight)
    assert set(straight) == {"train_codes", "train_labels"}


def encoded_by(world, weights, folder, output, plan, stop=None):
    """Codes by the processes of a world; process ``stop`` is interrupted after its first shard. Returns its passes."""
    encode, calls = token_codes.encode_crops, []

    def counts(tokenizer, crops, *rest):
        calls.append(len(crops))
        if world.rank == stop and len(calls) == 2:
            raise ArtuneError("interrupted")
        return encode(tokenizer, crops, *rest)

    token_codes.encode_crops = counts  # this process ends with the test
    write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, plan, world)
    return sum(calls)


def test_codes_are_the_same_file_by_one_and_by_three_processes_and_after_an_interruption(tmp_path, weights):
    folder, plan = as_folder(tmp_path / "train"), CropPlan(crops=2, shard=2, batch=60)
    (tmp_path / "three").mkdir()
    write_imagenet_codes(VQ, weights, folder, tmp_path / "one.npz", CPU, DATA, plan)
    passes = run_processes(3, encoded_by, weights, folder, tmp_path / "three/codes.npz", plan)
    assert passes == [2 + 2, 2 + 1, 2]  # five shards of nine images, taken in turn
    one, three = tmp_path / "one.npz", tmp_path / "three/codes.npz"
    assert one.read_bytes() == three.read_bytes()
    three.unlink()
    found = outcomes(3, encoded_by, weights, folder, three, plan, 0)
    assert "interrupted" in found[0][1]
    assert not three.exists()
    left = {path.name for path in (tmp_path / "three/codes.shards").glob("*.npz")}
    assert "000000.npz" in left
    assert "000003.npz" not in left
    passes = run_processes(3, encoded_by, weights, folder, three, plan)
    assert sum(passes) == 9 - sum(2 if name < "000004" else 1 for name in left)
    assert one.read_bytes() == three.read_bytes()


def test_the_unfinished_shard_that_a_killed_process_left_is_no_shard(tmp_path, weights, monkeypatch):
    """A process that is not the leader writes under its process number, which no later lease removes."""
    folder, output, plan = as_folder(tmp_path / "train"), tmp_path / "codes.npz", CropPlan(crops=2, shard=4)
    write_imagenet_codes(VQ, weights, folder, tmp_path / "straight.npz", CPU, DATA, plan)
    save = token_codes.save_npz

    def is_killed(path, arrays):
        if path.stem == "000001":
            path.with_name(f".{path.name}.4711.tmp.npz").write_bytes(b"PK")
            raise KeyboardInterrupt
        save(path, arrays)

    monkeypatch.setattr(token_codes, "save_npz", is_killed)
    with pytest.raises(KeyboardInterrupt):
        write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, plan)
    monkeypatch.undo()
    write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, plan)
    assert output.read_bytes() == (tmp_path / "straight.npz").read_bytes()


def test_a_shard_that_has_gone_is_noticed(tmp_path, weights, monkeypatch):
    folder, output = as_folder(tmp_path / "train"), tmp_path / "codes.npz"
    wait = World.wait

    def loses_one(world):
        (tmp_path / "codes.shards/000001.npz").unlink()
        wait(world)

    monkeypatch.setattr(World, "wait", loses_one)
    with pytest.raises(ArtuneError, match=r"codes.shards: a shard has gone; run the same command again"):
        write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, CropPlan(shard=2))
    monkeypatch.undo()
    write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, CropPlan(shard=2))
    assert len(load_codes(output, "train")[0]) == 9 * 20


@pytest.mark.parametrize(("sequences", "crops"), [(9, 1), (28, 4), (10_000, 20), (None, 20)])
def test_no_more_crops_are_encoded_than_a_training_can_use(tmp_path, weights, sequences, crops):
    for name, images in (("folder", as_folder(tmp_path / "train")), ("tars", as_tar_of_tars(tmp_path / "train.tar"))):
        plan = CropPlan(sequences=sequences)
        write_imagenet_codes(VQ, weights, images, tmp_path / f"{name}.npz", CPU, DATA, plan)
        assert len(load_codes(tmp_path / f"{name}.npz", "train")[0]) == 9 * crops


def test_images_are_decoded_by_as_many_threads_as_the_process_has(tmp_path, monkeypatch):
    asked = []
    pool = crops_module.ThreadPoolExecutor
    monkeypatch.setattr(crops_module, "ThreadPoolExecutor", lambda workers: asked.append(workers) or pool(workers))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert len(list(images(as_folder(tmp_path / "train")))) == 9
    assert asked == [3]


def test_shards_of_another_tokenizer_are_never_merged(tmp_path, weights, monkeypatch):
    folder = as_folder(tmp_path / "train")
    stop = iter([False] * 4 + [True])
    encode = token_codes.encode_crops

    def breaks(*arguments):
        if next(stop, False):
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(token_codes, "encode_crops", breaks)
    with pytest.raises(KeyboardInterrupt):
        write_imagenet_codes(VQ, weights, folder, tmp_path / "codes.npz", CPU, DATA, CropPlan(shard=2, batch=20))
    torch.manual_seed(7)
    save_module(weights, build_tokenizer(VQ, image_size=16))
    write_imagenet_codes(VQ, weights, folder, tmp_path / "codes.npz", CPU, DATA, CropPlan(shard=2, batch=20))
    write_imagenet_codes(VQ, weights, folder, tmp_path / "fresh.npz", CPU, DATA)
    assert np.array_equal(
        load_npz(tmp_path / "codes.npz")["train_codes"], load_npz(tmp_path / "fresh.npz")["train_codes"]
    )


def broken_off(monkeypatch, *arguments):
    """Let an extraction end after two shards of two images; returns a list of the crops that are encoded from then on."""
    encode, calls = token_codes.encode_crops, []

    def breaks(tokenizer, crops, *rest):
        calls.append(len(crops))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokenizer, crops, *rest)

    monkeypatch.setattr(token_codes, "encode_crops", breaks)
    with pytest.raises(KeyboardInterrupt):
        write_imagenet_codes(*arguments)
    calls[:] = [0] * 3
    return calls


@pytest.mark.parametrize("other", [False, True])
def test_an_extraction_goes_on_where_it_was_moved_to_but_never_with_other_images(tmp_path, weights, monkeypatch, other):
    (tmp_path / "old").mkdir()
    plan = CropPlan(shard=2, batch=60)
    folder, output = as_folder(tmp_path / "old/train"), tmp_path / "old/codes.npz"
    calls = broken_off(monkeypatch, VQ, weights, folder, output, CPU, DATA, plan)
    (tmp_path / "old").rename(tmp_path / "new")
    folder, output = tmp_path / "new/train", tmp_path / "new/codes.npz"
    if other:  # the same names and numbers, other pictures
        for path in folder.rglob("n*/*.*"):
            path.write_bytes(path.read_bytes() + b"\0")
    write_imagenet_codes(VQ, weights, folder, output, CPU, DATA, plan)
    assert sum(calls) == (9 if other else 9 - 4)


# -- references ---------------------------------------------------------------------------------------------------


class Means(FeatureNetwork):
    """A network whose features are the three colour means and their squares."""

    def features(self, pixels):
        means = pixels.float().mean((2, 3)) / 255
        return torch.cat([means, means.square()], dim=1)


class MeansAndSpatial(Means):
    def outputs(self, pixels):
        spatial = pixels.float()[:, :2, :2, :2].permute(0, 2, 3, 1).flatten(1)
        return {"features": self.features(pixels), "spatial": spatial}


def virtual(path, width=6, images=7, **changes):
    draw = np.random.default_rng(0)
    root = draw.normal(size=(width, width))
    arrays = {
        "arr_0": draw.integers(0, 256, (images, 8, 8, 3), dtype=np.uint8),
        "mu": draw.normal(size=width),
        "sigma": root @ root.T,
        "mu_s": draw.normal(size=4),
        "sigma_s": np.eye(4),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_the_adm_file_becomes_our_reference(tmp_path):
    arrays = virtual(tmp_path / "v.npz")
    write_adm_reference(tmp_path / "v.npz", Means(), tmp_path / "reference.npz", CPU, batch=3)
    found = load_npz(tmp_path / "reference.npz")
    assert set(found) == {
        "train/inception/mu", "train/inception/sigma", "heldout/inception/mu", "heldout/inception/sigma",
        "heldout/inception/mu_s", "heldout/inception/sigma_s", "heldout/inception/features",
    }  # fmt: skip
    for split in ("train", "heldout"):
        assert np.array_equal(found[f"{split}/inception/mu"], arrays["mu"])
        assert np.array_equal(found[f"{split}/inception/sigma"], arrays["sigma"])
    assert np.array_equal(found["heldout/inception/mu_s"], arrays["mu_s"])
    pixels = torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2)
    assert np.allclose(found["heldout/inception/features"], Means().features(pixels).numpy(), atol=1e-6)


def test_moments_of_the_rewards_own_network_stand_beside_adms(tmp_path):
    virtual(tmp_path / "v.npz")
    own = {"train/other/mu": np.arange(4.0), "train/other/sigma": np.eye(4)}
    save_npz(tmp_path / "train-other.npz", own)
    write_adm_reference(tmp_path / "v.npz", Means(), tmp_path / "r.npz", CPU, moments=tmp_path / "train-other.npz")
    found = load_npz(tmp_path / "r.npz")
    for split in ("train", "heldout"):  # both are moments of the training set, as ADM's are
        assert np.array_equal(found[f"{split}/other/mu"], own["train/other/mu"])
        assert np.array_equal(found[f"{split}/other/sigma"], own["train/other/sigma"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_an_npz_come_in_chunks(tmp_path, save):
    array = np.arange(70, dtype=np.int32).reshape(7, 10)
    save(tmp_path / "a.npz", arr_0=array)
    parts = list(npz_rows(tmp_path / "a.npz", "arr_0", 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mu_s": None}, "lacks mu_s"),
        ({"sigma": np.eye(5)}, "differ"),
        ({"mu": np.full(6, np.nan)}, "mu is not finite"),
        ({"arr_0": np.zeros((2, 8, 8, 3), np.float32)}, r"must be uint8 \[n, H, W, 3\]"),
        ({"mu": np.zeros(9), "sigma": np.eye(9)}, "moments of 9 features, but inception gives 6"),
    ],
)
def test_an_adm_file_that_does_not_fit_is_one_line(tmp_path, changes, message):
    virtual(tmp_path / "v.npz", **changes)
    with pytest.raises(ArtuneError, match=message):
        adm_reference(tmp_path / "v.npz", Means(), CPU)


def test_an_adm_file_cut_short_is_one_line(tmp_path):
    virtual(tmp_path / "v.npz")
    whole = (tmp_path / "v.npz").read_bytes()
    (tmp_path / "v.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtuneError, match="truncated or not an npz"):
        adm_reference(tmp_path / "v.npz", Means(), CPU)


def test_the_validation_reference_is_of_every_image_in_both_feature_spaces(tmp_path):
    path, output = as_folder(tmp_path / "val"), tmp_path / "reference.npz"
    write_val_reference(
        path, {"inception": MeansAndSpatial(), "other": Means()}, output, CPU, batch=4, side=16, classes=3
    )
    found = load_npz(output)
    crops = np.stack([np.asarray(centre_crop(image, 16)) for image, _ in images(path)])
    features, spatial = MeansAndSpatial().outputs(torch.from_numpy(crops).permute(0, 3, 1, 2)).values()
    for name in ("inception", "other"):
        assert np.allclose(found[f"heldout/{name}/features"], features.numpy(), atol=1e-6)
        assert np.allclose(found[f"heldout/{name}/sigma"], np.cov(features.numpy(), rowvar=False), atol=1e-6)
        assert np.allclose(found[f"heldout/{name}/mu"], features.numpy().mean(0), atol=1e-6)
    assert np.allclose(found["heldout/inception/sigma_s"], np.cov(spatial.numpy(), rowvar=False), atol=1e-3)
    assert "heldout/other/mu_s" not in found


def test_references_are_what_the_evaluation_reads(tmp_path):
    virtual(tmp_path / "v.npz")
    save_npz(tmp_path / "reference.npz", adm_reference(tmp_path / "v.npz", Means(), CPU))
    wanted = [f"heldout/inception/{key}" for key in ("mu", "sigma", "features")]
    assert set(load_npz(tmp_path / "reference.npz", *wanted)) == set(wanted)
