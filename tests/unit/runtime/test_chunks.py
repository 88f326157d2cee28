"""Samples and features in chunks: the same bytes for any number of processes, interrupted or not."""

import threading

import numpy as np
import pytest
import torch
from processes import run_processes
from scored import OFFICIAL, Network, Spatial
from tiny import tiny_policy, tiny_renderer, tiny_run

from artune.errors import ArtuneError
from artune.evaluation import samples
from artune.evaluation.features import Extractor, take_up, write_features
from artune.evaluation.samples import Drawing, SampleFiles, draw_labels, sample
from artune.runtime.chunks import Chunks, Writer
from artune.runtime.distributed import ALONE
from artune.runtime.files import load_npz, save_npz, save_npz_rows
from artune.runtime.seeds import generator_for
from artune.sampling.cached_decoding import KeptDecoder
from artune.sampling.generate import Sampler
from artune.sampling.rollout import roll_out

CPU = torch.device("cpu")
CHUNK = Drawing.chunk
EVALUATION = OFFICIAL.model_copy(update={"samples": 50, "batch": 8, "grid_classes": 2, "grid_per_class": 1})


def extractor(batch, identity):
    judge = Network() if identity == "another judge" else Spatial()
    networks = dict.fromkeys(OFFICIAL.networks.values(), Network()) | {OFFICIAL.features: judge}
    return Extractor(EVALUATION.model_copy(update={"batch": batch}), tiny_run().data, networks, CPU, identity)


def drawn(world, folder, seed=0, batch=8, identity=None, pretrained=False):
    """Draw samples.npz of a tiny policy in seven chunks; returns its bytes in the leading process, None in others."""
    folder.mkdir(exist_ok=True)
    (folder / "policy").write_text(str(seed))
    run = tiny_run()
    arguments = (tiny_policy(run, seed), tiny_policy(run) if pretrained else None, tiny_renderer(run))
    sample(
        run,
        EVALUATION.model_copy(update={"batch": batch}),
        *arguments,
        SampleFiles([folder / "policy"], folder / "samples.npz", folder / "grid.png"),
        CPU,
        world,
        extractor(batch, identity) if identity else None,
    )
    return (folder / "samples.npz").read_bytes() if world.leads else None


def featured(world, folder, batch):
    networks = dict.fromkeys(OFFICIAL.networks.values(), Network()) | {OFFICIAL.features: Spatial()}
    output = folder / f"features-{world.size}.npz"
    evaluation = EVALUATION.model_copy(update={"batch": batch})
    write_features(folder / "samples.npz", evaluation, tiny_run().data, networks, output, CPU, world)
    return output.read_bytes() if world.leads else None


@pytest.mark.parametrize(("size", "batch"), [(2, 8), (4, 20)], ids=["two", "one-idle"])
def test_samples_and_features_are_the_same_bytes_in_several_processes(tmp_path, size, batch):
    whole = drawn(ALONE, tmp_path / "one", 0, batch)
    assert run_processes(size, drawn, tmp_path / "many", 0, batch)[0] == whole
    assert not (tmp_path / "many/sampling").exists()
    features = featured(ALONE, tmp_path / "one", batch)
    assert run_processes(size, featured, tmp_path / "one", batch)[0] == features


def test_every_chunk_has_a_seed_of_its_own(tmp_path):
    drawn(ALONE, tmp_path / "one")
    run = tiny_run()
    sampler, images = Sampler(tiny_policy(run), run.sampling), []
    labels = draw_labels(EVALUATION, run.data.classes, run.seed)
    for number, class_ids in enumerate(labels.split(8)):
        generator = generator_for(EVALUATION.seed, run.seed, "sample", number)
        images.append(roll_out(sampler, tiny_renderer(run), class_ids, generator).images)
    arrays = load_npz(tmp_path / "one/samples.npz")
    assert np.array_equal(arrays["arr_0"], torch.cat(images).permute(0, 2, 3, 1).numpy())
    assert np.array_equal(arrays["labels"], labels.numpy())


def test_a_second_file_of_one_chunk_is_not_counted_as_another_chunk(tmp_path, monkeypatch):
    whole = drawn(ALONE, tmp_path / "one")

    def twice(sampler, render, *rest):
        for path in (tmp_path / "two/sampling").glob("*/chunk-000003-*.npy"):
            rows = np.load(path)
            rows[0, 0, 0, 0] ^= 1  # what another process drew with other rounding, intact too
            Chunks.save(chunks_of(path), 3, rows)
        return grid_images(sampler, render, *rest)

    def chunks_of(path):
        chunks = Chunks(tmp_path / "two/sampling", "")
        chunks.folder = path.parent
        return chunks

    grid_images = samples.grid_images
    monkeypatch.setattr(samples, "grid_images", twice)
    drawn(ALONE, tmp_path / "two")
    arrays, expected = (load_npz(tmp_path / f"{name}/samples.npz") for name in ("two", "one"))
    assert arrays["arr_0"].shape == expected["arr_0"].shape
    assert len(whole) > 0


def test_the_decoder_of_one_policy_is_freed_before_the_next_one_is_drawn_from(tmp_path, monkeypatch):
    alive, kept = [], KeptDecoder.__call__

    def watched(self, class_ids):
        alive.append([other._decoder is not None for other in made if other is not self])
        return kept(self, class_ids)

    made, start = [], KeptDecoder.__init__
    monkeypatch.setattr(KeptDecoder, "__init__", lambda self, *rest: (made.append(self), start(self, *rest))[1])
    monkeypatch.setattr(KeptDecoder, "__call__", watched)
    drawn(ALONE, tmp_path / "one", pretrained=True)
    assert len(made) == 2
    assert not any(map(any, alive))


class KilledError(Exception):
    pass


def killed_at(monkeypatch, number):
    """Let drawing fail at chunk ``number`` (None: nowhere); returns the list to which every drawn chunk is added."""
    seen = []

    def dying(drawing, at):
        if at == number:
            raise KilledError
        seen.append(at)
        return CHUNK(drawing, at)

    monkeypatch.setattr(Drawing, "chunk", dying)
    return seen


def test_a_killed_generation_goes_on_from_its_finished_chunks(tmp_path, monkeypatch):
    whole = drawn(ALONE, tmp_path / "one")
    killed_at(monkeypatch, 4)
    with pytest.raises(KilledError):
        drawn(ALONE, tmp_path / "cut")
    assert not (tmp_path / "cut/samples.npz").exists()
    torn = sorted((tmp_path / "cut/sampling").glob("*/chunk-000002-*.npy"))[0]
    torn.write_bytes(torn.read_bytes()[:-1] + b"x")
    seen = killed_at(monkeypatch, None)
    assert drawn(ALONE, tmp_path / "cut") == whole
    assert seen == [2, 4, 5, 6]


def test_chunks_of_another_policy_are_not_taken_up(tmp_path, monkeypatch):
    other = drawn(ALONE, tmp_path / "one", seed=1)
    killed_at(monkeypatch, 4)
    with pytest.raises(KilledError):
        drawn(ALONE, tmp_path / "cut", seed=0)
    seen = killed_at(monkeypatch, None)
    assert drawn(ALONE, tmp_path / "cut", seed=1) == other
    assert seen == list(range(7))


@pytest.mark.parametrize("size", [1, 2])
def test_features_taken_while_drawing_are_the_bytes_of_those_taken_from_the_file(tmp_path, size):
    whole = drawn(ALONE, tmp_path / "one")
    many = drawn(ALONE, tmp_path / "many", 0, 8, "judge") if size == 1 else None
    assert (many or run_processes(size, drawn, tmp_path / "many", 0, 8, "judge")[0]) == whole
    folder, output = tmp_path / "many", tmp_path / "many/features.npz"
    assert not take_up(folder / "samples.npz", "another judge", output)
    assert take_up(folder / "samples.npz", "judge", output)
    assert output.stat().st_mtime_ns >= (folder / "samples.npz").stat().st_mtime_ns
    assert output.read_bytes() == featured(ALONE, tmp_path / "one", 8)
    assert not take_up(folder / "samples.npz", "judge", output)  # the first call moved the features
    assert sorted(path.name for path in folder.iterdir()) == ["features.npz", "grid.png", "policy", "samples.npz"]


def test_features_of_other_images_are_not_taken_up(tmp_path):
    drawn(ALONE, tmp_path / "one", seed=0, identity="judge")
    drawn(ALONE, tmp_path / "two", seed=1)
    (tmp_path / "two/samples.npz").replace(tmp_path / "one/samples.npz")
    assert not take_up(tmp_path / "one/samples.npz", "judge", tmp_path / "one/features.npz")
    save_npz(tmp_path / "one/samples.npz", {"arr_0": np.zeros((2, 2, 2, 3), np.uint8), "labels": np.zeros(2, int)})
    assert not take_up(tmp_path / "one/samples.npz", "judge", tmp_path / "one/features.npz")


@pytest.mark.parametrize(("before", "after"), [("judge", "judge"), ("another judge", "judge"), (None, "judge")])
def test_a_killed_generation_takes_the_features_that_are_missing_and_draws_no_image_twice(
    tmp_path, monkeypatch, before, after
):
    drawn(ALONE, tmp_path / "one")
    killed_at(monkeypatch, 4)
    with pytest.raises(KilledError):
        drawn(ALONE, tmp_path / "cut", identity=before)
    for lost in (tmp_path / "cut/sampling_features").glob("*/chunk-000001-*.npy"):
        lost.unlink()
    seen = killed_at(monkeypatch, None)
    drawn(ALONE, tmp_path / "cut", identity=after)
    assert seen == [4, 5, 6]
    assert take_up(tmp_path / "cut/samples.npz", after, tmp_path / "cut/features.npz")
    assert (tmp_path / "cut/features.npz").read_bytes() == featured(ALONE, tmp_path / "one", 8)
    assert not (tmp_path / "cut/sampling_features").exists()


def test_the_next_chunk_is_drawn_while_the_last_is_written_and_errors_come_out(tmp_path):
    class Slow(Chunks):
        def save(self, number, array):
            assert drawing.wait(10), "the writer is waited for"
            if number == 1:
                raise ArtuneError("the disk is full")
            super().save(number, array)

    drawing, chunks = threading.Event(), Slow(tmp_path, "a")

    def saving(*numbers, error=None):
        with Writer() as writer:
            for number in numbers:
                writer.save(number, [(chunks, np.zeros(3))])
                drawing.set()
            if error:
                raise error

    for numbers in ((0, 1), (1, 2)):  # chunk 1 fails as the last one, and with another chunk behind it
        with pytest.raises(ArtuneError, match="the disk is full"):
            saving(*numbers)
    assert (chunks.has(0), chunks.has(2)) == (True, False)
    with pytest.raises(KilledError):  # the caller's own error is raised instead of the writer's
        saving(1, error=KilledError())


def test_an_npz_written_in_pieces_is_the_npz_written_whole(tmp_path):
    array = np.arange(10 * 2 * 3, dtype=np.uint8).reshape(10, 2, 3)
    rest = {"labels": np.arange(10), "more/names": np.ones((2, 2), np.float32)}
    save_npz(tmp_path / "whole.npz", {"arr_0": array} | rest)
    save_npz_rows(tmp_path / "pieces.npz", "arr_0", np.split(array, [4, 8]), 10, rest)
    assert (tmp_path / "pieces.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    with pytest.raises(ArtuneError, match="8 rows of arr_0 instead of 10"):
        save_npz_rows(tmp_path / "pieces.npz", "arr_0", np.split(array, [4, 8])[:2], 10, rest)


def test_a_missing_chunk_is_one_line(tmp_path):
    with pytest.raises(ArtuneError, match="chunk 3 is gone; run the same command again"):
        Chunks(tmp_path, "a").load(3)
