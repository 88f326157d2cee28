"""Assets that lie compressed: found in two folders, or fetched; whatever the way, the contents decide."""

import functools
import gzip
import hashlib
import http.server
import shutil
import threading

import pytest
import yaml
from project import ROOT

from artune.commands.arguments import parse_words
from artune.commands.context import Context
from artune.commands.inputs import data as data_command
from artune.config.registry import Registry
from artune.data.assets import check_asset, fetch_asset
from artune.errors import ArtuneError
from artune.planning.doctor import check_assets
from artune.planning.needs import asset_state, fetch_needed, needed_assets

BODY = bytes(range(256)) * 300
PACKED = "set/images-ubyte.gz"


@pytest.fixture
def packages(tmp_path):
    """A folder of packages' data sets, without data sets."""
    (tmp_path / "packages/set").mkdir(parents=True)
    return tmp_path / "packages"


@pytest.fixture
def project(tmp_path):
    """A registry with the asset ``images``, and a function that changes its line."""
    config = shutil.copytree(ROOT / "config", tmp_path / "config")

    def with_line(**changes):
        line = {"file": "set/images.bytes", "source": "the test", "license": "none", "packed": PACKED, "size": "0.1 MB",
                "sha256": hashlib.sha256(BODY).hexdigest(), "package": "a-set", "bring": True, **changes}  # fmt: skip
        known = yaml.safe_load((ROOT / "config/assets.yaml").read_text())
        (config / "assets.yaml").write_text(yaml.safe_dump({**known, "images": line}))
        return Registry("mnist", root=config)

    return with_line


@pytest.fixture
def address(tmp_path):
    """The address of a server's folder ``served``."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("place", ["packages", "data"])
def test_contents_are_unpacked_from_either_folder_whoever_compressed_them(project, packages, tmp_path, place, level):
    (tmp_path / place / "set").mkdir(parents=True, exist_ok=True)
    (tmp_path / place / PACKED).write_bytes(gzip.compress(BODY, level))
    registry, folder = project(), tmp_path / "data"
    assert asset_state(registry, "images", folder, None, packages) == "packed"
    line = check_asset(registry, "images", folder, tmp_path / "stamp.json", packages)
    assert "as published" in line
    assert (folder / "set/images.bytes").read_bytes() == BODY
    assert (tmp_path / place / PACKED).exists()  # another's file stays where it is
    assert asset_state(registry, "images", folder, None, packages) == "present"


def test_contents_that_lie_unpacked_under_the_other_name_are_taken_too(project, packages, tmp_path):
    (packages / PACKED.removesuffix(".gz")).write_bytes(BODY)
    path = fetch_asset(project(), "images", tmp_path / "data", datasets=packages)
    assert path.read_bytes() == BODY


def test_contents_are_fetched_with_their_package_removed(project, packages, address, tmp_path):
    (tmp_path / "served/x.gz").write_bytes(gzip.compress(BODY))
    registry = project(url=f"{address}/x.gz", bring=False)
    path = fetch_asset(registry, "images", tmp_path / "data", datasets=packages)
    assert path.read_bytes() == BODY
    assert not (tmp_path / "data" / PACKED).exists()


def test_three_ways_are_named_where_all_fail(project, packages, address, tmp_path):
    registry = project(url=f"{address}/gone.gz", bring=False)
    with pytest.raises(ArtuneError) as caught:
        fetch_asset(registry, "images", tmp_path / "data", datasets=packages)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "asset images: missing",
        "Debian package a-set",
        str(packages),
        "datasets in config/config.yaml",
        "404",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"other"), "contents of sha256 .*, not"),
        (gzip.compress(BODY)[:-20], "cut off"),
        (b"no package", "contents of sha256 .*, not"),
    ],
)
def test_other_contents_are_refused_and_nothing_is_left(project, packages, tmp_path, data, message):
    (packages / PACKED).write_bytes(data)
    with pytest.raises(ArtuneError, match=message) as caught:
        fetch_asset(project(), "images", tmp_path / "data", datasets=packages)
    assert str(packages / PACKED) in str(caught.value)
    assert not (tmp_path / "data/set/images.bytes").exists()


def test_a_folder_that_cannot_be_entered_holds_nothing(project, packages, address, tmp_path, monkeypatch):
    (packages / PACKED).write_bytes(gzip.compress(BODY))
    (tmp_path / "served/x.gz").write_bytes(gzip.compress(BODY))
    is_file = type(packages).is_file

    def closed(path):
        if packages in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(type(packages), "is_file", closed)
    registry = project(url=f"{address}/x.gz", bring=False)
    assert fetch_asset(registry, "images", tmp_path / "data", datasets=packages).read_bytes() == BODY


def test_a_folder_of_assets_that_cannot_be_written_is_one_line(project, packages, tmp_path):
    (packages / PACKED).write_bytes(gzip.compress(BODY))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/set").write_bytes(b"a file in the place of the folder")
    with pytest.raises(ArtuneError, match=r"images\.bytes: cannot be written") as caught:
        fetch_asset(project(), "images", tmp_path / "data", datasets=packages)
    assert "\n" not in str(caught.value)


def test_a_page_in_the_place_of_a_package_is_refused(project, packages, address, tmp_path):
    (tmp_path / "served/x.gz").write_bytes(b"<html>sign in</html>")
    registry = project(url=f"{address}/x.gz", bring=False)
    with pytest.raises(ArtuneError, match="not compressed by gzip"):
        fetch_asset(registry, "images", tmp_path / "data", datasets=packages)


def test_the_fashion_scale_needs_four_files_that_doctor_and_fetch_find_compressed(packages, tmp_path):
    registry = Registry("fashion", root=ROOT / "config")
    keys = needed_assets(registry)
    assert keys == list(registry.data.files)
    assert check_assets(registry, tmp_path / "data", packages).good is False
    for key in keys:
        (packages / registry.assets[key].packed).parent.mkdir(exist_ok=True)
        (packages / registry.assets[key].packed).write_bytes(gzip.compress(b"other"))
    assert "4 will be unpacked" in check_assets(registry, tmp_path / "data", packages).text
    problems = fetch_needed(registry, tmp_path / "data", None, packages)
    assert [problem.split(":")[0] for problem in problems] == [f"asset {key}" for key in keys]


def test_the_command_asks_for_the_stamps_of_the_files_that_the_scale_names(tmp_path):
    words = ["data", "--scale", "fashion", "--output", str(tmp_path / "data.npz")]
    for given in ([], ["--files", "one.json"]):
        arguments = parse_words([*words, *given])
        with pytest.raises(ArtuneError, match=r"--files: give the stamps of fashion_train_images, .*, in this order"):
            data_command(Context(arguments), arguments)
    stamp = tmp_path / "stamp.json"
    stamp.write_text('{"asset": "fashion_test_images", "bytes": 1, "sha256": "0"}')
    arguments = parse_words([*words, "--files", *[str(stamp)] * 4])
    with pytest.raises(ArtuneError, match="is the stamp of fashion_test_images, not of fashion_train_images"):
        data_command(Context(arguments), arguments)
