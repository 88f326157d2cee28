"""The planned memory of a tuning on cards of 40 and 80 GB, compared with tensor-by-tensor counts of full-size networks."""

import argparse

import pytest
import torch
from project import ROOT

from artune.commands.context import Context
from artune.commands.planning import plan as plan_command
from artune.config.registry import Registry
from artune.config.sizes import GB, parameters
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network
from artune.models.tokenizers.build import build_tokenizer
from artune.planning import doctor
from artune.planning.memory import cards, standing
from artune.planning.memory.standing import on_card
from artune.tuning.micro_batch import plan_micro_batches

REGISTRY = Registry("imagenet", root=ROOT / "config")
WITHIN = 0.1  # GB, to which the figures below are rounded
REFUSED = None
# Card, backbone, processes -> GB standing, free, of the update and left, slices x sequences, parts of the cache: section B
# of an audit that counted the storages of full-size networks, with four reward networks and 1.6 GB for CUDA's context.
TABLE = [
    (80, "llamagen_b", 4, 9.4, 69.7, 9.3, 60, (1, 36), 1, False),
    (80, "llamagen_b", 1, 11.4, 67.7, 32.7, 35, (1, 144), 1, False),
    (80, "llamagen_l", 4, 12.7, 66.4, 19.8, 47, (1, 36), 1, False),
    (80, "llamagen_l", 1, 17.8, 61.3, 35.1, 26, (2, 72), 1, False),
    (80, "llamagen_xl", 4, 22.1, 57.0, 39.1, 18, (2, 18), 1, False),
    (80, "llamagen_xl", 1, 29.3, 49.8, 44.0, 5.9, (7, 21), 2, False),
    (80, "vqgan", 4, 23.4, 55.7, 47.2, 8.4, (1, 36), 1, False),
    (80, "vqgan", 1, 31.1, 48.0, 41.6, 6.4, (5, 29), 1, False),
    (40, "llamagen_b", 4, 9.4, 30.0, 9.3, 21, (1, 36), 1, False),
    (40, "llamagen_b", 1, 11.4, 28.0, 17.1, 11, (2, 72), 1, False),
    (40, "llamagen_l", 4, 12.7, 26.7, 19.8, 7.0, (1, 36), 1, False),
    (40, "llamagen_l", 1, 17.8, 21.6, 16.8, 4.8, (5, 29), 1, False),
    (40, "llamagen_xl", 4, 22.1, 17.3, 13.9, 3.4, (3, 12), 1, True),
    (40, "llamagen_xl", 1, 24.5, 14.9, 13.3, 1.6, (15, 10), 3, True),
    (40, "vqgan", 4, 23.4, 16.0, 18.5, -2.5, REFUSED, 1, True),
    (40, "vqgan", 1, 31.1, 8.3, 18.5, -10.2, REFUSED, 1, True),
]


def four_networks(backbone):
    """The backbone's tuning, with MANIQA beside the paper's three networks."""
    run = REGISTRY.resolve(f"{backbone}-ours")
    return run.model_copy(update={"networks": run.networks | {"maniqa": REGISTRY.networks["maniqa"]}})


@pytest.mark.parametrize(
    ("card", "backbone", "processes", "stands", "free", "update", "left", "slices", "parts", "checkpointing"), TABLE
)
def test_the_counted_memory_of_every_backbone_on_every_card(
    card, backbone, processes, stands, free, update, left, slices, parts, checkpointing
):
    run = four_networks(backbone)
    found = on_card(run, processes, cards.CARDS[card])
    assert found.standing / GB == pytest.approx(stands, abs=WITHIN)
    assert found.free / GB == pytest.approx(free, abs=WITHIN)
    assert found.update / GB == pytest.approx(update, abs=WITHIN)
    assert found.left / GB == pytest.approx(left, abs=WITHIN if left < 10 else 0.6)  # whole GB from 10 on
    assert (found.slices, found.largest) == (slices or (0, 0))
    assert (found.parts, found.checkpointing) == (parts, checkpointing)
    if slices is REFUSED:
        with pytest.raises(ArtuneError, match=r"the update of vqgan needs 20\.4 GB for gradients, casts and optimiser"):
            plan_micro_batches(run, 144 // processes, found.free)
        return
    split = plan_micro_batches(run, 144 // processes, found.free)  # what the training itself plans
    sizes = [part.stop - part.start for part in split.slices]
    assert (len(sizes), max(sizes), split.checkpointing) == (*slices, checkpointing)


@pytest.mark.parametrize(
    ("asked", "mode", "expected"),
    [(40, "auto", (4, 40, False)), (144, "auto", (1, 144, True)), (144, "off", (0, 0, False))],
)
def test_slices_of_a_number_that_was_asked_for_are_counted_as_the_training_cuts_them(asked, mode, expected):
    """144 sequences together fit into 80 GB only with checkpointing; without, a training would run out of memory."""
    run = four_networks("llamagen_l")
    run = run.model_copy(update={"grpo": run.grpo.model_copy(update={"micro_batch": asked, "checkpointing": mode})})
    found = on_card(run, 1, cards.CARDS[80])
    assert (found.slices, found.largest, found.checkpointing) == expected
    split = plan_micro_batches(run, 144, found.free)
    assert (len(split.slices), split.checkpointing) == (-(-144 // asked), found.checkpointing)


@pytest.mark.parametrize("name", REGISTRY.networks)
def test_weights_of_the_networks_are_those_that_pytorch_counts(name):
    settings = REGISTRY.networks[name]
    with torch.device("meta"):
        network = build_network(settings, REGISTRY.data, empty=True)
    counted = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    assert standing.NETWORK_WEIGHTS[settings.architecture] == counted


@pytest.mark.parametrize("name", ["vq", "vqgan"])
def test_weights_of_the_tokenizers_are_those_that_pytorch_counts(name):
    with torch.device("meta"):
        tokenizer = build_tokenizer(REGISTRY.tokenizers[name], 256)
    counted = sum(tensor.numel() for tensor in (*tokenizer.parameters(), *tokenizer.buffers()))
    assert standing.TOKENIZER_WEIGHTS[name] == counted


def test_every_network_of_a_tuning_is_counted():
    for name in REGISTRY.run_names:
        run = REGISTRY.resolve(name)
        for network in run.networks.values() if run.method == "grpo" else ():
            assert network.architecture in standing.NETWORK_WEIGHTS, name


def test_reference_and_replica_stand_only_where_the_run_has_them():
    run = four_networks("llamagen_l")
    weights = parameters(run.backbone)

    def bytes_with(section, **change):
        return standing.weights_bytes(run.model_copy(update={section: getattr(run, section).model_copy(update=change)}))

    whole = standing.weights_bytes(run)
    assert whole - bytes_with("grpo", beta=0.0) == 4 * weights
    assert whole - bytes_with("sampling", weights_dtype="own") == 2 * weights
    assert whole - bytes_with("grpo", weights_dtype="bfloat16") == (2 + 2 + 2) * weights  # decoded from the policy


def test_plan_names_the_card_of_every_backbone_that_is_tuned(capsys):
    names = ("scale", "preset", "seeds", "threads", "device")
    arguments = argparse.Namespace(target="paper", costs=None, timetable=False, **dict.fromkeys(names))
    plan_command(Context(arguments), arguments)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[-5:]}
    assert list(lines) == ["tuning", "llamagen_b", "llamagen_l", "llamagen_xl", "vqgan"]
    assert "40 GB: 5 x 29, 4.8 GB left" in lines["llamagen_l"]  # on one GPU
    assert lines["llamagen_xl"].count("40 GB") == lines["llamagen_xl"].count("checkpointed") == 2
    assert lines["vqgan"].count("80 GB") == 2
    arguments.target = "llamagen_l-pretrained"  # which trains nothing
    plan_command(Context(arguments), arguments)
    assert "slices x sequences" not in capsys.readouterr().out


def test_a_backbone_too_large_for_every_card_is_said_so():
    huge = four_networks("vqgan")
    huge = huge.model_copy(update={"backbone": huge.backbone.model_copy(update={"layers": 200})})
    assert cards.card_lines([huge])[1].count("a card of more than 80 GB") == 2


@pytest.mark.parametrize(
    ("listed", "good", "words"),
    [
        ("40960\n40960\n40960\n40960", None, ["4 x 40 GB: vqgan: a card of 80 GB is needed",
                                              "llamagen_b, llamagen_l, llamagen_xl (with 2.0 GB to spare) fit"]),
        ("81920", True, ["1 x 80 GB: the updates of llamagen_b, llamagen_l, llamagen_xl, vqgan fit"]),
        ("81559\n81559\n81559\n81559", True, ["4 x 80 GB"]),
        ("81920\n40960", None, ["2 x 40 GB: vqgan"]),  # the smaller of two cards decides
        ("8192", False, ["1 x 8 GB", "llamagen_b, llamagen_l, llamagen_xl: a card of 40 GB is needed; vqgan"]),
        (None, None, ["40 GB for llamagen_b, llamagen_l, llamagen_xl; 80 GB for vqgan"]),
        ("[N/A]", None, ["no memory of a GPU can be read here"]),
    ],
)  # fmt: skip
def test_doctor_says_before_the_first_job_which_backbone_needs_a_larger_card(listed, good, words, monkeypatch):
    monkeypatch.setattr(cards, "run_tool", lambda *command: listed)
    found = cards.check_cards(REGISTRY)
    assert found[0] is good
    for word in words:
        assert word in found[1]
    assert "not counted" in cards.check_cards(Registry("mnist", root=ROOT / "config"))[1]


def test_doctor_has_a_line_on_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "run_tool", lambda *command: "40960")
    found = doctor.examine(REGISTRY, tmp_path, f"sqlite:///{tmp_path}/mlflow.db", None)
    (line,) = [str(finding) for finding in found if finding.check == "memory"]
    assert "1 x 40 GB: vqgan: a card of 80 GB is needed" in line
