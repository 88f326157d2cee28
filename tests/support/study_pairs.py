"""A small file of pairs made without a model: squares whose colours tell from which side they are."""

import io
from pathlib import Path

from PIL import Image

from artune.config.tables import TASKS
from artune.results.study.pairs import Item, Pairs, image_name, write_pairs

COLOURS = {"ours": (40, 90, 200), "pretrained": (210, 120, 30), "real": (60, 160, 70), "scrambled": (150, 30, 60)}


def png(colour: tuple[int, int, int], mark: int, side: int = 24) -> bytes:
    """PNG bytes of a square of one colour; one pixel holds the number ``mark``, so no two images are equal."""
    image = Image.new("RGB", (side, side), colour)
    image.putpixel((1, 1), (mark % 256, mark // 256, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_study(
    path: Path,
    pairs: int = 4,
    checks: int = 2,
    session: int = 100,
    shared: int = 0,
    check_every: int = 4,
    settings=("CFG",),
) -> Pairs:
    """Write a file with ``pairs`` pairs per setting and task and ``checks`` checks per task."""
    images, items, mark = {}, [], 0

    def add(side: str) -> str:
        nonlocal mark
        mark += 1
        data = png(COLOURS[side], mark)
        images[image_name(data)] = data
        return image_name(data)

    def item(kind: str, setting: str, task: str, at: int) -> Item:
        sides = ("ours", "pretrained") if kind == "pair" else ("real", "scrambled")
        return Item(
            id=f"{setting or 'check'}/{task}/{at}",
            kind=kind,
            setting=setting,
            task=task,
            class_id=0,
            draw=at,
            left=sides[at % 2],
            images={side: add(side) for side in sides},
            references=tuple(add("real") for _ in range(5)) if task == TASKS[1] else (),
            shared=kind == "pair" and at < shared,
        )

    for task in TASKS:
        items += [item("pair", setting, task, at) for setting in settings for at in range(pairs)]
        items += [item("check", "", task, at) for at in range(checks)]
    study = Pairs(
        scale="mnist",
        note="a test",
        seed=0,
        session=session,
        check_every=check_every,
        check_share=0.75,
        items=tuple(items),
    )
    write_pairs(path, study, images)
    return study
