"""Reads hostile files in a child process whose time and memory are measured: `python confined.py image`."""

import os
import resource
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

from project import ROOT

SECONDS, MEGABYTES = 2.0, 1024  # what reading one file may take
PATIENCE = 60  # seconds of waiting after which a file counts as endless
NAMES = {"image": "x.JPEG", "tar": "x.tar", "parquet": "x.parquet", "npz": "x.npz", "checkpoint": "x.pt",
         "safetensors": "x.safetensors"}  # fmt: skip
ADDRESSES = 12 * 2**30  # bytes of address space of the child, which protects the machine


class Confined:
    """A child process that reads files of one kind, one after another.

    Calling it with the bytes of a file returns the error's line, empty if there was none. A traceback, a time of
    :data:`SECONDS`, a peak of :data:`MEGABYTES` above the start, or the child's death is an AssertionError.
    """

    def __init__(self, kind, folder):
        self.kind, self.folder, self.child, self.name = kind, Path(folder), None, NAMES[kind]
        self.slowest, self.largest = 0.0, 0.0
        self.seconds, self.megabytes = SECONDS, MEGABYTES  # allowed for a file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child.stdin.close()
            self.child.stdout.close()
        self.child = None

    def _start(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            [sys.executable, __file__, self.kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.folder,
            env=environment,
        )  # fmt: skip
        self._answer()

    def _answer(self):
        assert select.select([self.child.stdout], [], [], PATIENCE)[0], f"{self.kind}: no end after {PATIENCE} s"
        head = self.child.stdout.read(24)
        assert len(head) == 24, f"{self.kind}: the process died ({self.child.wait()})"
        size, seconds, megabytes = struct.unpack("<Qdd", head)
        return self.child.stdout.read(size).decode(), seconds, megabytes

    def __call__(self, data):
        if self.child is None:
            self._start()
        try:
            self.child.stdin.write(struct.pack("<Q", len(data)) + data)
            self.child.stdin.flush()
            said, seconds, megabytes = self._answer()
        except (AssertionError, OSError):
            self.stop()
            raise
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, megabytes)
        assert not said.startswith("Traceback"), said
        assert "\n" not in said
        assert seconds < self.seconds, f"{seconds:.1f} s: {said}"
        assert megabytes < self.megabytes, f"{megabytes:.0f} MB: {said}"
        return said


def readers():
    """What each kind does with the path of a file; what takes its time once, at the first file, is loaded here."""
    from artune.data.classes.folders import imagenet_synsets
    from artune.data.crops import centre_crop, decode, load_images
    from artune.data.imagenet import open_split
    from artune.data.npz_images import image_rows
    from artune.models.weights.tensor_files import read_tensors
    from artune.runtime.files import load_npz

    imagenet_synsets()

    def split(path):
        for _ in load_images(open_split(path), lambda image: centre_crop(image, 64), workers=1):
            continue

    def npz(path):
        load_npz(path)
        for _ in image_rows(path, 4):
            continue

    return {
        "image": lambda path: centre_crop(decode(str(path), path.read_bytes()), 256),
        "tar": split,
        "parquet": split,
        "npz": npz,
        "checkpoint": read_tensors,
        "safetensors": read_tensors,
    }


def peak():
    """Greatest resident memory of this process since the last reset, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main(kind):
    import traceback

    from artune.errors import ArtuneError

    read, name = readers()[kind], NAMES[kind]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    source, answers, path = sys.stdin.buffer, os.dup(1), Path(name)
    os.dup2(2, 1)

    def answer(said, seconds, megabytes):
        text = said.encode()
        os.write(answers, struct.pack("<Qdd", len(text), seconds, megabytes) + text)

    answer("", 0.0, 0.0)
    while head := source.read(8):
        path.write_bytes(source.read(struct.unpack("<Q", head)[0]))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before, begin, said = peak(), time.process_time(), ""
        try:
            read(path)
        except ArtuneError as error:
            said = str(error)
        except BaseException:
            said = "Traceback" + traceback.format_exc()
        answer(said, time.process_time() - begin, peak() - before)


if __name__ == "__main__":
    main(sys.argv[1])
