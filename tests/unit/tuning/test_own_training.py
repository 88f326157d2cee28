"""GRPO without a run of the registry: any policy, any function of a batch, settings as an object."""

import pytest
import torch
from tiny import Brightness, tiny_policy, tiny_renderer, tiny_run
from torch import nn
from trainers import trainer_of, weights

import artune
from artune.errors import ArtuneError, SharedError
from artune.tuning.grpo_trainer import GRPOTrainer
from artune.tuning.settings import GRPOSettings


class Bigram(artune.Policy):
    """Logits of a token from the one before it; the first token's from the class."""

    codebook_size, classes, tokens = 8, 4, 4

    def __init__(self, codes=8):
        super().__init__()
        self.codebook_size = codes
        self.table = nn.Embedding(codes + 4, codes)
        nn.init.zeros_(self.table.weight)

    def forward(self, tokens, class_ids):
        return self.table(torch.cat((self.codebook_size + class_ids[:, None], tokens[:, :-1]), dim=1))


class Duck(nn.Module):
    """As a policy, but no subclass."""

    codebook_size, classes, tokens, null_class = 8, 4, 4, None

    def __init__(self):
        super().__init__()
        self.inner = Bigram()

    def forward(self, tokens, class_ids):
        return self.inner(tokens, class_ids)

    def start(self, class_ids, length):
        return self.inner.start(class_ids, length)

    def decode(self, token, cache):
        return self.inner.decode(token, cache)


def even(batch):
    return (batch.tokens % 2 == 0).float().mean(1)


def settings(**changes):
    quick = {"iterations": 30, "prompts": 4, "group_size": 6, "learning_rate": 3e-2, "beta": 0.0}
    return GRPOSettings(**(quick | changes))


def trained(trainer, iterations=None):
    return [trainer.step(iteration)[0] for iteration in range(iterations or trainer.iterations)]


@pytest.mark.parametrize("policy", [Bigram, Duck])
def test_a_policy_of_ones_own_learns_a_function_of_a_batch(policy):
    metrics = trained(GRPOTrainer(policy(), lambda tokens: tokens, {"even": even}, settings()))
    assert metrics[0]["reward/even"] < 0.6
    assert metrics[-1]["reward/even"] > 0.75
    assert metrics[-1]["reward/total"] == metrics[-1]["reward/even"]


def test_settings_as_an_object_give_the_bits_of_a_run():
    run = tiny_run()
    named = ("iterations", "prompts", "group_size", "epochs", "clip", "beta", "learning_rate", "micro_batch")
    same = GRPOSettings(**{name: getattr(run.grpo, name) for name in named}, entropy=run.entropy, sampling=run.sampling)
    own = GRPOTrainer(tiny_policy(run), tiny_renderer(run), {"clip": Brightness()}, same)
    theirs = trainer_of(run)
    assert trained(own, 4) == trained(theirs, 4)
    assert torch.equal(weights(own), weights(theirs))


def test_sampling_by_whole_forward_passes_is_that_of_a_cache():
    class Uncached(artune.Policy):
        codebook_size, classes, tokens, null_class = 8, 4, 4, 4

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, tokens, class_ids):
            return self.inner(tokens, class_ids)

    policy, ids = tiny_policy(tiny_run()), torch.tensor([0, 1, 2, 3])
    for sampling in (artune.Sampling(cfg=1.0), artune.Sampling(cfg=1.5, top_k=5)):
        fast, slow = (
            artune.generate(each, ids, sampling, torch.Generator().manual_seed(3))
            for each in (policy, Uncached(policy))
        )
        assert torch.equal(fast, slow)


def test_weights_and_separate_normalisation_are_those_of_the_method():
    both = {"even": even, "odd": lambda batch: 1 - even(batch)}
    for change in ({"weights": {"odd": 0.0}}, {"weights": {"odd": 0.0}, "combine": "separate"}):
        assert trained(GRPOTrainer(Bigram(), lambda t: t, both, settings(**change)))[-1]["reward/even"] > 0.75
    opposed = GRPOTrainer(Bigram(), lambda t: t, both, settings())
    trained(opposed, 3)
    assert float(opposed.policy.table.weight.detach().abs().max()) < 0.02  # their sum is 1 for every image


class Counting:
    """A reward that keeps how many batches it has seen."""

    def __init__(self, bad_at=None):
        self.seen, self.bad_at = 0, bad_at

    def __call__(self, batch):
        self.seen += 1
        return even(batch) * (float("nan") if self.seen == self.bad_at else 1.0) + self.seen

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_what_a_reward_keeps_is_saved_and_an_iteration_that_failed_leaves_no_trace():
    reward = Counting(bad_at=3)
    trainer = GRPOTrainer(Bigram(), lambda tokens: tokens, {"even": reward}, settings())
    trained(trainer, 2)
    assert trainer.state_dict()["rewards"] == {"even": {"seen": 2}}
    with pytest.raises(SharedError, match="reward even: NaN"):
        trainer.step(2)
    assert reward.seen == 3
    state = trainer.good_state()
    assert state["rewards"] == {"even": {"seen": 2}}
    again = GRPOTrainer(Bigram(), lambda tokens: tokens, {"even": Counting()}, settings())
    again.load_state_dict(state)
    assert again.step(2)[0]["reward/even"] >= 3  # the third batch


def test_the_loo_fid_reward_with_its_moments_is_one_of_the_rewards():
    reference = artune.ReferenceMoments.from_moments(torch.full((1,), 2.0), variance=torch.ones(1))
    reward = artune.LooFidReward(reference, features=lambda batch: batch.tokens.double().mean(1, keepdim=True))
    trainer = GRPOTrainer(Bigram(), lambda tokens: tokens, {"loo_fid": reward}, settings(iterations=80))
    first = trained(trainer, 1)
    fid = reward.fid
    for iteration in range(1, 80):
        trainer.step(iteration)
    assert "reward/loo_fid" in first[0]
    assert reward.fid < fid / 2
    assert trainer.state_dict()["rewards"]["loo_fid"]["fid"] == reward.fid


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1.0}, "GRPOSettings: learning_rate: Input should be greater than 0"),
        ({"group_size": 1}, "GRPOSettings: group_size"),
        ({"more": {"ratoi": "token"}}, "GRPOSettings: ratoi: unknown key"),
        ({"more": {"clip": 0.1}}, "GRPOSettings: more: clip has an argument of its own"),
        ({"weights": {"even": -1.0}}, "GRPOSettings: weights: even: -1.0 is negative"),
        ({"combine": "both"}, "GRPOSettings: combine: unknown 'both'"),
        ({"seed": -1}, "GRPOSettings: seed: -1 is not"),
        ({"prompts": 5}, "GRPOSettings: prompts: 5 distinct prompts of 4 classes"),
        ({"weights": {"evn": 1.0}}, "GRPOSettings: weights: unknown reward 'evn'; did you mean even"),
        ({"sampling": artune.Sampling(cfg=2.0)}, "sampling.cfg: 2.0 asks for guidance"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(changes, message):
    with pytest.raises(ArtuneError, match=message.replace(".", r"\.")):
        GRPOTrainer(Bigram(), lambda tokens: tokens, {"even": even}, settings(**changes))


def test_further_keys_of_the_section_grpo_act():
    grpo = settings(more={"ratio": "token", "warmup": 10}).grpo
    assert (grpo.ratio, grpo.warmup) == ("token", 10)


def test_a_policy_that_lacks_something_is_refused_with_the_remedy():
    def refused(policy):
        with pytest.raises(ArtuneError) as error:
            GRPOTrainer(policy, lambda tokens: tokens, {"even": even}, settings())
        return str(error.value)

    assert refused(nn.Linear(2, 2)) == "policy: Linear.codebook_size is None; give a whole number of at least 1"
    stepless = Duck()
    stepless.start = None
    assert refused(stepless) == "policy: Duck has no method start; derive it from artune.Policy, which supplies it"
    assert "is not a torch.nn.Module" in refused(lambda tokens, ids: tokens)


@pytest.mark.parametrize("scores", [torch.zeros(3), torch.zeros(24, 1), 1.0])
def test_a_reward_that_gives_other_than_one_number_per_image_is_refused(scores):
    trainer = GRPOTrainer(Bigram(), lambda tokens: tokens, {"even": lambda batch: scores}, settings())
    with pytest.raises(SharedError, match=r"reward even: gave numbers of shape .* for 24 images"):
        trainer.step(0)


def test_no_rewards_are_refused():
    with pytest.raises(ArtuneError, match="rewards: none"):
        GRPOTrainer(Bigram(), lambda tokens: tokens, {}, settings())


def test_given_tokens_are_scored_and_forced_without_any_settings():
    policy, ids = tiny_policy(tiny_run()), torch.tensor([0, 1, 2])
    tokens = torch.randint(8, (3, 4), generator=torch.Generator().manual_seed(0))
    logits = policy(tokens, ids)
    logp, entropy = artune.token_scores(policy, tokens, ids)
    assert torch.equal(logp, logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0])
    assert torch.allclose(entropy, torch.distributions.Categorical(logits=logits).entropy(), atol=1e-6)
    assert torch.allclose(artune.step_logits(policy, tokens, ids), logits, atol=1e-5)
    assert artune.step_logits(policy, tokens[:, :2], ids).shape == (3, 2, 8)
    null = policy(tokens, torch.full_like(ids, policy.null_class))
    guided = null + 1.5 * (logits - null)
    assert torch.allclose(artune.step_logits(policy, tokens, ids, cfg=1.5), guided, atol=1e-5)
    scored, _ = artune.token_scores(policy, tokens, ids, cfg=1.5)
    assert torch.allclose(scored, guided.log_softmax(-1).gather(-1, tokens[..., None])[..., 0], atol=1e-5)
    few, _ = artune.token_scores(policy, tokens, ids, truncate=artune.Sampling(cfg=1.0, top_k=2))
    assert bool((few >= logp - 1e-6).all())
    with pytest.raises(ArtuneError, match=r"give \[B, S\] with S from 1 to 4"):
        artune.step_logits(policy, torch.zeros(3, 5, dtype=torch.long), ids)
