"""Hours of a job on a machine, and whether they are counted, measured or assumed."""

from collections.abc import Collection
from typing import NamedTuple

from artune.config.run import PolicyRun
from artune.config.sizes import crops_per_image
from artune.planning.floors import TRAINING_IMAGES
from artune.planning.gpu_hours import Gpu, drawing_hours, encoding_hours, features_hours, training_hours
from artune.planning.plan import Plan
from artune.planning.recipes import code_sequences
from artune.planning.timetable.jobs import Job
from artune.planning.timetable.machines import LOCAL, Machine
from artune.planning.timetable.sizes import asset_bytes, kept_bytes

# Measured on CPU cores: seconds per image of decoding and cropping a JPEG, seconds per file of checking a folder, core
# seconds of one pass over the distances of 50,000 images to 50,000. Both references of a run take some 17 passes.
DECODE, CHECK, PASS, PASSES = 0.0041, 0.00011, 170.0, 17
READERS = 4  # threads that decode images
WHOLE = 20e9  # bytes up to which an external file or folder is read whole for its digest
LOCAL_SECONDS = 5.0  # of a rule that copies a file or writes a table
REFERENCE_IMAGES = {"reference": 10_000, "further_reference": 50_000}


class Duration(NamedTuple):
    """Hours of a job.

    ``source`` says where they come from: ``counted`` (counted work at an assumed share of the GPU's peaks),
    ``measured`` (counted work at the measured share), ``cpu`` (counted work at a CPU's measured speed) or ``assumed``
    (bytes at an assumed speed, or a start-up alone).
    """

    hours: float
    source: str


def duration(plan: Plan, job: Job, machine: Machine, done: Collection[str]) -> Duration:
    """Hours from the start of a job to its end, its start-up and the cluster's waiting included.

    Args:
        plan: plan of the imagenet scale.
        job: the job.
        machine: the machine.
        done: files that exist when the job starts; ``sample`` takes the features as well if the networks are there.
    """
    assumed = machine.assumed
    if job.rule == "asset":
        return Duration(_asset_seconds(plan, job.name, machine) / 3600, "assumed")
    if job.rule in LOCAL:
        return Duration(LOCAL_SECONDS / 3600, "assumed")
    around = assumed.startup + (assumed.wait if machine.cluster else 0.0)
    moved = kept_bytes(plan, job) / (assumed.disk * 1e6)
    gpu, processor = gpu_hours(plan, job, machine, done), _cpu_seconds(plan, job, machine) / 3600
    source = "cpu" if processor > gpu else "measured" if machine.measured else "counted" if gpu else "assumed"
    return Duration(max(gpu, processor) + (around + moved) / 3600, source)


def gpu_hours(plan: Plan, job: Job, machine: Machine, done: Collection[str]) -> float:
    """Hours for which a job computes on its GPUs; 0 for a job that needs none."""
    processes = machine.requests[job.rule].processes if job.rule in machine.requests else 1
    if job.rule == "train":
        return training_hours(plan.registry.resolve(job.name), machine.gpu, processes)
    return _alone(plan, job, machine.gpu, done) / processes


def _alone(plan: Plan, job: Job, gpu: Gpu, done: Collection[str]) -> float:
    """Hours of one GPU for a job whose work the processes of a job share without loss."""
    registry, protocol = plan.registry, plan.registry.evaluation
    judges = [registry.networks[name] for name in set(protocol.networks.values())]
    there = all(path in done for path in plan.evaluation_networks())
    if job.rule == "sample":
        run = registry.resolve(job.name)
        drawn = drawing_hours(run, protocol.samples, protocol.batch, gpu) if isinstance(run, PolicyRun) else 0.0
        return drawn + (features_hours(judges, protocol.samples, gpu) if there else 0.0)
    if job.rule == "features":  # where `sample` has taken the features, this job only renames their file
        taken = f"{job.outputs[0]} beside the samples" in done
        return 0.0 if taken else features_hours(judges, protocol.samples, gpu)
    if job.rule in REFERENCE_IMAGES:
        names = {protocol.features, *protocol.judges.values()}
        return features_hours([registry.networks[name] for name in names], REFERENCE_IMAGES[job.rule], gpu)
    if job.rule in ("train_moments", "class_moments"):
        name = job.name or registry.tree["rewards"]["loo_fid"]["network"]
        return features_hours([registry.networks[name]], registry.data.moment_images or TRAINING_IMAGES, gpu)
    if job.rule == "codes":
        crops = crops_per_image(code_sequences(registry, job.name), TRAINING_IMAGES)
        tokens = (registry.data.image_size // registry.tokenizers[job.name].downsampling) ** 2
        return encoding_hours(TRAINING_IMAGES * crops, tokens, gpu)
    if job.rule in ("figure_samples", "study_samples"):
        run, images = registry.resolve(job.name.split()[-1]), _images(plan, job)
        return drawing_hours(run, images, min(protocol.batch, images), gpu) if isinstance(run, PolicyRun) else 0.0
    if job.rule == "study_judge" and registry.study.judge:
        pairs = sum(setting.pairs for setting in registry.study.settings.values())
        return features_hours([registry.networks[registry.study.judge]], pairs * (2 + registry.study.references), gpu)
    return 0.0


def _images(plan: Plan, job: Job) -> int:
    return max(1, round(kept_bytes(plan, job) / (plan.registry.data.image_size**2 * 3)))


def _asset_seconds(plan: Plan, key: str, machine: Machine) -> float:
    """Seconds of fetching an external file, if it may be fetched, and of checking it."""
    size, assumed = asset_bytes(plan, key), machine.assumed
    fetched = size / (assumed.download * 1e6) if plan.registry.assets[key].url else 0.0
    return fetched + (TRAINING_IMAGES * CHECK if size > WHOLE else size / (assumed.disk * 1e6)) + LOCAL_SECONDS


def _cpu_seconds(plan: Plan, job: Job, machine: Machine) -> float:
    """Seconds for which a job computes on processors, by the speed of a core as measured."""
    threads = machine.requests[job.rule].threads if job.rule in machine.requests else 1
    if job.rule == "evaluate":
        return PASS * PASSES / threads
    if job.rule in ("codes", "train_moments", "class_moments"):
        return TRAINING_IMAGES * DECODE / READERS
    if job.rule == "further_reference":
        return REFERENCE_IMAGES[job.rule] * DECODE / READERS
    return plan.registry.evaluation.samples * DECODE / READERS if job.rule == "real_samples" else 0.0
