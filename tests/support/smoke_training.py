"""The command line of a training at the smoke scale."""

PRETRAINED = "results/smoke/pretrained"


def arguments(folder):
    return [
        "train", "--config", folder / "config.yaml", "--policy", f"{PRETRAINED}/llamagen_l/policy.safetensors",
        "--tokenizer", f"{PRETRAINED}/vq/tokenizer.safetensors", "--networks", "results/smoke/inputs/networks",
        "--reference", "results/smoke/reference.npz", "--output", folder / "policy.safetensors",
    ]  # fmt: skip


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0
