"""``artune bench rewards | update | sample``: the other stages alone, with random weights."""

import functools
import itertools
import tempfile
from pathlib import Path

import torch

from artune.bench.measure import BenchRow, Request, Timing, counted, dtype_name, forget_peak, now, peak, row, time_call
from artune.bench.random_weights import random_batch, random_loo_fid, random_networks, random_policy, random_renderer
from artune.evaluation.features import Extractor
from artune.evaluation.samples import Drawing, draw_all, draw_labels
from artune.planning.gpu_hours import update_floor
from artune.rewards.reward import build_rewards
from artune.runtime.chunks import Chunks
from artune.runtime.clock import Clock
from artune.runtime.distributed import ALONE
from artune.runtime.seeds import generator_for
from artune.sampling.batch import RolloutBatch
from artune.sampling.generate import Sampler
from artune.tuning.policy_update import PolicyUpdate
from artune.tuning.saving import HostCopy


def bench_rewards(request: Request) -> list[BenchRow]:
    """Time decoding, each reward's network, and LOO-FID's features and arithmetic, on one batch of random tokens."""
    run, device = request.run, request.device
    torch.manual_seed(0)
    render = random_renderer(run, device, getattr(torch, run.grpo.decode_dtype))
    networks = random_networks(run.networks, run.data, device)
    drawn = random_batch(request)
    batch = RolloutBatch(drawn.class_ids, drawn.tokens, render(drawn.tokens))
    one = RolloutBatch(batch.class_ids[:1], batch.tokens[:1], batch.images[:1])
    half = torch.autocast(device.type, torch.bfloat16, enabled=run.rewards.autocast == "bfloat16")
    single, seen = torch.float32, getattr(torch, "bfloat16" if run.rewards.autocast == "bfloat16" else "float32")
    decoded = getattr(torch, run.grpo.decode_dtype)
    rows = [
        row(
            "decode",
            request,
            time_call(lambda: render(batch.tokens), request),
            counted(lambda: render(one.tokens), request.batch),
            request.ceiling(decoded),
            arithmetic=dtype_name(decoded),
        )
    ]
    for reward in build_rewards(run.rewards, run.data, networks):
        with half:
            timing = time_call(functools.partial(reward, batch), request)
            work = counted(functools.partial(reward, one), request.batch)
        paper = (reward.name,) if reward.name in ("clip", "hps") else ()
        rows.append(row(reward.name, request, timing, work, request.ceiling(seen), paper, arithmetic=dtype_name(seen)))
    loo_fid = random_loo_fid(run, networks, device)
    if loo_fid is None:
        return rows
    features = loo_fid.features(batch)
    work = counted(lambda: loo_fid.features(one), request.batch)
    rows.append(row("LOO-FID features", request, time_call(lambda: loo_fid.features(batch), request), work,
                    request.ceiling(single), arithmetic=dtype_name(single)))  # fmt: skip
    loo_fid(features, batch.class_ids)
    loo_fid.commit()  # the timed calls have a state, as in every iteration but the first
    timing = time_call(lambda: loo_fid(features, batch.class_ids), request)
    rows.append(row("LOO-FID", request, timing, paper=("loo_fid",), arithmetic="float64"))
    return rows


def bench_update(request: Request) -> list[BenchRow]:
    """Time the reference's log-probabilities and all epochs on random tokens; the sum with its share of the peak.

    The copy of the state before a second epoch, which rank 0 keeps in a training, is part of the update.
    """
    run, device = request.run, request.device
    torch.manual_seed(0)
    update = PolicyUpdate(run, random_policy(run.backbone, device), device, ALONE)
    batch, share = random_batch(request), ALONE.share(request.batch)
    advantages = torch.randn(1, request.batch, generator=generator_for("bench", "advantages")).to(device)
    timings = {key: Timing() for key in ("reference", "keep", "optimizer", "update", "reference and update")}
    kept = HostCopy(device)
    forget_peak(device)
    for repeat in range(-1, request.repeats + 1):  # AdamW's states, and so their buffers, are made at the first
        clock = Clock(device)
        update(batch, share, advantages, advantages.new_ones(1), 0, clock, lambda: kept.take(update.state_dict()))
        seconds = {key.removeprefix("time/"): value for key, value in clock.seconds.items()}
        seconds["reference and update"] = seconds.get("reference", 0.0) + seconds["update"]
        for stage, timing in timings.items():
            if repeat > 0 and stage in seconds:
                timing.seconds.append(seconds[stage])
                timing.peak = peak(device)
    used = torch.bfloat16 if run.grpo.autocast == "bfloat16" else torch.float32
    cut = update.planned(len(batch.tokens))
    split = f"slices {len(cut.slices)}" + (", checkpointed" if cut.checkpointing else "")
    rows = []
    for stage, timing in timings.items():
        whole = stage == "reference and update"
        if timing.seconds:
            work, ceiling = (update_floor(run), request.ceiling(used)) if whole else (None, None)
            rows.append(row(stage, request, timing, work, ceiling, ("update",) if whole else (),
                            arithmetic=dtype_name(used), split=split))  # fmt: skip
    return rows


def bench_sample(request: Request) -> list[BenchRow]:
    """Time drawing, decoding, features and writing per batch of the evaluation's size; extrapolate to all samples.

    Raises:
        ArtuneError: these sizes cannot be timed.
    """
    run, device, protocol = request.run, request.device, request.registry.evaluation
    size = min(protocol.batch, request.images or (request.batch if device.type == "cpu" else protocol.batch))
    few = protocol.model_copy(update={"samples": size * (request.repeats + 1), "batch": size})
    torch.manual_seed(0)
    names = {name: request.registry.networks[name] for name in sorted(set(few.networks.values()))}
    extractor = Extractor(few, run.data, random_networks(names, run.data, device), device)
    policy, render = random_policy(run.backbone, device), random_renderer(run, device)
    batches = draw_labels(few, run.data.classes, run.seed).split(size)
    drawing = Drawing(Sampler(policy, run.sampling), render, batches, (few.seed, run.seed), device)
    ends: list[float] = []
    forget_peak(device)
    with tempfile.TemporaryDirectory() as folder:
        draw_all(
            range(request.repeats + 1),
            batches,
            Chunks(Path(folder, "images"), ""),
            Chunks(Path(folder, "features"), ""),
            drawing.chunk,
            extractor,
            lambda at: ends.append(now(device)),
        )
    each = [later - earlier for earlier, later in itertools.pairwise(ends)]
    whole = Timing([seconds * protocol.samples / size for seconds in each], peak(device))
    one = row(f"a batch of {size}", request, Timing(each, whole.peak))
    extrapolated = row(f"{protocol.samples:,} samples, extrapolated", request, whole)
    per_second = {"images/s": size / Timing(each).median, "batches timed": len(each)}
    return [found | per_second | {"images": size} for found in (one, extrapolated)]
