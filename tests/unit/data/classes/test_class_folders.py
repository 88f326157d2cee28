"""Class indices of data sets: by synset id, by the file that maps other names, or refused."""

import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from project import ROOT

from artune.config.yaml_layers import read_yaml
from artune.data.classes.folders import ClassNames, class_file, imagenet_synsets
from artune.data.imagenet import open_split
from artune.errors import ArtuneError
from artune.planning.plan import Plan

SPRINGER, TENCH, GOLDFISH = "n02102040", "n01440764", "n01443537"  # classes 217, 0 and 1


def png():
    data = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


PNG = png()


def as_folder(path, members):
    for name in members:
        (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "set" / name).write_bytes(PNG)
    return path / "set"


def add(archive, name, data=PNG):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def as_tar(path, members):
    with tarfile.open(path / "set.tar", "w") as archive:
        for name in members:
            add(archive, name)
    return path / "set.tar"


def as_tar_of_tars(path, members):
    inside = {}
    for name in members:
        folder, _, image = name.rpartition("/")
        inside.setdefault(folder, []).append(image)
    with tarfile.open(path / "set.tar", "w") as archive:
        for folder, images in inside.items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as own:
                for image in images:
                    add(own, image)
            add(archive, f"{folder}.tar", inner.getvalue())
    return path / "set.tar"


LAYOUTS = {"folder": as_folder, "tar": as_tar, "tar of tars": as_tar_of_tars}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def labels(path, classes=None):
    """Image name -> class index; the images come in the order of their classes."""
    found = [(record.name.split("/")[-1].split()[-1], record.label) for record in open_split(path, classes).records()]
    assert [label for _, label in found] == sorted(label for _, label in found)
    return dict(found)


def write(path, lines):
    file = class_file(path)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def refusal(path, classes=None):
    with pytest.raises(ArtuneError) as caught:
        open_split(path, classes)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 900
    return line


def test_the_thousand_synsets_are_in_imagenets_order():
    assert list(imagenet_synsets()) == sorted(imagenet_synsets())
    assert [imagenet_synsets()[name] for name in (TENCH, GOLDFISH, SPRINGER, "n15075141")] == [0, 1, 217, 999]


@layouts
def test_a_part_of_imagenet_has_imagenets_indices(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, [f"{name}/{name}_1.png" for name in (SPRINGER, TENCH)])
    assert labels(path) == {f"{SPRINGER}_1.png": 217, f"{TENCH}_1.png": 0}
    assert open_split(path).classes == 2
    assert labels(path, classes=2) == {f"{SPRINGER}_1.png": 1, f"{TENCH}_1.png": 0}  # a data set of its own
    assert "holds 2 classes, not 1000; missing: n01443537 and 997 more" in refusal(path, 1000)


@layouts
def test_folders_with_other_names_are_refused_although_their_number_is_right(layout, tmp_path):
    # In the order of the names, as a program that only sorts would number them, all three labels would be wrong.
    path = LAYOUTS[layout](tmp_path, ["English springer/a.png", "goldfish/b.png", "tench/c.png"])
    for classes in (None, 3, 1000):
        line = refusal(path, classes)
        assert "English springer and 2 more: no synset id" in line
        assert "such as n01440764" in line
        assert f"map it in {class_file(path)}: two columns, the name and its class index or synset id" in line


@layouts
def test_numbers_as_names_are_refused_because_10_comes_before_2(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, [f"{number}/{number}.png" for number in range(12)])
    assert "0 and 11 more: no synset id" in refusal(path, 12)
    write(path, [f"{number}\t{number}" for number in range(12)])
    assert labels(path, 12) == {f"{number}.png": number for number in range(12)}


@layouts
def test_a_file_of_two_columns_maps_names_to_synsets_or_indices(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, ["English springer/a.png", "goldfish/b.png", "tench/c.png", "carp/d.png"])
    lines = ["# a comment", f"English springer\t{SPRINGER}", "goldfish 1", "", "tench/\t 0 \r", f"carp\t{GOLDFISH}"]
    write(path, lines)
    assert labels(path) == {"a.png": 217, "b.png": 1, "c.png": 0, "d.png": 1}  # two folders of one class
    assert open_split(path).classes == 3
    write(path, ["English springer\t2", "goldfish\t1", "tench\t0", "carp\t1"])
    assert labels(path, classes=3) == {"a.png": 2, "b.png": 1, "c.png": 0, "d.png": 1}
    assert "holds 3 classes, not 4" in refusal(path, 4)
    write(path, [f"English springer\t{SPRINGER}", "goldfish\t1", "tench\t0", "carp\t1"])
    assert "give an index to every name" in refusal(path, 3)


@layouts
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"tench\t{TENCH}"], "goldfish: no synset id"),
        (["tench\t0", "goldfish\t1", "shark\t2"], r"set.classes.tsv: shark: not in"),
        (["tench\t0", "goldfish\t1", "tench\t0"], "line 3: tench a second time"),
        (["tench\t0", "goldfish\t1000"], "line 2: 1000 is neither a class index 0 to 999 in the order of the sorted"),
        (["tench\t0", "goldfish\t-1"], "line 2: -1 is neither"),
        (["tench\t0", "goldfish\t1.0"], "line 2: 1.0 is neither"),
        (["tench\t0", "goldfish\t٣"], "line 2: ٣ is neither"),
        (["tench\t0", "goldfish\t" + "9" * 5000], "line 2: 999"),
        (["tench\t0", "goldfish\tn99999999"], "line 2: n99999999 is neither"),
        (["folder\tclass", "tench\t0", "goldfish\t1"], "line 1: class is neither"),
        (["tench"], "line 1: needs two columns"),
        (["tench\t"], "line 1: needs two columns"),
        (
            ["tench,0", "goldfish,1"],
            "needs two columns, a name and its class index or synset id, separated by a tab or",
        ),
    ],
)
def test_a_file_with_a_mistake_is_one_line(layout, lines, message, tmp_path):
    path = LAYOUTS[layout](tmp_path, ["goldfish/b.png", "tench/c.png"])
    write(path, lines)
    assert message in refusal(path)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    path = as_folder(tmp_path, ["tench/c.png"])
    class_file(path).write_bytes(b"tench\t0\n\xff\xfe")
    assert "cannot be read" in refusal(path)
    class_file(path).unlink()
    class_file(path).mkdir()
    assert "not a file" in refusal(path)


@layouts
def test_a_synset_that_is_not_imagenets_is_refused(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, [f"{TENCH}/a.png", "n99999999/b.png"])
    assert "n99999999: no synset id of ImageNet's 1,000 classes" in refusal(path)
    assert labels(path, 2) == {"a.png": 0, "b.png": 1}  # a data set of its own takes every synset, in sorted order


@layouts
def test_an_image_of_another_class_is_refused_unless_its_folder_is_mapped(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, [f"{TENCH}/{TENCH}_1.png", f"{TENCH}/{GOLDFISH}_2.png"])
    with pytest.raises(ArtuneError, match=f"{TENCH} holds {GOLDFISH}_2.png, whose name is that of another class"):
        labels(path)
    write(path, [f"{TENCH}\t{TENCH}"])
    assert set(labels(path).values()) == {0}


@pytest.mark.parametrize("layout", ["folder", "tar"])
def test_the_images_own_names_decide_where_folders_are_no_synsets(layout, tmp_path):
    members = [f"{TENCH}_1_{TENCH}.png", f"ILSVRC2012_val_00000293_{SPRINGER}.png"]
    path = LAYOUTS[layout](tmp_path, [f"images/{name}" for name in members])
    assert labels(path) == dict(zip(members, (0, 217), strict=True))
    (tmp_path / "flat").mkdir()
    assert labels(LAYOUTS[layout](tmp_path / "flat", members)) == dict(zip(members, (0, 217), strict=True))


@pytest.mark.parametrize("layout", ["folder", "tar"])
def test_validation_images_in_one_folder_are_refused_or_mapped_by_their_own_names(layout, tmp_path):
    members = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)]
    path = LAYOUTS[layout](tmp_path, members)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n")
    line = refusal(path)
    assert "ILSVRC2012_val_00000001.JPEG has no synset in its name and no folder; sort the images by synset" in line
    assert "ILSVRC2012_validation_ground_truth.txt are in another order" in line
    write(path, [f"{members[0]} {SPRINGER}", f"{members[1]} {TENCH}"])
    assert labels(path) == dict(zip(members, (217, 0), strict=True))


def shards(path, names, stored=(0, 1, 2), own_names=None):
    """Two shards whose labels have these names in the metadata that the datasets library writes."""
    path.mkdir()
    for number, name_list in enumerate((names, names if own_names is None else own_names)):
        table = pyarrow.table({"image": [PNG] * len(stored), "label": list(stored)})
        if name_list is not None:
            features = {"info": {"features": {"label": {"names": name_list, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        pyarrow.parquet.write_table(table, path / f"train-{number:05d}-of-00002.parquet")
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, [0, 1, 2]),
        (["tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark"], [0, 1, 2]),
        (["tench", "goldfish", "great_white_shark"], [0, 1, 2]),
        ([SPRINGER, TENCH, GOLDFISH], [217, 0, 1]),
        (["English springer", "goldfish", "tench"], [217, 1, 0]),
        (["Tench", "crane bird", "goldfish"], [0, 134, 1]),
    ],
)
def test_names_of_labels_in_parquet_shards_decide(names, expected, tmp_path):
    path = shards(tmp_path / "set", names)
    found = [record.label for record in open_split(path).records()]
    assert found == expected * 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fish", "goldfish", "tench"], "fish: its labels have a name that is not that of one class"),
        (["crane", "goldfish", "tench"], "crane: its labels"),  # the bird or the machine
        (["tench", "goldfish"], "name 2 labels, but there are 3"),
        (["tench", "tench", "goldfish"], "name 2 labels, but there are 3"),
    ],
)
def test_labels_with_other_names_are_refused_or_mapped(names, message, tmp_path):
    path = shards(tmp_path / "set", names)
    assert message in refusal(path)
    if len(set(names)) == 3:
        write(path, [f"{name}\t{index}" for name, index in zip(names, (5, 1, 0), strict=True)])
        assert [record.label for record in open_split(path).records()] == [5, 1, 0] * 2


def test_shards_that_name_their_labels_differently_are_refused(tmp_path):
    path = shards(tmp_path / "set", ["tench", "goldfish", "hen"], own_names=["goldfish", "tench", "hen"])
    assert "name their labels differently" in refusal(path)


def test_labels_without_names_can_be_mapped_by_their_numbers(tmp_path):
    path = shards(tmp_path / "set", None)
    write(path, [f"0\t{SPRINGER}", "1\t0", "2\t1"])
    assert [record.label for record in open_split(path).records()] == [217, 0, 1] * 2


def test_the_file_stands_beside_the_images(tmp_path, monkeypatch):
    for name in ("train", "train.tar", "train.parquet"):
        assert class_file(tmp_path / name) == tmp_path / "train.classes.tsv"
    path = as_folder(tmp_path, [f"{TENCH}/a.png"])
    monkeypatch.chdir(path)
    assert labels(path.relative_to(path)) == {"a.png": 0}


def test_a_change_of_the_file_is_a_change_of_the_asset(tmp_path):
    plan = Plan(
        read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet", "assets": str(tmp_path)}, ROOT / "config"
    )
    assert plan.class_files("imagenet") == []
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/train.classes.tsv").write_text("tench\t0\n")
    assert plan.class_files("imagenet") == [str(tmp_path / "imagenet/train.classes.tsv")]
    assert plan.class_files("imagenet_val") == []


def test_the_number_of_classes_is_checked_for_every_layout():
    names = ClassNames(ROOT, 4)
    names.check_number([0, 1, 2, 3, 3])
    with pytest.raises(ArtuneError, match="holds 3 classes, not 4"):
        names.check_number([0, 1, 2])


def test_a_loose_image_beside_class_folders_is_refused(tmp_path):
    path = as_folder(tmp_path, [f"{TENCH}/a.png", f"{TENCH}_1.JPEG"])
    assert f"{TENCH}_1.JPEG: an image beside class folders; move it" in refusal(path)
    (path / f"{TENCH}_1.JPEG").rename(path / "about.txt")
    assert labels(path) == {"a.png": 0}


@pytest.mark.parametrize("members", [[f"{TENCH}/images/a.png"], [f"train/{TENCH}/a.png", f"train/{GOLDFISH}/b.png"]])
def test_images_one_folder_too_deep_are_said_to_be_so(tmp_path, members):
    assert "only folders; images lie directly in the folder of their class" in refusal(as_folder(tmp_path, members))


SEVERAL = {
    "class folders": [f"train/{TENCH}/a.png", f"val/{TENCH}/b.png"],
    "synsets in the names": [f"train/{TENCH}_1.png", f"val/ILSVRC2012_val_1_{TENCH}.png"],
    "other names": ["train/tench/a.png", "val/tench/b.png"],
}


@pytest.mark.parametrize("case", SEVERAL)
def test_two_splits_in_one_tar_are_not_taken_for_one(case, tmp_path):
    name = "tench" if case == "other names" else TENCH
    (tmp_path / "set.classes.tsv").write_text("# no line\n" if name == TENCH else f"{name}\t0\n")
    path = as_tar(tmp_path, SEVERAL[case])
    if name == TENCH:
        assert f"{TENCH} lies in train and in val; pack one split alone, or map {TENCH} in" in refusal(path)
    (tmp_path / "set.classes.tsv").write_text(f"{name}\t0\n")
    assert set(labels(path).values()) == {0}


def test_two_splits_of_inner_tars_are_not_taken_for_one(tmp_path):
    path = as_tar_of_tars(tmp_path, [f"train/{TENCH}/a.png", f"val/{TENCH}/b.png"])
    assert f"{TENCH} lies in train and in val" in refusal(path)


def test_one_split_below_other_folders_is_taken(tmp_path):
    assert labels(as_tar(tmp_path, [f"./train/{TENCH}/{TENCH}_1.png", f"train/{GOLDFISH}/b.png"])) == {
        f"{TENCH}_1.png": 0,
        "b.png": 1,
    }
