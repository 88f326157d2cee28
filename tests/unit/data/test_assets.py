"""Files from outside: fetched from a real HTTP server on the loopback interface, checked, pinned and listed."""

import errno
import hashlib
import http.server
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile

import pytest
import yaml
from project import ROOT

from artune.config.registry import Registry
from artune.data import download as module
from artune.data.assets import check_asset, fetch_asset, find_asset, read_pins
from artune.data.download import download
from artune.errors import ArtuneError
from artune.planning.needs import asset_users, assets_table, fetch_needed, needed_assets


def archive_of(size):
    """A zip archive of ``size`` bytes that is, by its members, both a torch file and an npz."""

    def packed(filler):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("weights/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr("arr_0.npy", b"")
            archive.writestr("weights/data/0", filler)
        return buffer.getvalue()

    return packed((bytes(range(256)) * (size // 256))[: size - len(packed(b""))])


BODY = archive_of(3_072_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.body``; ``server.cuts`` are the bytes after which the next connections break."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append((self.path, asked))
        if self.path in server.answers:
            status, headers = server.answers[self.path]
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        matches = self.headers.get("If-Range", server.etag) == server.etag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges and matches else 0
        if asked and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(server.body[start : None if cut is None else start + cut])
        self.close_connection = True


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.body, found.cuts, found.seen, found.answers, found.ranges, found.etag = BODY, [], [], {}, True, '"one"'
        found.url = f"http://127.0.0.1:{found.server_port}/file.pt"
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole_and_nothing_else_is_left(server, tmp_path):
    assert download(server.url, tmp_path / "deep" / "a.pt", DIGEST) == DIGEST
    assert (tmp_path / "deep" / "a.pt").read_bytes() == BODY
    assert left(tmp_path / "deep") == ["a.pt"]


def test_a_cut_connection_is_gone_on_with(server, tmp_path):
    server.cuts = [1_000_000, 0, 1_500_000]
    assert download(server.url, tmp_path / "a.pt", DIGEST, pause=0.0) == DIGEST
    starts = [asked for _, asked in server.seen]
    assert starts[0] is None
    assert all(asked.startswith("bytes=9") for asked in starts[1:3])  # at most one chunk of the first million is lost
    assert (tmp_path / "a.pt").read_bytes() == BODY


def test_a_later_call_goes_on_with_the_part(server, tmp_path):
    server.cuts = [2_000_000, 0, 0]
    with pytest.raises(ArtuneError, match="run again to continue from") as caught:
        download(server.url, tmp_path / "a.pt", DIGEST, attempts=2, pause=0.0)
    assert "\n" not in str(caught.value)
    kept = (tmp_path / "a.pt.part").stat().st_size
    assert 0 < kept <= 2_000_000
    assert not (tmp_path / "a.pt").exists()
    server.seen.clear()
    download(server.url, tmp_path / "a.pt", DIGEST)
    assert server.seen == [("/file.pt", f"bytes={kept}-")]
    assert (tmp_path / "a.pt").read_bytes() == BODY


def test_a_part_that_is_whole_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.pt.part").write_bytes(BODY)
    (tmp_path / "a.pt.part.tag").write_text('"one"')
    assert download(server.url, tmp_path / "a.pt", DIGEST) == DIGEST
    assert server.seen == [("/file.pt", f"bytes={len(BODY)}-")]


def test_a_part_of_another_file_is_begun_anew(server, tmp_path):
    (tmp_path / "a.pt.part").write_bytes(b"old" * 1000)
    (tmp_path / "a.pt.part.tag").write_text('"zero"')
    assert download(server.url, tmp_path / "a.pt") == DIGEST


def test_a_part_longer_than_the_file_is_begun_anew(server, tmp_path):
    (tmp_path / "a.pt.part").write_bytes(BODY + b"more")
    (tmp_path / "a.pt.part.tag").write_text('"one"')
    assert download(server.url, tmp_path / "a.pt", pause=0.0) == DIGEST


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, tmp_path):
    server.ranges, server.cuts = False, [1_000_000]
    assert download(server.url, tmp_path / "a.pt", DIGEST, pause=0.0) == DIGEST
    assert server.seen[1][1] is not None


def test_a_server_without_etag_is_read_from_the_start(server, tmp_path):
    server.etag, server.cuts = "", [1_000_000]
    assert download(server.url, tmp_path / "a.pt", DIGEST, pause=0.0) == DIGEST
    assert [asked for _, asked in server.seen] == [None, None]


def test_a_wrong_digest_is_removed_and_said(server, tmp_path):
    with pytest.raises(ArtuneError, match=f"has sha256 {DIGEST}, not 00ff"):
        download(server.url, tmp_path / "a.pt", "00ff" * 16)
    assert left(tmp_path) == []


def test_a_published_prefix_is_enough(server, tmp_path):
    assert download(server.url, tmp_path / "a.pt", DIGEST[:8]) == DIGEST


@pytest.mark.parametrize(("status", "hint"), [(404, "moved"), (403, "account"), (410, "fetch it yourself")])
def test_a_refusal_is_one_line_at_once(server, tmp_path, status, hint):
    server.answers["/file.pt"] = (status, {})
    with pytest.raises(ArtuneError, match=f"answers {status} .*{hint}"):
        download(server.url, tmp_path / "a.pt")
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again(server, tmp_path, monkeypatch):
    server.answers["/file.pt"] = (503, {})
    monkeypatch.setattr(module.time, "sleep", lambda seconds: server.answers.clear())
    assert download(server.url, tmp_path / "a.pt") == DIGEST


def test_nobody_listening_is_one_line(tmp_path):
    with pytest.raises(ArtuneError, match=r"connection to 127.0.0.1 failed 2 times"):
        download("http://127.0.0.1:1/a.pt", tmp_path / "a.pt", attempts=2, pause=0.0)


def test_redirects_are_followed(server, tmp_path):
    server.answers["/here"] = (302, {"Location": "/file.pt"})
    assert download(server.url.replace("file.pt", "here"), tmp_path / "a.pt") == DIGEST


@pytest.mark.parametrize("target", ["file:///etc/hostname", "http://example.invalid/a.pt", "ftp://127.0.0.1/a.pt"])
def test_redirects_to_anything_but_https_are_refused(server, tmp_path, target):
    server.answers["/here"] = (302, {"Location": target})
    with pytest.raises(ArtuneError, match="not https"):
        download(server.url.replace("file.pt", "here"), tmp_path / "a.pt")


@pytest.mark.parametrize("url", ["http://example.invalid/a.pt", "file:///etc/hostname", "/etc/hostname"])
def test_only_https_is_fetched(tmp_path, url):
    with pytest.raises(ArtuneError, match="not https"):
        download(url, tmp_path / "a.pt")


def test_endless_redirects_end(server, tmp_path):
    server.answers["/here"] = (302, {"Location": "/here"})
    with pytest.raises(ArtuneError, match="redirects"):
        download(server.url.replace("file.pt", "here"), tmp_path / "a.pt")


def test_a_disk_that_fills_up_is_one_line_and_the_part_stays(server, tmp_path):
    """A separate process downloads under a real limit on the size of a file; without the limit, the transfer resumes."""
    code = (
        "import sys, pathlib\nfrom artune.data.download import download\nfrom artune.errors import ArtuneError\n"
        "try:\n    download(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "except ArtuneError as error:\n    sys.exit(f'{error}')\n"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    path = tmp_path / "a.pt"
    done = subprocess.run(
        [sys.executable, "-c", code, server.url, str(path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("a.pt: disk full while writing")
    assert "Traceback" not in done.stderr
    assert download(server.url, path, DIGEST) == DIGEST
    assert server.seen[-1][1].startswith("bytes=")


def test_no_space_left_while_writing_is_called_a_full_disk(server, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_append", refuse)
    with pytest.raises(ArtuneError, match=r"disk full while writing .*make room"):
        download(server.url, tmp_path / "a.pt")


def test_a_disk_too_small_is_said_before_the_transfer(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(ArtuneError, match=r"5 bytes free, 3,072,000 are needed"):
        download(server.url, tmp_path / "a.pt")


# -- the registry's assets ----------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, server):
    """The project's configuration with two assets on the loopback server: ``free`` publishes no digest, ``signed`` does."""
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    common = {"source": "the test", "license": "MIT"}
    assets = {
        "free": {"file": "free.pt", **common},
        "signed": {"file": "deep/signed.pt", **common, "sha256": DIGEST},
        "gated": {"file": "gated/folder", **common},
    }
    assets["free"] |= {"url": server.url}
    assets["signed"] |= {"url": server.url, "size": "3 MB"}
    assets["gated"] |= {"bring": True}
    known = yaml.safe_load((config / "assets.yaml").read_text())
    (config / "assets.yaml").write_text(yaml.safe_dump({**known, **assets}))
    return Registry("imagenet", root=config), tmp_path / "data"


def test_a_missing_asset_is_fetched_checked_and_stamped(project, tmp_path):
    registry, folder = project
    line = check_asset(registry, "signed", folder, tmp_path / "signed.json")
    assert "as published" in line
    stamp = json.loads((tmp_path / "signed.json").read_text())
    assert stamp["sha256"] == DIGEST
    assert (folder / "deep/signed.pt").read_bytes() == BODY


def test_an_asset_that_is_there_is_not_fetched(project, server):
    registry, folder = project
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/signed.pt").write_bytes(BODY)
    fetch_asset(registry, "signed", folder)
    assert server.seen == []


def test_an_asset_with_a_wrong_digest_is_refused_and_kept(project):
    registry, folder = project
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/signed.pt").write_bytes(b"other")
    with pytest.raises(ArtuneError, match=f"not {DIGEST}; delete it"):
        fetch_asset(registry, "signed", folder)
    assert "signed" not in read_pins(folder)


def test_a_file_without_published_digest_is_pinned_on_first_use(project, tmp_path):
    registry, folder = project
    assert "pinned on first use" in check_asset(registry, "free", folder, tmp_path / "free.json")
    assert read_pins(folder)["free"]["sha256"] == DIGEST
    (folder / "free.pt").write_bytes(b"replaced")
    with pytest.raises(ArtuneError, match=f"but {DIGEST} when it was first used") as caught:
        check_asset(registry, "free", folder, tmp_path / "free.json")
    assert str(folder / "pins.json") in str(caught.value)
    assert read_pins(folder)["free"]["sha256"] == DIGEST


def test_what_must_be_brought_is_asked_for_with_its_path(project):
    registry, folder = project
    with pytest.raises(ArtuneError, match=r"gated: missing; get gated/folder from the test .*put it at") as caught:
        fetch_asset(registry, "gated", folder)
    assert str(folder / "gated/folder") in str(caught.value)


def test_a_folder_is_pinned_by_its_listing_and_may_be_a_tar(project):
    registry, folder = project
    (folder / "gated/folder/n01").mkdir(parents=True)
    (folder / "gated/folder/n01/a.png").write_bytes(b"12345")
    fetch_asset(registry, "gated", folder)
    assert read_pins(folder)["gated"]["bytes"] == 5
    (folder / "gated/folder/n01/b.png").write_bytes(b"1")
    with pytest.raises(ArtuneError, match="when it was first used"):
        fetch_asset(registry, "gated", folder)
    shutil.rmtree(folder / "gated/folder")
    (folder / "gated/folder.tar").write_bytes(b"tar")
    assert find_asset(registry, "gated", folder) == folder / "gated/folder.tar"


def rows(registry, folder):
    lines = assets_table(registry, folder).splitlines()
    return {line.split()[0]: line for line in lines}


def test_the_table_tells_present_missing_part_and_wrong(project):
    registry, folder = project
    assert " missing  published " in rows(registry, folder)["signed"]
    assert " ~3 MB " in rows(registry, folder)["signed"]
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/signed.pt.part").write_bytes(BODY[:10])
    assert " in part " in rows(registry, folder)["signed"]
    (folder / "deep/signed.pt").write_bytes(BODY)
    assert " present " in rows(registry, folder)["signed"]
    (folder / "deep/signed.pt").write_bytes(b"other")
    assert " wrong digest " in rows(registry, folder)["signed"]
    assert "pinned" not in rows(registry, folder)["free"]
    fetch_asset(registry, "free", folder)
    assert " present " in rows(registry, folder)["free"]
    assert " pinned on first use " in rows(registry, folder)["free"]
    (folder / "free.pt").write_bytes(b"replaced")
    assert " wrong digest " in rows(registry, folder)["free"]
    assert f"-> {folder / 'imagenet/train'}" in assets_table(registry, folder)


def test_every_asset_says_how_it_is_had():
    registry = Registry("imagenet", root=ROOT / "config")
    for key, asset in registry.assets.items():
        assert bool(asset.url) != asset.bring, key
        assert not asset.url or asset.url.startswith("https://"), key
        assert asset.size, key


def test_every_asset_names_the_rule_that_needs_it_or_what_else_it_serves():
    registry = Registry("imagenet", root=ROOT / "config")
    for key, rules in asset_users(registry).items():
        assert bool(rules) != bool(registry.assets[key].optional), key


def test_the_paper_scale_needs_what_its_rules_read_and_the_mnist_scale_nothing():
    needed = needed_assets(Registry("imagenet", root=ROOT / "config"))
    assert {"llamagen_b", "llamagen_l", "llamagen_xl", "vq_ds16_c2i", "taming_cin", "vapi_xl", "inception",
            "clip_vit_l_14", "hps_v2_1", "maniqa_koniq10k", "adm_virtual", "imagenet"} <= set(needed)  # fmt: skip
    # No run uses these files.
    assert not {"adm_samples", "llamagen_xxl", "llamagen_3b", "clip_vit_b_32", "hps_v2_0"} & set(needed)
    assert needed_assets(Registry("mnist", root=ROOT / "config")) == []


def test_a_run_on_a_backbone_or_network_that_is_only_known_makes_its_file_needed(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    lines = tmp_path / "config/experiments.yaml"
    lines.write_text(
        lines.read_text() + "llamagen_3b-ours: {backbone: llamagen_3b, method: grpo, rewards.networks.hps: hps_v2_0}\n"
    )
    needed = needed_assets(Registry("imagenet", root=tmp_path / "config"))
    assert {"llamagen_3b", "hps_v2_0"} <= set(needed)
    assert "llamagen_xxl" not in needed


def test_fetching_what_is_needed_goes_on_after_a_failure(tmp_path, server):
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    assets = yaml.safe_load((config / "assets.yaml").read_text())
    assets = {key: {**asset, "url": server.url} if "url" in asset else asset for key, asset in assets.items()}
    for asset in assets.values():
        asset.pop("sha256_prefix", None)
        asset.pop("size", None)
    assets["llamagen_b"]["url"] = server.url.replace("file.pt", "gone")
    server.answers["/gone"] = (404, {})
    (config / "assets.yaml").write_text(yaml.safe_dump(assets, sort_keys=False))
    problems = fetch_needed(Registry("imagenet", root=config), tmp_path / "data")
    wrong = ["inception", "clip_vit_l_14", "clip_vit_l_14_336", "maniqa_koniq10k"]  # the digests of these are published
    assert [line.split(":")[0] for line in problems] == [f"asset {key}" for key in ("llamagen_b", *wrong)]
    assert (tmp_path / "data/c2i_L_256.pt").read_bytes() == BODY


def test_the_whole_digests_of_inception_and_maniqa_are_those_that_public_sources_quote():
    """Inception's first eight digits are in the name that its source gave the file."""
    assets = Registry("imagenet", root=ROOT / "config").assets
    assert assets["inception"].sha256 == "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    assert assets["inception"].sha256[:8] in assets["inception"].file
    assert assets["maniqa_koniq10k"].sha256 == "a207f8ab57322e6be38ff5c8d019301dc032b454bef21c3c9f9dbf7974eebff6"
