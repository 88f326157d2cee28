import base64
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from artune.planning.calls.records import Records

NAMES = {
    "results/smoke/inputs/data.npz": b"digits",
    "results/smoke/runs/a/policy.safetensors": b"weights",
    "results/smoke/runs/a/scores.json": b"scores",
    f"results/smoke/runs/{'long-' * 30}/scores.json": b"a record whose name is spread over folders",
}


def record_of(folder: Path, name: str) -> Path:
    """Snakemake's record of a file: its name in base64, in pieces if it is longer than a file name may be."""
    text = base64.urlsafe_b64encode(name.encode()).decode()
    pieces = [text[at : at + 254] for at in range(0, len(text), 254)]
    return folder.joinpath(".snakemake/metadata", *(f"@{piece}" for piece in pieces[:-1]), pieces[-1])


@pytest.fixture
def made(tmp_path):
    """A folder in which Snakemake has made the files of ``NAMES`` one after the other; they are listed."""
    folder = tmp_path / "made"
    (folder / "results").mkdir(parents=True)
    records = Records(folder / "results")
    records.begin()
    for seconds, (name, data) in enumerate(NAMES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1_000_000_000 + seconds, 1_000_000_000 + seconds))
        record_of(folder, name).parent.mkdir(parents=True, exist_ok=True)
        record_of(folder, name).write_text("{}")
    records.remember()
    return folder


def times(folder: Path) -> list[int]:
    return [(folder / name).stat().st_mtime_ns for name in NAMES]


def copied(source: Path, target: Path) -> Path:
    """A copy of the results alone whose files have new times, in no particular order."""
    shutil.copytree(source / "results", target / "results", copy_function=shutil.copyfile)
    names = list(NAMES)
    random.Random(0).shuffle(names)
    for seconds, name in enumerate(names):
        os.utime(target / name, (1_700_000_000 + seconds, 1_700_000_000 + seconds))
    return target


def test_unchanged_files_of_a_copy_get_their_times_back_and_snakemake_its_records(made, tmp_path, capsys):
    copy = copied(made, tmp_path / "copy")
    assert times(copy) != times(made)
    Records(copy / "results").attach()
    assert times(copy) == times(made)
    assert all(record_of(copy, name).read_text() == "{}" for name in NAMES)
    assert not capsys.readouterr().err


def test_a_copy_of_a_copy_and_a_copy_that_is_moved_keep_them_too(made, tmp_path):
    first = copied(made, tmp_path / "first")
    Records(first / "results").attach()
    second = copied(first, tmp_path / "second")
    shutil.move(second, tmp_path / "third")
    Records(tmp_path / "third/results").attach()
    assert times(tmp_path / "third") == times(made)


def test_a_file_that_was_cut_short_or_altered_keeps_its_new_time_and_is_named(made, tmp_path, capsys):
    copy = copied(made, tmp_path / "copy")
    cut, other = list(NAMES)[:2]
    (copy / cut).write_bytes(NAMES[cut][:2])
    (copy / other).write_bytes(NAMES[other][::-1])
    Records(copy / "results").attach()
    assert [ours == theirs for ours, theirs in zip(times(copy), times(made), strict=True)] == [False, False, True, True]
    (line,) = capsys.readouterr().err.splitlines()
    assert cut in line
    assert other in line


def test_files_finished_just_before_a_kill_get_the_time_that_snakemake_recorded(made, tmp_path):
    copy = copied(made, tmp_path / "copy")
    (copy / "results/records/files.json").write_text('{"place": "elsewhere", "files": {}}')
    for name in list(NAMES)[1:]:
        path = copy / "results/records/metadata" / record_of(made, name).relative_to(made / ".snakemake/metadata")
        path.write_text(json.dumps({"endtime": (made / name).stat().st_mtime}))
    Records(copy / "results").attach()
    assert times(copy)[1:] == times(made)[1:]
    assert times(copy)[0] != times(made)[0]  # nothing is known of it


def test_what_was_out_of_date_before_the_copy_is_out_of_date_in_it(made, tmp_path):
    first, *_, last = NAMES
    (made / first).write_bytes(b"other digits")  # newer than everything made from them
    Records(made / "results").remember()
    copy = copied(made, tmp_path / "copy")
    Records(copy / "results").attach()
    assert (copy / first).stat().st_mtime_ns == (made / first).stat().st_mtime_ns > (copy / last).stat().st_mtime_ns


def test_a_file_that_is_touched_where_it_was_made_stays_touched(made):
    name = next(iter(NAMES))
    (made / name).touch()
    touched = (made / name).stat().st_mtime_ns
    Records(made / "results").attach()
    assert (made / name).stat().st_mtime_ns == touched


def test_only_new_and_altered_files_are_read_again(made):
    whole = (made / "results/records/files.json").read_text()
    for name, data in NAMES.items():  # altered without a trace in size or time: noticed only by reading
        known = (made / name).stat()
        (made / name).write_bytes(data[::-1])
        os.utime(made / name, ns=(known.st_atime_ns, known.st_mtime_ns))
    Records(made / "results").remember()
    assert (made / "results/records/files.json").read_text() == whole
    (made / next(iter(NAMES))).write_bytes(b"other digits")
    Records(made / "results").remember()
    assert (made / "results/records/files.json").read_text() != whole


def test_records_that_snakemake_wrote_before_are_taken_over(tmp_path):
    (tmp_path / "results").mkdir()
    old = record_of(tmp_path, "results/x")
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    records = Records(tmp_path / "results")
    records.begin()
    assert (tmp_path / ".snakemake/metadata").is_symlink()
    assert record_of(tmp_path, "results/x").read_text() == "{}"
    assert [path.name for path in (tmp_path / "results/records/metadata").iterdir()] == [old.name]


def test_other_results_in_place_of_the_old_ones_bring_their_own_records(made, tmp_path):
    clone = tmp_path / "clone"
    (clone / "results").mkdir(parents=True)
    Records(clone / "results").begin()
    record_of(clone, "results/own").write_text("{}")
    shutil.rmtree(clone / "results")
    copied(made, clone)
    Records(clone / "results").attach()
    assert not record_of(clone, "results/own").exists()
    assert all(record_of(clone, name).exists() for name in NAMES)


def test_results_behind_a_link_keep_their_records_on_their_own_disk(made, tmp_path):
    shutil.move(made / "results", tmp_path / "disk")
    (made / "results").symlink_to(tmp_path / "disk")
    Records(made / "results").attach()
    assert (made / ".snakemake/metadata").resolve() == tmp_path / "disk/records/metadata"
    assert all(record_of(made, name).exists() for name in NAMES)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_copy_that_belongs_to_another_user_is_said(made, tmp_path, monkeypatch, capsys):
    copy = copied(made, tmp_path / "copy")
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o777)
    monkeypatch.chdir(copy)
    os.seteuid(65534)
    try:
        Records(Path("results")).attach()
    finally:
        os.seteuid(0)
    (line,) = capsys.readouterr().err.splitlines()
    assert "times cannot be set (Operation not permitted)" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_times_that_could_not_be_set_are_set_when_the_owner_calls(made, tmp_path, monkeypatch, capsys):
    copy = copied(made, tmp_path / "copy")
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o777)
    monkeypatch.chdir(copy)
    remade = next(iter(NAMES))
    for _ in range(2):  # the warning comes with every call
        os.seteuid(65534)
        try:
            records = Records(Path("results"))
            records.attach()
            Path(remade).write_bytes(NAMES[remade][::-1])  # by its relative name: the folders above are closed
            os.utime(remade)
            records.remember()
        finally:
            os.seteuid(0)
        assert "times cannot be set" in capsys.readouterr().err
    new = (copy / remade).stat().st_mtime_ns
    Records(Path("results")).attach()
    assert times(copy) == [new, *times(made)[1:]]
    assert not capsys.readouterr().err


def test_a_link_to_records_is_right_where_snakemakes_folder_is_a_link(tmp_path):
    """As a site does that keeps hidden folders on a quick disk."""
    (tmp_path / "quick/disk/here").mkdir(parents=True)
    clone = tmp_path / "clone"
    (clone / "results").mkdir(parents=True)
    (clone / ".snakemake").symlink_to(tmp_path / "quick/disk/here")
    for _ in range(2):
        Records(clone / "results").begin()
        assert (clone / ".snakemake/metadata").samefile(clone / "results/records/metadata")


def test_a_very_large_file_is_read_only_at_the_end_of_a_call(made, monkeypatch):
    """Samples of 9.8 GB are often deleted before that, and would be read on a login node."""
    monkeypatch.setattr("artune.planning.calls.records.LATE", 7)
    large, small = "results/smoke/runs/a/policy.safetensors", "results/smoke/inputs/data.npz"
    (made / large).write_bytes(b"policies")
    (made / small).write_bytes(b"numbers")
    listed = lambda: json.loads((made / "results/records/files.json").read_text())["files"]  # noqa: E731
    before = listed()
    records = Records(made / "results")
    records.begin()
    assert large not in listed()
    assert listed()[small] != before[small]
    records.remember()
    assert listed()[large][0] == 8


@pytest.mark.parametrize("gone", ["results", "results/records"])
def test_a_link_to_records_that_are_gone_is_removed(made, gone):
    shutil.rmtree(made / gone)
    Records(made / "results").attach()
    (made / ".snakemake/metadata").mkdir()  # as Snakemake does, which fails where a link is


def test_without_records_nothing_is_made(tmp_path):
    records = Records(tmp_path / "results")
    records.attach()
    records.remember()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"place": 1, "files": {"results/smoke/inputs/data.npz": 3}}'])
def test_a_damaged_list_counts_as_none_and_is_written_anew(made, text):
    list_ = made / "results/records/files.json"
    whole = list_.read_text()
    list_.write_text(text)
    Records(made / "results").attach()
    Records(made / "results").remember()
    assert list_.read_text() == whole


@pytest.mark.parametrize("name", ["outside", "results/../outside", "/etc/hostname"])
def test_a_list_from_others_reaches_no_file_outside_the_results(made, name):
    outside = made / "outside"
    outside.write_bytes(b"")
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (made / "results/records/files.json").write_text(f'{{"place": null, "files": {{"{name}": [0, 5, "{digest}"]}}}}')
    before = outside.stat().st_mtime_ns
    Records(made / "results").attach()
    assert outside.stat().st_mtime_ns == before
