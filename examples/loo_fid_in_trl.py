"""The LOO-FID reward as a reward function of TRL's GRPOTrainer: a causal language model over image tokens.

It needs TRL (`pip install trl`), which is no dependency of artune. TRL calls a reward function with the samples of one
process; the reward compares those of all processes, so it runs unchanged under `accelerate launch`. A token is a grey
level of a 4 x 4 image here; with a tokenizer of images the features are those of the decoded images.
"""

import torch

import artune

SIDE, LEVELS = 4, 8


def features(completion_ids):
    """Token lists of the images -> what LOO-FID compares, the pixels [n, 16]; for images: artune.InceptionFeatures."""
    pixels = torch.zeros(len(completion_ids), SIDE**2, dtype=torch.float64)  # a completion that ended early stays black
    for row, tokens in zip(pixels, completion_ids, strict=True):
        row[: len(tokens)] = torch.tensor(tokens[: SIDE**2]).clamp_max(LEVELS - 1) / LEVELS
    return pixels


def make_reward_function(reference):
    """A function for ``reward_funcs``; the moments are kept from call to call, the same in every process."""
    reward = artune.LooFidReward(reference, features=features)

    def loo_fid(completion_ids, **others):
        rewards = reward(completion_ids)
        loo_fid.distances.append(reward.fid)
        return (1000 * rewards).tolist()  # TRL divides by the spread within a group plus 1e-4, which these exceed

    loo_fid.distances = []
    return loo_fid


def main():
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    real = 0.6 + 0.1 * torch.randn(5000, SIDE**2, dtype=torch.float64)
    mean, covariance = artune.feature_moments(real)
    reference = artune.ReferenceMoments.from_moments(mean, covariance=covariance, compare="full")
    words = {str(level): level for level in range(LEVELS)} | {
        "<end>": LEVELS,
        "<pad>": LEVELS + 1,
        "<image>": LEVELS + 2,
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), eos_token_id=LEVELS, pad_token_id=LEVELS + 1, **sizes))
    loo_fid = make_reward_function(reference)
    settings = GRPOConfig(
        output_dir="trl", max_steps=30, per_device_train_batch_size=32, num_generations=16, learning_rate=1e-2,
        max_completion_length=SIDE**2, logging_steps=10, report_to=[], save_strategy="no", bf16=False, use_cpu=True,
    )  # fmt: skip
    prompts = Dataset.from_dict({"prompt": ["<image>"] * 64})
    trainer = GRPOTrainer(model, loo_fid, args=settings, train_dataset=prompts, processing_class=tokenizer)
    trainer.train()
    if trainer.accelerator.is_main_process:
        print(f"FID {loo_fid.distances[0]:.3f} at first, {loo_fid.distances[-1]:.3f} after {settings.max_steps} steps")


if __name__ == "__main__":
    main()
