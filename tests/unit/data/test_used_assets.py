"""Assets between their check and their use: altered, moved, replaced, linked, or in a folder that cannot be written."""

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile

import pytest
import yaml
from project import ROOT

from artune.config.registry import Registry
from artune.config.settings import Settings
from artune.config.yaml_layers import parse
from artune.data.assets import asset_path, check_asset, evaluation_files, fetch_asset, find_asset, verify
from artune.data.digests import alteration, measure
from artune.data.download import download
from artune.data.pins import read_pins
from artune.data.stamps import accept_asset, reading, source_path, used_path
from artune.errors import ArtuneError
from artune.planning.doctor import check_assets
from artune.planning.needs import asset_state, assets_table
from artune.planning.plan import Plan

EMPTY = hashlib.sha256(b"").hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Sign in to continue</body></html>"


def weights(filler=b"a", name="archive"):
    """The bytes of a torch file, whose contents ``filler`` decides and not their length."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}/data.pkl"), b"\x80\x02}q\x00.")
        archive.writestr(zipfile.ZipInfo(f"{name}/data/0"), filler * 3000)
    return buffer.getvalue()


def rewritten(path, content):
    """Let ``path`` hold other bytes, and have the times from before."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flipped(path):
    """Flip a bit in the middle of a file, whose size and times stay as they are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewritten(path, bytes(content))


@pytest.fixture
def world(tmp_path):
    """A registry, the folder of the assets and that of the stamps; ``free`` is a file and ``images`` a folder."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/assets.yaml"
    common = {"source": "the test", "license": "MIT", "bring": True}
    own = {
        "free": {"file": "deep/free.pt", **common}, "signed": {"file": "signed.pt", **common},
        "images": {"file": "images/train", **common},
    }  # fmt: skip
    own["signed"]["sha256"] = hashlib.sha256(weights()).hexdigest()
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | own))
    folder, stamps = tmp_path / "data", tmp_path / "results/imagenet/assets"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/free.pt").write_bytes(weights())
    (folder / "signed.pt").write_bytes(weights())
    for synset in ("n01", "n02"):
        (folder / "images/train" / synset).mkdir(parents=True)
        (folder / "images/train" / synset / "a.png").write_bytes(b"an image of " + synset.encode())
    return Registry("imagenet", root=tmp_path / "config"), folder, stamps


def checked(world, key):
    registry, folder, stamps = world
    check_asset(registry, key, folder, stamps / f"{key}.json")
    return stamps / f"{key}.json"


# --- altered after the check

FILES = {"free": "deep/free.pt", "signed": "signed.pt", "images": "images/train/n01/a.png"}


@pytest.mark.parametrize("key", FILES)
def test_a_flipped_byte_is_noticed_at_the_use_though_size_and_time_are_the_same(world, key):
    registry, folder, _ = world
    stamp = checked(world, key)
    assert used_path(registry, folder, stamp) == asset_path(registry, key, folder)
    flipped(folder / FILES[key])
    for use in (lambda: used_path(registry, folder, stamp), lambda: source_path(registry, key, folder, stamp)):
        with pytest.raises(
            ArtuneError, match=f"asset {key}: .* no longer what was checked .*assets --accept {key}"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert str(stamp) in str(caught.value)


@pytest.mark.parametrize("key", ["free", "images"])
def test_another_file_of_the_same_size_is_noticed(world, key):
    registry, folder, _ = world
    stamp, path = checked(world, key), folder / FILES[key]
    other = path.with_name("other")
    other.write_bytes(bytes(reversed(path.read_bytes())))
    shutil.copystat(path, other)
    other.replace(path)
    with pytest.raises(ArtuneError, match="no longer what was checked"):
        used_path(registry, folder, stamp)


@pytest.mark.parametrize("key", ["free", "images"])
def test_without_a_stamp_the_pin_of_the_first_use_is_compared(world, key):
    registry, folder, _ = world
    assert source_path(registry, key, folder, None) == asset_path(registry, key, folder)  # pins it
    flipped(folder / FILES[key])
    with pytest.raises(ArtuneError, match="when it was first used"):
        source_path(registry, key, folder, None)


def test_a_published_digest_is_compared_without_a_stamp(world):
    registry, folder, _ = world
    flipped(folder / "signed.pt")
    with pytest.raises(ArtuneError, match="delete it and fetch it again"):
        source_path(registry, "signed", folder, None)


def test_a_file_whose_time_alone_differs_is_taken(world):
    registry, folder, _ = world
    stamp = checked(world, "free")
    os.utime(folder / "deep/free.pt", (1, 1))
    assert used_path(registry, folder, stamp) == folder / "deep/free.pt"


def test_an_image_more_or_less_and_a_tar_in_place_of_the_folder_are_noticed(world):
    registry, folder, _ = world
    stamp = checked(world, "images")
    (folder / "images/train/n01/b.png").write_bytes(b"one more")
    with pytest.raises(ArtuneError, match="other names or sizes"):
        used_path(registry, folder, stamp)
    with tarfile.open(folder / "images/train.tar", "w") as archive:
        archive.add(folder / "images/train", "train")
    shutil.rmtree(folder / "images/train")
    with pytest.raises(ArtuneError, match="no longer what was checked"):
        used_path(registry, folder, stamp)


def test_a_large_set_is_read_again_only_where_sizes_times_or_inodes_say_so(world, monkeypatch):
    _, folder, _ = world
    for path in (folder / "deep/free.pt", folder / "images/train"):
        record = measure(path)
        monkeypatch.setattr("artune.data.digests.READ", 10)
        record = {key: value for key, value in record.items() if key != "contents"}
        monkeypatch.setattr("artune.data.digests.sha256", lambda path: pytest.fail("read"))
        assert alteration(path, record) is None
        monkeypatch.undo()
        monkeypatch.setattr("artune.data.digests.READ", 10)
        inside = path if path.is_file() else path / "n01/a.png"
        inside.write_bytes(bytes(len(inside.read_bytes())))
        os.utime(inside, (1, 1))
        assert alteration(path, record)
        monkeypatch.undo()


def test_a_stamp_of_another_asset_or_none_at_all_is_one_line(world, tmp_path):
    registry, folder, _ = world
    stamp = checked(world, "free")
    with pytest.raises(ArtuneError, match=r"free\.json: is the stamp of free, not of signed"):
        source_path(registry, "signed", folder, stamp)
    (tmp_path / "no.json").write_text('{"a": 1}')
    with pytest.raises(ArtuneError, match=r"no\.json: is not the stamp of an asset"):
        used_path(registry, folder, tmp_path / "no.json")
    assert used_path(registry, folder, tmp_path / "data.npz") == tmp_path / "data.npz"


def test_a_file_that_grows_while_it_is_read_is_noticed(world):
    _, folder, _ = world
    with reading(folder / "deep/free.pt"):
        pass
    with pytest.raises(ArtuneError, match="written to while it was read"), reading(folder / "deep/free.pt") as path:
        path.write_bytes(path.read_bytes() + b"more")


def test_the_table_notices_a_flipped_byte(world):
    registry, folder, stamps = world
    for key in FILES:
        checked(world, key)
        assert asset_state(registry, key, folder, stamps) == "present"
        flipped(folder / FILES[key])
        assert asset_state(registry, key, folder, stamps) == "wrong digest"


# --- a folder that moved, or another one


def test_a_use_reads_the_present_folder_and_not_that_of_the_check(world, tmp_path):
    registry, folder, _ = world
    stamp = checked(world, "free")
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert used_path(registry, tmp_path / "elsewhere", stamp) == tmp_path / "elsewhere/deep/free.pt"
    flipped(tmp_path / "elsewhere/deep/free.pt")
    with pytest.raises(ArtuneError, match=r"elsewhere/deep/free\.pt is no longer what was checked"):
        used_path(registry, tmp_path / "elsewhere", stamp)
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(ArtuneError, match="asset free: missing"):
        used_path(registry, tmp_path / "elsewhere", stamp)


def test_a_check_at_another_place_leaves_the_same_stamp_or_fails(world, tmp_path):
    registry, folder, _ = world
    stamp = checked(world, "images")
    before = stamp.read_bytes()
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # other times and inodes
    (tmp_path / "elsewhere/pins.json").unlink()
    check_asset(registry, "images", tmp_path / "elsewhere", stamp)
    assert stamp.read_bytes() == before
    flipped(tmp_path / "elsewhere/images/train/n01/a.png")
    (tmp_path / "elsewhere/pins.json").unlink()
    with pytest.raises(ArtuneError, match=r"when it was first used \(.*results"):
        check_asset(registry, "images", tmp_path / "elsewhere", stamp)


def test_the_plan_knows_a_stamp_of_another_place(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/assets").mkdir(parents=True)
    (tmp_path / "data/assets/c2i_B_256.pt").write_bytes(weights())
    known = yaml.safe_load((tmp_path / "config/assets.yaml").read_text())
    del known["llamagen_b"]["size"]
    (tmp_path / "config/assets.yaml").write_text(yaml.safe_dump(known))
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"scale": "imagenet"}
    plan = Plan(settings, tmp_path / "config")
    stamp = plan.asset("llamagen_b")
    assert not plan.moved(stamp)
    check_asset(plan.registry, "llamagen_b", tmp_path / "data/assets", tmp_path / stamp)
    check_asset(plan.registry, "llamagen_b", (tmp_path / "data/assets").relative_to(tmp_path), tmp_path / stamp)
    assert not plan.moved(stamp)
    assert not Plan(settings | {"assets": "data/assets/"}, tmp_path / "config").moved(stamp)
    elsewhere = Plan(settings | {"assets": "/mnt/elsewhere"}, tmp_path / "config")
    assert elsewhere.moved(stamp)
    assert elsewhere.asset_place("llamagen_b") != plan.asset_place("llamagen_b")
    assert not elsewhere.moved("results/imagenet/reference.npz")


def test_the_folder_may_be_named_from_home_or_by_a_variable(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("DATA", "/mnt/data")
    for given, meant in (("~/assets/", "/home/alice/assets"), ("$DATA/a", "/mnt/data/a"), ("${DATA}", "/mnt/data")):
        assert parse(Settings, {"scale": "smoke", "assets": given}, "config.yaml").assets == meant
    with pytest.raises(ArtuneError, match=r"\$NOWHERE is not set"):
        parse(Settings, {"scale": "smoke", "assets": "$NOWHERE/a"}, "config.yaml")


def test_an_assets_folder_that_is_a_link_is_as_good(world, tmp_path):
    registry, folder, stamps = world
    (tmp_path / "link").symlink_to(folder)
    check_asset(registry, "images", tmp_path / "link", stamps / "images.json")
    assert used_path(registry, folder, stamps / "images.json") == folder / "images/train"


# --- links and empty folders


def test_linked_synset_folders_are_measured_by_what_they_lead_to(world, tmp_path):
    registry, folder, _ = world
    plain = measure(folder / "images/train")
    (folder / "images/train").rename(tmp_path / "store")
    (folder / "images/train").mkdir()
    for synset in ("n01", "n02"):
        (folder / "images/train" / synset).symlink_to(tmp_path / "store" / synset)
    linked = measure(folder / "images/train")
    assert {key: linked[key] for key in ("bytes", "sha256", "contents")} == {
        key: plain[key] for key in ("bytes", "sha256", "contents")
    }
    assert linked["sha256"] != EMPTY
    stamp = checked(world, "images")
    assert json.loads(stamp.read_text())["bytes"] == plain["bytes"] > 0
    flipped(tmp_path / "store/n02/a.png")
    with pytest.raises(ArtuneError, match="no longer what was checked"):
        used_path(registry, folder, stamp)


def test_links_in_a_circle_and_links_to_nothing_are_one_line(world):
    registry, folder, _ = world
    (folder / "images/train/n03").symlink_to(folder / "images/train")
    with pytest.raises(ArtuneError, match="a link to a folder above it"):
        verify(registry, "images", folder)
    (folder / "images/train/n03").unlink()
    (folder / "images/train/n03").symlink_to("nowhere")
    with pytest.raises(ArtuneError, match="n03: a link that leads nowhere"):
        verify(registry, "images", folder)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: (path / "n01").mkdir(parents=True),
                                  lambda path: path.write_bytes(b""), lambda path: os.mkfifo(path),
                                  lambda path: path.symlink_to("nowhere")],
                         ids=["folder", "folder of empty folders", "file", "pipe", "link"])  # fmt: skip
@pytest.mark.parametrize("key", ["free", "images"])
def test_what_is_empty_is_missing(world, key, make):
    registry, folder, stamps = world
    path = folder / ("deep/free.pt" if key == "free" else "images/train")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)
    assert find_asset(registry, key, folder) is None
    assert asset_state(registry, key, folder, stamps) == "missing"
    with pytest.raises(ArtuneError, match=f"asset {key}: missing"):
        check_asset(registry, key, folder, stamps / f"{key}.json")
    assert key not in read_pins(folder)


def test_a_tar_beside_an_empty_folder_is_found(world):
    registry, folder, _ = world
    shutil.rmtree(folder / "images/train")
    (folder / "images/train").mkdir()
    (folder / "images/train.tar").write_bytes(b"tar")
    assert find_asset(registry, "images", folder) == folder / "images/train.tar"


# --- another thing in the place of a file


@pytest.mark.parametrize(("content", "what"), [
    (PAGE, "an HTML page"), (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "Git LFS"),
    (weights()[:-40], "not a whole torch file"), (b"any bytes", "not a whole torch file"),
])  # fmt: skip
def test_what_is_not_the_file_is_not_pinned_and_the_right_file_is_taken_later(world, content, what):
    registry, folder, stamps = world
    (folder / "deep/free.pt").write_bytes(content)
    assert asset_state(registry, "free", folder) == "wrong file"
    assert f"wrong free: {folder / 'deep/free.pt'} is " in assets_table(registry, folder)
    for _ in range(2):
        with pytest.raises(ArtuneError, match=what) as caught:
            check_asset(registry, "free", folder, stamps / "free.json")
        assert "\n" not in str(caught.value)
    assert "free" not in read_pins(folder)
    assert not (stamps / "free.json").exists()
    (folder / "deep/free.pt").write_bytes(weights())
    checked(world, "free")
    assert asset_state(registry, "free", folder, stamps) == "present"


def test_doctor_names_a_page_in_the_place_of_weights(tmp_path):
    registry = Registry("imagenet", root=ROOT / "config")
    (tmp_path / "c2i_B_256.pt").write_bytes(PAGE)
    finding = check_assets(registry, tmp_path)
    assert finding.good is False
    assert f"{tmp_path / 'c2i_B_256.pt'} is an HTML page" in finding.text


def test_a_page_that_was_pinned_is_taken_back_by_the_command_of_the_message(world):
    registry, folder, stamps = world
    page = {"free": {"file": "deep/free.pt", "bytes": len(PAGE), "mtime_ns": 0, "published": False}}
    page["free"]["sha256"] = hashlib.sha256(PAGE).hexdigest()  # as an earlier version pinned it
    (folder / "pins.json").write_text(json.dumps(page))
    with pytest.raises(ArtuneError, match="`python -m artune assets --accept free`"):
        checked(world, "free")
    accept_asset(registry, "free", folder, stamps.parents[1])
    checked(world, "free")
    assert read_pins(folder)["free"]["sha256"] == hashlib.sha256(weights()).hexdigest()


def test_accepting_another_file_renews_the_stamps_and_refuses_a_page(world):
    registry, folder, stamps = world
    stamp = checked(world, "free")
    (folder / "deep/free.pt").write_bytes(PAGE)
    with pytest.raises(ArtuneError, match="is an HTML page"):
        accept_asset(registry, "free", folder, stamps.parents[1])
    (folder / "deep/free.pt").write_bytes(weights(b"b"))
    with pytest.raises(ArtuneError, match="when it was first used"):
        check_asset(registry, "free", folder, stamp)
    accept_asset(registry, "free", folder, stamps.parents[1])
    assert json.loads(stamp.read_text())["sha256"] == hashlib.sha256(weights(b"b")).hexdigest()
    assert used_path(registry, folder, stamp) == folder / "deep/free.pt"
    check_asset(registry, "free", folder, stamp)


# --- the names of the classes, which decide the labels


def test_an_edited_map_of_classes_changes_the_stamp_and_is_noticed_at_the_use(world):
    registry, folder, _ = world
    mapping = folder / "images/train.classes.tsv"
    stamp = checked(world, "images")
    unmapped = stamp.read_bytes()
    seen = {unmapped}
    for text in ("n01\t0\nn02\t1\n", "n01\t1\nn02\t0\n", None):
        if text:
            mapping.write_text(text)
        else:
            mapping.unlink()
        for use in (lambda: used_path(registry, folder, stamp), lambda: source_path(registry, "images", folder, stamp)):
            with pytest.raises(ArtuneError, match=r"train\.classes\.tsv: is no longer what was checked .*snakemake"):
                use()
        checked(world, "images")
        assert used_path(registry, folder, stamp) == folder / "images/train"
        assert (stamp.read_bytes() in seen) == (text is None)
        seen.add(stamp.read_bytes())
    assert stamp.read_bytes() == unmapped


def test_the_plan_knows_a_moved_set_of_other_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "there"):
        (tmp_path / folder / "imagenet/train/tench").mkdir(parents=True)
        (tmp_path / folder / "imagenet/train/tench/a.JPEG").write_bytes(b"an image")
        (tmp_path / folder / "imagenet/train.classes.tsv").write_text("tench\t0\n")
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"scale": "imagenet"}
    here, there = (Plan(settings | {"assets": folder}, ROOT / "config") for folder in ("here", "there"))
    stamp = here.asset("imagenet")
    check_asset(here.registry, "imagenet", tmp_path / "here", tmp_path / stamp)
    check_asset(here.registry, "imagenet", (tmp_path / "here").relative_to(tmp_path), tmp_path / stamp)
    assert not here.moved(stamp)
    assert there.moved(stamp)
    before = here.asset_place("imagenet")
    for folder in ("here", "there"):
        (tmp_path / folder / "imagenet/train.classes.tsv").write_text("tench\t7\n")
    assert here.asset_place("imagenet") != before  # so that it is checked again
    assert not there.moved(stamp)  # so that the stamp outdates what was made with the former names


def test_a_map_of_classes_that_is_a_folder_or_a_pipe_is_one_line(world):
    registry, folder, stamps = world
    os.mkfifo(folder / "images/train.classes.tsv")
    with pytest.raises(ArtuneError, match=r"train\.classes\.tsv: a named pipe"):
        check_asset(registry, "images", folder, stamps / "images.json")


# --- accepting what no digest tells


def test_accepting_a_large_folder_of_the_same_names_and_sizes_changes_its_stamp(world, monkeypatch):
    monkeypatch.setattr("artune.data.digests.READ", 10)
    registry, folder, stamps = world
    stamp = checked(world, "images")
    texts = [stamp.read_bytes()]
    for time in (1, 2):
        flipped(folder / FILES["images"])
        os.utime(folder / FILES["images"], (time, time))
        with pytest.raises(ArtuneError, match="written to"):
            used_path(registry, folder, stamp)
        accept_asset(registry, "images", folder, stamps.parents[1])
        assert used_path(registry, folder, stamp) == folder / "images/train"
        assert stamp.read_bytes() not in texts
        texts.append(stamp.read_bytes())
        checked(world, "images")
        accept_asset(registry, "images", folder, stamps.parents[1])  # of what counts already: nothing is outdated
        assert stamp.read_bytes() == texts[-1]


# --- the size


def sized(world, size):
    registry, folder, stamps = world
    path = registry.root / "assets.yaml"
    known = yaml.safe_load(path.read_text())
    known["free"]["size"] = known["images"]["size"] = known["signed"]["size"] = size
    path.write_text(yaml.safe_dump(known))
    return Registry("imagenet", root=registry.root), folder, stamps


def test_a_file_far_from_its_known_size_is_not_pinned_unless_it_is_accepted(world):
    registry, folder, stamps = other = sized(world, "4 GB")
    for use in (lambda: checked(other, "free"), lambda: source_path(registry, "free", folder, None)):
        with pytest.raises(
            ArtuneError, match=r"free\.pt has 3,\d+ bytes, where about 4 GB .*assets --accept free"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert "free" not in read_pins(folder)
    accept_asset(registry, "free", folder, stamps.parents[1])
    assert used_path(registry, folder, checked(other, "free")) == folder / "deep/free.pt"
    checked(other, "signed")  # whose digest is published
    checked(other, "images")  # a part of a set of images is a set, too


def test_a_file_of_about_its_known_size_and_one_that_was_pinned_are_taken(world):
    registry, folder, stamps = sized(world, "0.002 MB")
    stamp = checked((registry, folder, stamps), "free")
    again = sized(world, "4 GB")
    (folder / "pins.json").unlink()
    assert checked(again, "free") == stamp


# --- a folder that cannot be written


@pytest.fixture
def read_only(world):
    """The world, whose assets are a file system that is mounted read-only."""
    registry, folder, stamps = world
    for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here ({done.stderr.strip()})")
    yield registry, folder, stamps
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("key", FILES)
def test_assets_on_a_read_only_disk_are_checked_pinned_in_the_results_and_used(read_only, key):
    registry, folder, stamps = read_only
    stamp = checked(read_only, key)
    checked(read_only, key)
    assert used_path(registry, folder, stamp) == asset_path(registry, key, folder)
    assert asset_state(registry, key, folder, stamps) == "present"
    assert not list(folder.glob("*pins*"))


def test_a_read_only_disk_whose_file_changes_is_noticed(read_only):
    registry, folder, stamps = read_only
    stamp = checked(read_only, "free")
    subprocess.run(["mount", "-o", "remount,rw,bind", folder], check=True)
    flipped(folder / "deep/free.pt")
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    with pytest.raises(ArtuneError, match="no longer what was checked"):
        used_path(registry, folder, stamp)
    with pytest.raises(ArtuneError, match="when it was first used"):
        checked(read_only, "free")
    assert asset_state(registry, "free", folder, stamps) == "wrong digest"


def test_a_download_to_a_read_only_disk_is_one_line(read_only):
    registry, folder, _ = read_only
    with pytest.raises(ArtuneError, match=r"asset llamagen_b: missing, and .* cannot be written \(Read-only") as caught:
        fetch_asset(registry, "llamagen_b", folder)
    assert "\n" not in str(caught.value)


def test_doctor_says_that_missing_files_cannot_be_fetched_to_a_read_only_disk(read_only):
    registry, folder, _ = read_only
    assert "this folder cannot be written" in check_assets(registry, folder).text


def test_scores_name_the_digests_of_what_was_used_even_if_nothing_is_pinned_beside_the_assets(world):
    registry, folder, stamps = world
    (folder / "imagenet/val/n01").mkdir(parents=True)
    (folder / "imagenet/val/n01/a.png").write_bytes(b"an image")
    stamp = checked(world, "imagenet_val")
    (folder / "pins.json").unlink()
    assert evaluation_files(registry, folder)["imagenet_val"]["sha256"] is None
    assert (
        evaluation_files(registry, folder, stamps)["imagenet_val"]["sha256"] == json.loads(stamp.read_text())["sha256"]
    )


def test_a_link_to_nothing_among_the_images_is_a_line_of_the_table_and_of_doctor(world):
    registry, folder, stamps = world
    (folder / "images/train/n00").symlink_to("nowhere")
    assert asset_state(registry, "images", folder, stamps) == "wrong file"
    assert "images/train is not readable" in assets_table(registry, folder, stamps)


# --- what a server sends


class Answer(http.server.BaseHTTPRequestHandler):
    """Sends ``server.body`` as ``server.kind``."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{found.server_port}/free.pt"
        yield found
        found.shutdown()


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/json", "application/xml"])
def test_a_page_is_refused_by_its_type_and_a_part_from_before_stays(server, tmp_path, kind):
    server.kind, server.body = kind, PAGE
    (tmp_path / "free.pt.part").write_bytes(b"begun")
    with pytest.raises(ArtuneError, match=r"answers with a page \(.*it may require an account"):
        download(server.url, tmp_path / "free.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["free.pt.part"]
    server.body = b"<p>a page that is wanted</p>"
    download(server.url.replace(".pt", ".html"), tmp_path / "free.html")


def test_a_page_that_calls_itself_data_is_refused_by_its_content(server, world):
    registry, folder, _ = world
    (folder / "deep/free.pt").unlink()
    server.kind, server.body = "application/octet-stream", PAGE
    asset = registry.assets["free"].model_copy(update={"url": server.url})
    registry.assets["free"] = asset
    with pytest.raises(ArtuneError, match=r"sent an HTML page .*not a torch file; it was removed"):
        fetch_asset(registry, "free", folder)
    assert not list((folder / "deep").iterdir())
    server.body = weights()
    assert fetch_asset(registry, "free", folder).read_bytes() == weights()
