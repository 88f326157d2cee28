"""One decoder serves a training, and one the samples of a run, where steps are recorded for a number of rows."""

import pytest
import torch
from recorded import recording
from scored import OFFICIAL
from tiny import tiny_policy, tiny_renderer, tiny_run
from trainers import Flat, trainer_of

from artune.evaluation.samples import SampleFiles, sample
from artune.rewards.distribution import DistributionReward
from artune.runtime.distributed import ALONE, Share
from artune.runtime.files import load_npz
from artune.sampling.generate import Sampler, fill_up

CPU = torch.device("cpu")


def training(run, folder):
    """Start moments, two iterations with a picture after each; returns the policy's weights."""
    settings = run.rewards.loo_fid.model_copy(update={"start": "pretrained", "start_samples": 70})
    loo_fid = DistributionReward(Flat(), settings, torch.zeros(3), torch.eye(3))
    trainer = trainer_of(run, loo_fid=loo_fid)
    trainer.begin()
    for iteration in range(2):
        trainer.step(iteration)
        assert trainer.picture(0, folder) == folder / "iteration-000000.png"
    return torch.cat([weight.detach().flatten() for weight in trainer.policy.parameters()])


def test_start_moments_and_pictures_use_the_decoder_of_the_iterations(tmp_path):
    run = tiny_run()
    plain = training(run, tmp_path)
    with recording() as cuda:
        recorded = training(run, tmp_path)
    assert cuda.captures == 1  # of the one bucket that four tokens need, for 12 images; 70 and 16 images were drawn too
    torch.testing.assert_close(recorded, plain, rtol=1e-3, atol=1e-4)


def draw(folder, batch, pretrained=None):
    folder.mkdir()
    run, evaluation = tiny_run(), OFFICIAL.model_copy(update={"samples": 10, "batch": batch, "grid_classes": 2})
    files = SampleFiles([], folder / "samples.npz", folder / "grid.png")
    sample(run, evaluation, tiny_policy(run), pretrained, tiny_renderer(run), files, CPU, ALONE)
    return load_npz(folder / "samples.npz")["arr_0"]


@pytest.mark.parametrize("batch", [4, 10, 256])
def test_a_short_last_chunk_and_the_grid_use_the_decoder_of_the_other_chunks(tmp_path, batch):
    plain = draw(tmp_path / "plain", batch)
    with recording() as cuda:
        assert (draw(tmp_path / "recorded", batch) == plain).all()
    assert cuda.captures == 1


def test_the_grid_of_another_policy_has_its_own_decoder(tmp_path):
    with recording() as cuda:
        draw(tmp_path / "recorded", 4, tiny_policy(tiny_run(), seed=5))
    assert cuda.captures == 2


@pytest.mark.parametrize("cfg", [1.0, 1.5])
@pytest.mark.parametrize("share", [None, Share(3, 10, 12)])
def test_parts_that_are_filled_up_have_the_tokens_of_the_whole(cfg, share):
    run = tiny_run(sampling={"cfg": cfg})
    policy, ids = tiny_policy(run), torch.arange(7) % 4

    def drawn(images):
        return Sampler(policy, run.sampling, images)(ids, torch.Generator().manual_seed(5), share=share)

    whole = drawn(None)
    assert torch.equal(drawn(3), whole)  # the CPU takes any number of rows
    with recording():
        for images in (None, 1, 3, 4, 7, 100):
            assert torch.equal(drawn(images), whole)


def test_a_batch_in_parts_of_unequal_length_records_once():
    run = tiny_run(sampling={"cfg": 1.5, "rows": 4})
    sampler = Sampler(tiny_policy(run), run.sampling)
    with recording() as cuda:
        for _ in range(2):
            sampler(torch.arange(7) % 4, torch.Generator().manual_seed(5))
            assert sampler(torch.arange(0)).shape == (0, 4)
    assert cuda.captures == 1


def test_rows_are_filled_up_with_the_last_one():
    rows = torch.tensor([1, 2])
    assert fill_up(rows, 2) is rows
    assert fill_up(rows, 5).tolist() == [1, 2, 2, 2, 2]
