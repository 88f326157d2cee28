"""What stands under a figure, and which figures are one where the data set has no classes of the paper's."""

import shutil

import pytest
from project import ROOT

from artune.config.paper import available_figures, figure_caption, ranges, same_figures
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.planning.plan import Plan
from artune.results.figures.toy import Toy

MNIST, IMAGENET, FASHION = (Registry(scale, root=ROOT / "config") for scale in ("mnist", "imagenet", "fashion"))
PAPERS = [f"figure{number}" for number in range(1, 27)]


def test_a_scale_with_its_own_classes_has_one_figure_of_samples_with_guidance_and_one_without():
    assert same_figures(MNIST, "figure3") == ["figure3", *PAPERS[6:]]
    assert same_figures(MNIST, "figure6") == ["figure4", "figure6"]
    assert available_figures(MNIST) == PAPERS[:5]
    assert available_figures(FASHION) == [*PAPERS[:5], "extra_curve"]
    assert all(not figure.classes and figure.per_class == 8 for figure in MNIST.figures.values() if figure.runs[1:])
    for number in (6, 7, 26):  # drawn from the samples of the one that it is
        files = plan("mnist").figure(f"figure{number}")
        assert [path.split("/")[-2] for path in files] == ["figure4" if number == 6 else "figure3"] * 2


def test_the_papers_scale_has_all_of_its_figures_and_their_classes():
    assert available_figures(IMAGENET) == PAPERS
    assert all(same_figures(IMAGENET, key) == [key] for key in PAPERS)
    assert IMAGENET.figures["figure9"].classes == ("hen", "ostrich")


def test_a_figure_with_a_name_of_its_own_keeps_its_classes_at_every_scale(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    runs = "[llamagen_l-pretrained, llamagen_l-ours]"
    with (root / "figures.yaml").open("a") as file:
        file.write(f"my_nines: {{kind: samples, title: Nines, runs: {runs}, classes: [nine]}}\n")
    registry = Registry("mnist", root=root)
    assert registry.figures["my_nines"].classes == ("nine",)
    assert available_figures(registry) == [*PAPERS[:5], "my_nines"]
    assert "the paper shows" not in figure_caption(registry, "my_nines")


def test_no_caption_of_a_scale_with_its_own_classes_names_classes_of_the_paper():
    named = {name.lower() for figure in IMAGENET.figures.values() for name in figure.classes}
    for key in PAPERS[7:]:
        caption = figure_caption(MNIST, key)
        assert not any(name in caption.lower() for name in named)
        assert "The paper's Figures 3 and 7-26 show classes of ImageNet; here they are this one." in caption
    assert "Golden retriever and bee." in figure_caption(IMAGENET, "figure14")


@pytest.mark.parametrize("key", PAPERS[1:4])
def test_a_caption_says_that_a_scale_is_not_comparable(key):
    assert figure_caption(MNIST, key).endswith("mnist scale: not comparable with the paper's numbers.")


def test_figure_2s_caption_names_its_runs_and_says_which_of_them_have_no_ema_fid():
    alone = figure_caption(MNIST, "figure2")
    assert alone.startswith("Training dynamics. llamagen_l-ours: (a) sum")
    assert "15 iterations" in alone
    compared = figure_caption(MNIST, "figure2", 5, ("llamagen_l-argrpo", "llamagen_l-kl0"))
    assert "llamagen_l-ours compared with llamagen_l-argrpo and llamagen_l-kl0: (a) sum" in compared
    assert "5 iterations" in compared
    assert "there is no EMA FID (llamagen_l-argrpo)" in compared


def test_the_toys_caption_has_the_numbers_of_its_settings():
    caption, toy = figure_caption(MNIST, "figure5"), Toy()
    for number in (f"{toy.batch} points per iteration", f"alpha {toy.alpha}.", f"after {toy.iterations} iterations"):
        assert number in caption


def test_the_curves_caption_says_their_steps_and_what_the_bars_are(monkeypatch):
    caption = figure_caption(FASHION, "extra_curve", seeds=2)  # whose runs on the way have one seed
    assert "After 0, 25, 50 and 100 % of the iterations of ours; AR-GRPO;" in caption
    assert "Bars: standard errors of the evaluation;" in caption
    monkeypatch.setattr(FASHION, "common_seeds", lambda runs, seeds: seeds)
    assert "Bars: standard errors of the means over 2 seeds;" in figure_caption(FASHION, "extra_curve", seeds=2)


@pytest.mark.parametrize(
    ("numbers", "text"), [([3], "3"), ([4, 6], "4 and 6"), ([3, 7, 8, 9], "3 and 7-9"), ([1, 3, 5, 6], "1, 3 and 5-6")]
)
def test_numbers_in_a_row_are_a_range(numbers, text):
    assert ranges(numbers) == text


def plan(scale: str) -> Plan:
    return Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": scale}, ROOT / "config")


def test_a_caption_and_a_title_draw_no_sample_again():
    assert plan("imagenet").figure_draws("figure9") == {
        "classes": ("hen", "ostrich"), "number": 2, "per_class": 6, "seed": 9,
    }  # fmt: skip
