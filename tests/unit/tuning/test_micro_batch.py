"""Memory of the update: estimated bytes against those that PyTorch keeps, slices, and blocks computed twice."""

import math
import weakref

import pytest
import torch
from project import ROOT
from tiny import tiny_policy, tiny_run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from trainers import trainer_of, weights

from artune.config.registry import Registry
from artune.config.sizes import PLANNED, fixed_bytes, image_bytes, parameters, saved_bytes, sequence_bytes
from artune.errors import ArtuneError
from artune.sampling.cached_decoding import bytes_of_image
from artune.tuning import micro_batch, policy_update
from artune.tuning.objective import objective, score_tokens

IMAGENET = Registry("imagenet", root=ROOT / "config")
FAMILIES = ["llamagen", "vqgan"]


class Live(TorchDispatchMode):
    """Counts the bytes of live tensors that were created inside the context: now, and at the peak."""

    def __init__(self, known):
        super().__init__()
        self.known, self.now, self.peak = set(known), 0, 0

    def _freed(self, key, size):
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        found = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(found):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return found


def sized(family, autocast, vocabulary, layers, **grpo):
    backbone = {"family": family, "dim": 64, "heads": 4, "layers": layers, "codebook_size": vocabulary, "tokens": 64,
                "ffn_multiple_of": 16}  # fmt: skip
    return tiny_run(backbone=backbone, tokenizer={"codebook_size": vocabulary}, sampling={"cfg": 1.0},
                    grpo={"autocast": autocast, "micro_batch": "auto", **grpo})  # fmt: skip


@pytest.mark.parametrize("checkpointing", ["off", "on"])
@pytest.mark.parametrize("autocast", ["off", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("vocabulary", "layers"), [(2048, 1), (128, 6)], ids=["head", "blocks"])
def test_the_bytes_of_a_sequence_are_what_pytorch_keeps(family, autocast, checkpointing, vocabulary, layers):
    run = sized(family, autocast, vocabulary, layers, checkpointing=checkpointing)
    again, policy, sequences = checkpointing == "on", tiny_policy(run), 4
    policy.checkpointing = again
    tokens = torch.randint(vocabulary, (sequences, 64), generator=torch.Generator().manual_seed(0))
    advantages, class_ids = torch.ones(1, sequences), torch.arange(sequences)
    inputs = [*policy.parameters(), tokens, class_ids, advantages]
    with Live([tensor.untyped_storage()._cdata for tensor in inputs]) as live:
        logp, entropy = score_tokens(policy, tokens, class_ids, run.grpo, run.sampling)
        kept = live.now
        objective(logp, logp.detach(), None, entropy, advantages, [1.0], 0.02, run.grpo)[0].backward()
    standing = fixed_bytes(run.backbone, run.grpo, states=True)
    casts = standing - 4 * parameters(run.backbone)  # casts of all weights; those of checkpointed blocks are freed
    counted = sequences * saved_bytes(run, again)
    assert kept <= (counted + casts) * 1.001  # the rotary table belongs to no sequence
    assert counted <= 1.5 * kept
    peak = sequences * sequence_bytes(run, again)
    assert live.peak <= (peak + standing) * 1.001
    assert peak <= 1.5 * live.peak


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_to_a_thousandth(family):
    run = sized(family, "off", 2048, 2)
    counted = sum(parameter.numel() for parameter in tiny_policy(run).parameters())
    assert parameters(run.backbone) == pytest.approx(counted, rel=0.02)  # norms and biases weigh more in a small policy
    assert parameters(IMAGENET.backbones["llamagen_b"]) == pytest.approx(110_888_448, rel=1e-3)


def planned(name, gigabytes, sequences=144, **grpo):
    """Slices and checkpointing with ``gigabytes`` free beside weights, reference, cache and reward networks."""
    run = IMAGENET.resolve(name)
    run = run.model_copy(update={"grpo": run.grpo.model_copy(update=grpo)})
    split = micro_batch.plan_micro_batches(run, sequences, gigabytes * 2**30)
    sizes = [part.stop - part.start for part in split.slices]
    assert sum(sizes) == sequences
    assert max(sizes) - min(sizes) <= 1
    return len(sizes), split.checkpointing


def test_slices_follow_the_free_memory():
    assert planned("llamagen_l-ours", 60) == (2, False)  # on a GPU with 80 GB
    assert planned("llamagen_l-ours", 20) == (5, False)  # on a GPU with 40 GB
    assert planned("llamagen_l-ours", 1e6) == (1, False)
    assert planned("llamagen_b-ours", 60) == (1, False)
    assert planned("llamagen_xl-ours", 40) == (9, False)  # sequences of 576 tokens
    assert planned("llamagen_xl-ours", 20) == (6, True)  # without checkpointing only 4 sequences would fit
    assert planned("llamagen_xl-ours", 20, checkpointing="off") == (36, False)
    assert planned("llamagen_xl-ours", 40, checkpointing="on") == (2, True)
    assert planned("llamagen_xl-ours", 20, sequences=4) == (1, False)


def test_auto_needs_no_estimate_on_a_cpu_and_a_number_is_kept():
    run = sized("llamagen", "off", 128, 2, checkpointing="auto")
    assert micro_batch.plan_micro_batches(run, 7, None) == ([slice(0, 7)], False)
    five = run.model_copy(update={"grpo": run.grpo.model_copy(update={"micro_batch": 5})})
    assert micro_batch.plan_micro_batches(five, 12, None) == ([slice(0, 5), slice(5, 10), slice(10, 12)], False)
    room = (fixed_bytes(run.backbone, run.grpo, states=False) + 3 * sequence_bytes(run, False)) / PLANNED
    assert micro_batch.plan_micro_batches(five, 12, room)[1] is True  # slices of 5 are asked for, 3 sequences fit
    assert micro_batch.plan_micro_batches(five, 3, room)[1] is False


@pytest.mark.parametrize("gigabytes", [10.5, 0.0])
def test_a_model_too_big_is_one_line(gigabytes):
    with pytest.raises(
        ArtuneError, match=r"the update of llamagen_xl needs 11.2 GB for .* and 0.4 GB per sequence, [\d.]+ GB are free"
    ):
        planned("llamagen_xl-ours", gigabytes)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bytes_of_an_image_are_those_of_the_cache_that_is_allocated(family):
    run = sized(family, "off", 2048, 2)
    for sequences, dtype in ((1, torch.float32), (2, torch.bfloat16)):
        counted = image_bytes(run.backbone, sequences, dtype.itemsize)
        assert counted == bytes_of_image(tiny_policy(run), sequences, dtype)


def saved_then_resumed(monkeypatch, first, later, change=lambda state: None):
    """The slices of a new training and of one that goes on from its state, with so many bytes free before and after."""
    free = [first]
    asked = []
    monkeypatch.setattr(policy_update, "free_for_update", lambda *_: (asked.append(1), free[-1])[1])
    run = sized("llamagen", "off", 128, 2, checkpointing="off")
    begun, resumed = trainer_of(run), trainer_of(run)
    made = begun.update.planned(12)
    state = begun.state_dict()
    assert state["split"][3] == first
    change(state)
    resumed.load_state_dict(state)
    free.append(later)
    kept, looked = resumed.update.planned(12), len(asked)
    assert resumed.update.planned(12) is kept
    assert len(asked) == looked  # the memory is compared once
    expected = (
        [later] if looked == 3 else state["split"][3:] or [None]
    )  # the third time it was looked up for a new plan
    assert resumed.state_dict()["split"][3:] == expected
    return made, kept


def room(sequences):
    """Bytes from which a batch is cut into slices of at most ``sequences``."""
    run = sized("llamagen", "off", 128, 2, checkpointing="off")
    standing = fixed_bytes(run.backbone, run.grpo, states=False)
    return (standing + (sequences + 0.02) * sequence_bytes(run, False)) / PLANNED


def without_bytes(state):
    state["split"] = state["split"][:3]  # as states were saved before they held them


@pytest.mark.parametrize(
    ("later", "slices"), [(room(4), 3), (0.981 * room(4), 3), (room(12), 3), (0.95 * room(4), 4), (room(2), 6)]
)
def test_saved_slices_are_planned_anew_where_less_memory_is_free(monkeypatch, capsys, later, slices):
    """A little less is the same card on another day, and more memory changes nothing: the numbers stay the same."""
    made, kept = saved_then_resumed(monkeypatch, room(4), later)
    assert (len(made.slices), len(kept.slices)) == (3, slices)
    lines = [line for line in capsys.readouterr().err.splitlines() if "planned anew" in line]
    assert len(lines) == (slices != 3)


def test_a_state_without_the_bytes_it_was_made_for_is_kept_if_its_slices_fit(monkeypatch, capsys):
    made, kept = saved_then_resumed(monkeypatch, room(12), room(5), without_bytes)
    assert (len(made.slices), len(kept.slices)) == (1, 3)
    assert "planned anew" in capsys.readouterr().err
    made, kept = saved_then_resumed(monkeypatch, room(30), room(12), without_bytes)
    assert kept == made
    assert "planned anew" not in capsys.readouterr().err


def test_the_line_says_both_amounts(monkeypatch):
    run = IMAGENET.resolve("llamagen_l-ours")
    whole = micro_batch.plan_micro_batches(run, 36, 60 * 2**30)
    line = micro_batch.shortage(run, whole, 60 * 2**30, 20 * 2**30)
    assert "20.0 GB are free for it, where the slices of the saved state were made for 60.0 GB" in line
    assert micro_batch.shortage(run, whole, 60 * 2**30, 59 * 2**30) is None
    assert micro_batch.shortage(run, whole, None, 22.2 * 2**30) is None  # 36 sequences need 22.0 GB
    assert "made for 22.0 GB" in micro_batch.shortage(run, whole, None, 20 * 2**30)


def test_a_split_is_planned_from_the_fewest_bytes_that_are_said_of_it():
    for name, sequences in (("llamagen_l-ours", 144), ("llamagen_xl-ours", 36), ("vqgan-ours", 36)):
        run = IMAGENET.resolve(name)
        for gigabytes in (22, 40, 60):
            split = micro_batch.plan_micro_batches(run, sequences, gigabytes * 2**30)
            least = micro_batch.least_free(run, split)
            assert micro_batch.plan_micro_batches(run, sequences, least * 1.0001) == split
            assert micro_batch.plan_micro_batches(run, sequences, least * 0.9999) != split


def test_states_of_adamw_count_as_memory_of_the_update(monkeypatch):
    """A resumed training has them on the card already; a new one makes them in its first step."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    policy = torch.nn.Linear(4, 4, bias=False)
    optimizer = torch.optim.AdamW(policy.parameters())
    monkeypatch.setattr(policy_update, "free_bytes", lambda device: 1000)
    gpu = torch.device("cuda")
    assert policy_update.free_for_update(gpu, optimizer) == 1000
    moments = {name: torch.zeros(4, 4).as_subclass(OnGpu) for name in ("exp_avg", "exp_avg_sq")}
    optimizer.state[policy.weight] = {"step": torch.tensor(1.0), **moments}  # a step count that stays on the CPU
    assert policy_update.free_for_update(gpu, optimizer) == 1000 + 2 * 4 * 16
    assert policy_update.free_for_update(torch.device("cpu"), optimizer) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("autocast", ["off", "bfloat16"])
def test_gradients_of_blocks_computed_twice_are_the_same_bits(family, autocast):
    run = tiny_run(backbone={"family": family}, sampling={"cfg": 1.0}, grpo={"autocast": autocast})
    tokens = torch.randint(8, (5, 4), generator=torch.Generator().manual_seed(0))
    for dropout in (0.0, 0.3):
        found = []
        for checkpointing in (False, True):
            policy = tiny_policy(run)
            policy.checkpointing = checkpointing
            torch.manual_seed(1)
            logp, entropy = score_tokens(policy, tokens, torch.arange(5) % 4, run.grpo, run.sampling, dropout)
            (logp.mean() + entropy.mean()).backward()
            found.append([logp.detach(), *(parameter.grad for parameter in policy.parameters())])
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_blocks_are_computed_twice_only_where_gradients_are_recorded(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "artune.models.policies.llamagen.checkpoint", lambda block, *rest, **_: (calls.append(1), block(*rest))[1]
    )
    policy, tokens = tiny_policy(tiny_run()), torch.zeros(1, 4, dtype=torch.long)
    policy.checkpointing = True
    with torch.no_grad():
        policy(tokens, tokens[0, :1])
    assert not calls
    policy(tokens, tokens[0, :1])
    assert len(calls) == 2


def test_a_training_with_all_of_it_is_the_plain_one_to_the_bit():
    def learnt(**grpo):
        trainer = trainer_of(tiny_run(grpo={"dropout": 0.2, **grpo}))
        for iteration in range(2):
            torch.manual_seed(iteration)
            trainer.step(iteration)
        return weights(trainer)

    assert torch.equal(learnt(), learnt(micro_batch="auto", checkpointing="on"))


@pytest.mark.parametrize(
    ("entropy", "passes"),
    [({}, 2 * (3 + 3)), ({"enabled": False}, 2 * 3), ({"gain": 0.0}, 2 * 3), ({"over": "slice"}, 2 * 3)],
    ids=str,
)
def test_slices_are_scored_ahead_of_an_epoch_only_for_the_entropys_feedback(entropy, passes, monkeypatch):
    scored = []

    def counting(*arguments):
        scored.append(arguments)
        return score_tokens(*arguments)

    monkeypatch.setattr("artune.tuning.policy_update.score_tokens", counting)
    trainer = trainer_of(tiny_run(grpo={"micro_batch": 5, "beta": 0.0}, entropy=entropy))
    metrics, _ = trainer.step(0)
    assert len(scored) == passes  # two epochs of three slices
    whole, _ = trainer_of(tiny_run(grpo={"beta": 0.0}, entropy=entropy)).step(0)
    assert all(math.isclose(metrics[key], value, rel_tol=1e-3, abs_tol=1e-6) for key, value in whole.items())


def test_no_gradient_outlives_the_update():
    trainer = trainer_of(tiny_run(grpo={"micro_batch": 5}))
    trainer.step(0)
    assert all(parameter.grad is None for parameter in trainer.policy.parameters())


def test_the_split_is_said_once(capsys):
    trainer = trainer_of(tiny_run(grpo={"micro_batch": 7}))
    for iteration in range(2):
        trainer.step(iteration)
    assert capsys.readouterr().err.count("update: 2 slices of at most 7") == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_of_the_update_can_be_a_flash_kernels(family):
    """A flash kernel needs half precision and causal attention without a mask; here the CPU's own kernel runs."""

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            if "attention" in str(function):
                seen.append(
                    (str(function), {tensor.dtype for tensor in arguments[:3]}, (keywords or {}).get("attn_mask"))
                )
            return function(*arguments, **(keywords or {}))

    seen, run = [], tiny_run(backbone={"family": family}, sampling={"cfg": 1.0}, grpo={"autocast": "bfloat16"})
    tokens = torch.zeros(2, 4, dtype=torch.long)
    with Seen():
        score_tokens(tiny_policy(run), tokens, tokens[:, 0], run.grpo, run.sampling)
    assert len(seen) == 2
    assert all("flash" in name and kinds == {torch.bfloat16} and mask is None for name, kinds, mask in seen)
