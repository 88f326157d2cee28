"""Outputs that are links or no files, and file systems that refuse what is not needed to write a file."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from artune.errors import ArtuneError
from artune.runtime import fence
from artune.runtime.chunks import Chunks
from artune.runtime.files import move, remove_folder, replacing, write_text
from artune.runtime.lease import FILE, lease
from artune.runtime.places import REFUSED, destination
from artune.runtime.resume import give_back, keep, load_state
from artune.tracking.run_logger import RunLogger


def make(kind, path):
    """Put something else than a regular file at ``path``."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root may make a device")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a socket", "a device"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, monkeypatch, kind, linked):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    there = Path("there")
    make(kind, there)
    output = Path("output") if linked else there
    if linked:
        output.symlink_to(there)
    before = there.lstat()
    with pytest.raises(ArtuneError, match=rf"^{output}: is {kind}, and an output is a regular file"):
        write_text(output, "text")
    assert there.lstat() == before
    assert output.is_symlink() == linked
    assert sorted(os.listdir()) == sorted({"there", str(output)})


@pytest.mark.parametrize("chain", [1, 3])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists, chain):
    """The temporary file lies beside the file that the links lead to, so that the rename stays on one disk."""
    disk, folder = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    folder.mkdir()
    if exists:
        (disk / "weights").write_text("old")
    (folder / "0").symlink_to("../disk/weights")
    for number in range(1, chain):
        (folder / str(number)).symlink_to(str(number - 1))
    link = folder / str(chain - 1)
    with replacing(link) as temporary:
        assert temporary.parent == disk
        temporary.write_text("new")
    assert link.is_symlink()
    assert (disk / "weights").read_text() == "new"
    assert os.listdir(disk) == ["weights"]


def test_links_that_lead_nowhere_are_refused(tmp_path):
    circle, lost = tmp_path / "circle", tmp_path / "lost"
    circle.symlink_to(circle)
    lost.symlink_to(tmp_path / "unmounted/weights")
    with pytest.raises(ArtuneError, match=r"circle: cannot be written \(its links lead in a circle\)"):
        write_text(circle, "")
    with pytest.raises(ArtuneError, match=r"lost: is a link to .*/unmounted/weights, whose folder does not exist"):
        write_text(lost, "")
    assert not (tmp_path / "unmounted").exists()  # it may be a disk that is not mounted at present


def test_the_other_writers_follow_links_and_refuse_too(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    source = tmp_path / "source"
    source.write_text("moved")
    move(source, link)
    assert link.is_symlink()
    assert target.read_text() == "moved"
    keep(tmp_path, "identity", [link])
    target.unlink()  # as Snakemake does, apart from the link itself
    assert give_back(tmp_path, "identity", [link])
    assert link.is_symlink()
    assert target.read_text() == "moved"
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ArtuneError, match=r"metrics\.jsonl: is a named pipe"):
        RunLogger(tmp_path).resume(0)
    os.mkfifo(tmp_path / "state-000003-0123456789abcdef.pt")
    with pytest.raises(ArtuneError, match=r"state-000003-0123456789abcdef\.pt: is a named pipe"):
        load_state(tmp_path, "config")


def test_of_a_linked_folder_only_the_contents_are_removed(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "sampling"
    (disk / "chunks/inner").mkdir(parents=True)
    (disk / "state").write_text("")
    folder.symlink_to(disk)
    remove_folder(folder)
    assert folder.is_symlink()
    assert list(disk.iterdir()) == []
    (disk / "chunk").write_text("")
    Chunks(folder, "work").remove()
    assert list(disk.iterdir()) == []


def test_a_new_holder_removes_unfinished_files_beside_a_links_target_and_no_others(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    folder.mkdir()
    (folder / "policy.pt").symlink_to(disk / "policy.pt")
    stale, others = (disk / f".{name}.{'0' * 32}.tmp.pt" for name in ("policy.pt", "policy.pt2"))
    stale.touch()
    others.touch()  # the unfinished file of another run that keeps its weights in the same folder
    fence.sweep(folder, "f" * 32)
    assert not stale.exists()
    assert others.exists()


def refusing(call, number, when=lambda *arguments: True):
    """``call`` that fails with an error number where ``when`` says so."""

    def failing(*arguments, **further):
        if when(*arguments):
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return call(*arguments, **further)

    return failing


def is_folder(handle):
    return stat.S_ISDIR(os.fstat(handle).st_mode)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_synced_keeps_the_file(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number, is_folder))
    write_text(tmp_path / "file", "written")
    assert (tmp_path / "file").read_text() == "written"


def test_a_folder_that_cannot_be_read_keeps_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refusing(os.open, errno.EACCES, lambda path, *rest: os.path.isdir(path)))
    write_text(tmp_path / "file", "written")
    assert (tmp_path / "file").read_text() == "written"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("of_a_folder", [False, True])
def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch, number, of_a_folder):
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number, lambda handle: is_folder(handle) == of_a_folder))
    with pytest.raises(ArtuneError, match=rf"file: cannot be written \({os.strerror(number)}\)"):
        write_text(tmp_path / "file", "written")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
@pytest.mark.parametrize("call", ["chmod", "utime", "link", "fsync"])
def test_a_file_system_without_permissions_times_links_or_sync_takes_files(tmp_path, monkeypatch, call, number):
    if (call, number) == ("fsync", errno.EPERM):
        number = errno.EINVAL
    monkeypatch.setattr(os, call, refusing(getattr(os, call), number))
    write_text(tmp_path / "file", "written")
    source = tmp_path / "source"
    source.write_text("moved")
    move(source, tmp_path / "moved")
    with lease(tmp_path / "run", "train"):
        assert (tmp_path / "run" / FILE).read_bytes()
        write_text(tmp_path / "run/file", "written")
    assert os.listdir(tmp_path / "run") == ["file"]
    assert (tmp_path / "moved").read_text() == "moved"
    assert sorted(os.listdir(tmp_path)) == ["file", "moved", "run"]


def test_without_hard_links_a_second_holder_is_kept_out_and_a_silent_one_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refusing(os.link, REFUSED[0]))
    with lease(tmp_path, "train", every=0.05):
        with (
            pytest.raises(ArtuneError, match=r"held by process \d+ on .* \(train since"),
            lease(tmp_path, "x", 0.05, 2),
        ):
            pass
        assert b'"work": "train"' in (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b"")  # a process died between creating its lease and writing it
    with lease(tmp_path, "train", every=0.05, missed=3):
        assert b'"work": "train"' in (tmp_path / FILE).read_bytes()
    assert os.listdir(tmp_path) == []


def test_an_ordinary_path_is_its_own_destination(tmp_path):
    assert destination(tmp_path / "file") == tmp_path / "file"
    assert destination("relative/file") == Path("relative/file")
    with pytest.raises(ArtuneError, match="cannot be written"):
        destination("a\0b")
