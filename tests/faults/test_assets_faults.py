"""Files from outside the project: altered, moved, linked, or another thing in their place."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import zipfile

import pytest
import torch
import yaml
from project import copy_project, snakemake
from trainings import Command

from artune.config.registry import Registry
from artune.models.policies.build import build_policy

STAMPS = "results/smoke/assets"
IMPORTED = "results/smoke/pretrained/external/weights/policy.safetensors"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Log in to continue</body></html>\n"
EMPTY = hashlib.sha256(b"").hexdigest()


def save_policy(path, seed, dtype=torch.float32):
    """Write random weights of the smoke scale's LlamaGen-B as torch saves them."""
    torch.manual_seed(seed)
    policy = build_policy(Registry("smoke").backbones["llamagen_b"])
    state = {name: torch.randn(value.shape).to(dtype) for name, value in policy.state_dict().items()}
    with open(path, "wb") as handle:  # the names inside a file do not follow its own
        torch.save({"model": state}, handle)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder with released files: two policies of the same size in bytes, and pictures of two classes."""
    folder = tmp_path_factory.mktemp("released")
    for seed, name in enumerate(("weights.pt", "other.pt")):
        save_policy(folder / name, seed)
    for synset in ("n01440764", "n01443537"):
        (folder / "pictures" / synset).mkdir(parents=True)
        (folder / "pictures" / synset / f"{synset}_1.JPEG").write_bytes(b"\xff\xd8\xff" + synset.encode() * 100)
    assert (folder / "weights.pt").stat().st_size == (folder / "other.pt").stat().st_size
    return folder


@pytest.fixture
def outside(tmp_path, released):
    """A project with two external files: ``weights`` of a policy, and a folder of ``pictures``."""
    folder = copy_project(tmp_path)
    for path, further in (
        ("assets.yaml", {"weights": {"file": "weights.pt"}, "pictures": {"file": "pictures"}}),
        ("experiments.yaml", {"released": {"backbone": "llamagen_b", "method": "external", "checkpoint": "weights"}}),
    ):
        file = folder / "config" / path
        if path == "assets.yaml":
            further = {
                key: value | {"source": "a test", "license": "MIT", "bring": True} for key, value in further.items()
            }
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | further, sort_keys=False))
    shutil.copytree(released, folder / "data/assets")
    return folder


def check(folder, key="weights", status=0):
    """Check an asset as the rule does; returns the last line."""
    done = Command(folder, "asset", key, "--output", f"{STAMPS}/{key}.json").wait()
    assert done.status == status, done.text
    return done.line


def take(folder, status=0):
    """Import the weights as the rule does; returns the last line."""
    words = ("external_policy", "llamagen_b", "--asset", "weights")
    done = Command(folder, *words, "--data", f"{STAMPS}/weights.json", "--output", IMPORTED).wait()
    assert done.status == status, done.text
    assert (folder / IMPORTED).exists() == (status == 0)
    return done.line


def cell(line, folder):
    """A line for the page: without the folder of the test, and not longer than a cell."""
    text = line.removeprefix("error: ").replace(f"{folder}/", "")
    return text if len(text) < 170 else f"{text[:165]}..."


def flip(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def replace(path, other):
    path.write_bytes(other.read_bytes())


def rename(path, other):
    shutil.copy(other, path.with_name("new.pt"))
    path.with_name("new.pt").replace(path)


ALTERED = [
    ("A byte of a checkpoint is altered after its check", flip),
    ("A checkpoint is overwritten by another of the same size after its check", replace),
    ("Another checkpoint of the same size is renamed over a checked one", rename),
]


@pytest.mark.parametrize(("what", "alter"), ALTERED, ids=["flip", "replace", "rename"])
def test_altered(outside, released, what, alter, fault):
    """A checkpoint is altered after its check"""
    check(outside)
    path = outside / "data/assets/weights.pt"
    times = path.stat()
    alter(path, released / "other.pt")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    line = take(outside, status=2)
    assert "weights.pt" in line
    assert "is no longer what was checked" in line
    shutil.copy(released / "weights.pt", path)
    take(outside)
    fault.fault = what
    fault.done = "`weights.pt` altered between `artune asset` and `artune external_policy`, its size and time as before"
    fault.happened = f"status 2: “{cell(line, outside)}”; with the checked file back it was imported"
    fault.lost = "nothing"


def test_image_altered(outside, fault):
    """An image of a data set is altered after its check"""
    check(outside, "pictures")
    path = outside / "data/assets/pictures/n01440764/n01440764_1.JPEG"
    times = path.stat()
    flip(path, None)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    words = ("--data", f"{STAMPS}/pictures.json", "--networks", "n", "--output", "reference.npz")
    done = Command(outside, "further_reference", *words).wait()
    assert done.status == 2, done.text
    assert "holds a file of another content" in done.line
    fault.done = "a byte of one JPEG of a folder altered, its size and time as before, then `artune further_reference`"
    fault.happened = f"status 2: “{cell(done.line, outside)}”"
    fault.lost = "nothing"


def torch_in_zip(path, released):
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(released / "weights.pt", "weights.pt")


def cut(path, released):
    path.write_bytes((released / "weights.pt").read_bytes()[:-100])


def preallocated(path, released):
    path.write_bytes(bytes((released / "weights.pt").stat().st_size))
    path.with_name("weights.pt.aria2").write_bytes(b"state")


def browser(path, released):
    path.unlink()
    path.with_name("weights.pt.crdownload").write_bytes((released / "weights.pt").read_bytes()[:-100])


def bytes_of(content):
    return lambda path, released: path.write_bytes(content)


IN_PLACE = {
    "The page of a login lies in the place of weights": (bytes_of(PAGE), "HTML page"),
    "A pointer of Git LFS lies in the place of weights": (
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:4665e0f\nsize 1402012345\n"),
        "git lfs pull",
    ),
    "An XML error of a store lies in the place of weights": (
        bytes_of(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
        "XML answer",
    ),
    "A JSON error of a server lies in the place of weights": (bytes_of(b'{"error": "not found"}'), "JSON answer"),
    "The file of weights is empty": (bytes_of(b""), "empty"),
    "The file of weights is a zip archive around them": (torch_in_zip, "a zip archive of other files"),
    "The file of weights is cut off": (cut, "not a whole torch file"),
    "A download of weights by aria2 is unfinished, its full size allocated": (preallocated, "unfinished download"),
    "A browser's download of weights is unfinished": (browser, "weights.pt.crdownload"),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_in_the_place_of_weights(outside, released, what, fault):
    """Another thing lies in the place of weights"""
    put, said = IN_PLACE[what]
    folder = outside / "data/assets"
    put(folder / "weights.pt", released)
    listed = Command(outside, "assets").wait()
    line = check(outside, status=2)
    assert said in line
    assert not (outside / STAMPS / "weights.json").exists()
    assert not (folder / "pins.json").exists()
    for file in folder.glob("weights.pt*"):
        file.unlink()
    shutil.copy(released / "weights.pt", folder)
    check(outside)
    take(outside)
    assert listed.status == 0, listed.text
    fault.fault = what
    fault.done = "`artune asset weights`, then the right file in its place and the same command"
    fault.happened = (
        f"status 2, nothing is pinned: “{cell(line, outside)}”; the right file was then checked and imported"
    )
    fault.lost = "nothing"


def test_wrong_pin(outside, fault):
    """A page was pinned as if it were the weights, by a version before these checks"""
    page = {"file": "weights.pt", "bytes": len(PAGE), "mtime_ns": 0, "published": False}
    page["sha256"] = hashlib.sha256(PAGE).hexdigest()
    (outside / "data/assets/pins.json").write_text(json.dumps({"weights": page}))
    line = check(outside, status=2)
    words = line.partition("`python -m artune ")[2].partition("`")[0].split()
    assert words
    assert Command(outside, *words).wait().status == 0
    check(outside)
    take(outside)
    fault.done = "`pins.json` with the digest of a page, and the right file in its place"
    fault.happened = f"status 2, and the line ends in the command that takes the right file: `artune {' '.join(words)}`"
    fault.lost = "nothing"


class LoginPage(http.server.BaseHTTPRequestHandler):
    """Answers every request with a page, as a service does that wants a login."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_download_of_a_page(outside, kind, fault):
    """A server sends the page of a login in place of a file"""
    path = outside / "config/assets.yaml"
    assets = yaml.safe_load(path.read_text())
    (outside / "data/assets/weights.pt").unlink()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), LoginPage) as server:
        server.kind = kind
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assets["weights"] = assets["weights"] | {
            "url": f"http://127.0.0.1:{server.server_port}/weights.pt",
            "bring": False,
        }
        path.write_text(yaml.safe_dump(assets, sort_keys=False))
        line = check(outside, status=2)
        server.shutdown()
    assert "page" in line
    assert not [file for file in (outside / "data/assets").iterdir() if file.name.startswith("weights.pt")]
    told = "and says so" if kind.startswith("text/html") else "and calls it data"
    fault.fault = f"A server sends the page of a login in place of a file, {told}"
    fault.done = f"`artune asset` on an address that answers with a page of the type {kind}"
    fault.happened = f"status 2, nothing is kept: “{cell(line, outside).replace(str(server.server_port), '8000')}”"
    fault.lost = "nothing"


@pytest.fixture
def read_only(outside):
    """The project, whose assets lie on a file system that is mounted read-only."""
    folder = outside / "data/assets"
    for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here ({done.stderr.strip()})")
    yield outside
    subprocess.run(["umount", folder], check=True)


def test_read_only(read_only, fault):
    """The external files lie on a disk that is mounted read-only"""
    check(read_only)
    check(read_only, "pictures")
    take(read_only)
    assert {path.name for path in (read_only / "data/assets").iterdir()} == {"weights.pt", "other.pt", "pictures"}
    fault.done = "`mount -o remount,ro,bind` on the folder of `assets`, then the checks and an import"
    fault.happened = "both were checked and pinned in `results/`, and the weights were imported"
    fault.lost = "nothing"


def test_read_only_download(read_only, fault):
    """A missing file would have to be downloaded to a disk that is mounted read-only"""
    line = check(read_only, "llamagen_b", status=2)
    assert "cannot be written (Read-only file system)" in line
    fault.done = "`artune asset llamagen_b`, which is missing, on such a disk"
    fault.happened = f"status 2, before anything is fetched: “{cell(line, read_only)}”"
    fault.lost = "nothing"


def test_linked_folders(outside, fault):
    """The folders of a data set's classes are links to another disk"""
    check(outside, "pictures")
    whole = json.loads((outside / STAMPS / "pictures.json").read_text())
    shutil.rmtree(outside / "results")
    (outside / "data/assets/pins.json").unlink()
    pictures, elsewhere = outside / "data/assets/pictures", outside / "another-disk"
    pictures.rename(elsewhere)
    pictures.mkdir()
    for synset in elsewhere.iterdir():
        (pictures / synset.name).symlink_to(synset)
    check(outside, "pictures")
    linked = json.loads((outside / STAMPS / "pictures.json").read_text())
    assert linked == whole
    assert linked["bytes"] > 0
    assert linked["sha256"] != EMPTY
    fault.done = "each class folder replaced by a symbolic link, then `artune asset`"
    fault.happened = "the same size and digest as without the links"
    fault.lost = "nothing"


def test_links_in_a_circle(outside, fault):
    """A folder of a data set holds a link to itself"""
    (outside / "data/assets/pictures/all").symlink_to("..")
    line = check(outside, "pictures", status=2)
    assert "a link to a folder above it" in line
    fault.done = "`ln -s .. pictures/all`, then `artune asset`"
    fault.happened = f"status 2 at once: “{cell(line, outside)}”"
    fault.lost = "nothing"


def test_empty_folder(outside, fault):
    """The folder of a data set is there and empty, as the mount point of a disk that is not mounted"""
    shutil.rmtree(outside / "data/assets/pictures")
    (outside / "data/assets/pictures/n01440764").mkdir(parents=True)
    line = check(outside, "pictures", status=2)
    assert "missing" in line
    assert "what lies there is empty" in line
    fault.done = "a folder with an empty folder in it, then `artune asset`"
    fault.happened = f"status 2: “{cell(line, outside)}”"
    fault.lost = "nothing"


def test_float8(outside, fault):
    """A checkpoint holds float8 weights"""
    path = outside / "data/assets/weights.pt"
    save_policy(path, 0, torch.float8_e4m3fn)
    check(outside)
    line = take(outside, status=2)
    assert "weights.pt" in line
    assert "(file float8_e4m3fn)" in line
    fault.done = "`weights.pt` saved in torch's float8_e4m3fn, then `artune external_policy`"
    fault.happened = f"status 2 and a line that names the tensors and their type: “{cell(line, outside)}”"
    fault.lost = "nothing"


@pytest.mark.faults
def test_moved(outside, fault):
    """The folder of the external files moves to another disk"""
    target = ("--config", "scale=smoke", "--", IMPORTED)
    snakemake(outside, *target, cores=1)
    before = (outside / IMPORTED).stat().st_mtime_ns
    (outside / "data/assets").rename(outside / "elsewhere")
    config = outside / "config/config.yaml"
    config.write_text(config.read_text().replace("assets: data/assets ", "assets: elsewhere/ "))
    planned = snakemake(outside, "-n", *target, cores=1)
    assert "rule asset:" in planned
    assert "rule external_policy:" not in planned
    snakemake(outside, *target, cores=1)
    assert (outside / IMPORTED).stat().st_mtime_ns == before
    assert "Nothing to be done" in snakemake(outside, "-n", *target, cores=1)
    fault.done = (
        "`mv data/assets elsewhere`, `assets: elsewhere/` in `config/config.yaml`, and the same call of Snakemake"
    )
    fault.happened = "the files were checked again at their new place; what was made from them stayed as it was"
    fault.lost = "nothing"


@pytest.mark.faults
def test_moved_to_another_file(outside, released, fault):
    """The folder of the external files is set to one that holds another file of the same name"""
    target = ("--config", "scale=smoke", "--", IMPORTED)
    snakemake(outside, *target, cores=1)
    (outside / "elsewhere").mkdir()
    shutil.copy(released / "other.pt", outside / "elsewhere/weights.pt")
    config = outside / "config/config.yaml"
    config.write_text(config.read_text().replace("assets: data/assets ", "assets: elsewhere "))
    refused = snakemake(outside, *target, check=False, cores=1)
    line = next(line for line in refused.splitlines() if line.startswith("error: asset weights"))
    assert "when it was first used" in line
    assert (outside / STAMPS / "weights.json").exists()
    assert "Traceback" not in refused
    words = line.partition("`python -m artune ")[2].partition("`")[0].split()
    assert Command(outside, *words).wait().status == 0
    assert "rule external_policy:" in snakemake(outside, "-n", *target, cores=1)
    snakemake(outside, *target, cores=1)
    assert "Nothing to be done" in snakemake(outside, "-n", *target, cores=1)
    fault.done = "`assets: elsewhere` in `config/config.yaml`, and the same call of Snakemake"
    fault.happened = (
        "the check refuses the file and names the command that takes it; after that command the import and what follows "
        "it are made again"
    )
    fault.lost = "nothing: no result mixes the two files"
