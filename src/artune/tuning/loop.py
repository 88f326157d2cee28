"""Run any trainer to its end, saving states on the way; a later run resumes from the last."""

import shutil
from pathlib import Path

import torch

from artune.errors import ArtuneError, SharedError, StoppedError
from artune.runtime.processes import StopRequest
from artune.runtime.progress import Progress, warn
from artune.runtime.resume import clear_states, load_state, save_state
from artune.runtime.seeds import seed_for
from artune.tracking.run_logger import RunLogger
from artune.tuning.saving import Snapshots, StateWriter
from artune.tuning.trainer import Trainer


def stop_if_asked(request: StopRequest, trainer: Trainer, iteration: int) -> None:
    """Stop all processes if any of them received a signal; they wait here for rank 0, which may be saving or drawing.

    Raises:
        StoppedError: a process received a signal.
    """
    if trainer.world.any(request.name is not None):
        raise StoppedError(
            f"{trainer.name} by {request.name or 'a signal to another process'} after {iteration} of "
            f"{trainer.iterations} iterations; the state is saved, the same command resumes from it",
            status=129 if request.name == "SIGHUP" else 143,
        )


def _resume(trainer: Trainer, folder: Path, config: str, snapshots: Snapshots | None) -> int:
    """Bring the trainer to the newest intact state, or begin anew; returns the iterations that are done."""
    world = trainer.world
    found = load_state(folder, config) if world.leads else None
    if found is not None and snapshots is not None and snapshots.lack(found[0]):
        warn(f"{trainer.name}: weights of the first {found[0]} iterations are missing; the training begins anew")
        found = None
    if world.from_leader(found is not None) and not world.leads:
        found = load_state(folder, config)
    if found is not None:
        trainer.load_state_dict(found[1]["trainer"])
        return found[0]
    if world.leads:
        clear_states(folder)
        shutil.rmtree(folder.parent / "grids", ignore_errors=True)
    world.wait()  # weights may have taken the processes minutes to read, and different ones
    trainer.begin()
    return 0


def run_to_end(
    trainer: Trainer, folder: Path, logger: RunLogger, config: str, snapshots: Snapshots | None = None
) -> tuple[int, dict[str, float]]:
    """Train to the end from the newest intact state in ``folder``; returns the first iteration run and the metrics.

    Only rank 0 looks for damaged states, writes and shows progress; the state is the same for any number of processes.
    States are written while the next iterations run; at the end, and after an error, the last is waited for.

    Args:
        trainer: any method.
        folder: the folder of saved states and logs.
        logger: records metrics and pictures.
        config: identity of the training; states saved under another identity are ignored.
        snapshots: weights to keep on the way; a state that has passed one that is missing is ignored.

    Raises:
        ArtuneError: a number was not finite, or another process died; the state before the step is saved. Or a state
            or a log could not be written.
        StoppedError: a signal asked the training to stop; the state is saved.
    """
    world, start = trainer.world, _resume(trainer, folder, config, snapshots)
    if world.leads:
        logger.resume(start)
    metrics: dict[str, float] = {}
    with StopRequest() as request, StateWriter(folder, trainer.device) as writer:
        progress = Progress(f"train {trainer.name}", trainer.iterations, start)
        for iteration in range(start, trainer.iterations):
            own = (world.rank,) if world.rank else ()
            torch.manual_seed(seed_for(trainer.seed, "global", iteration, *own))  # for methods with layer dropout
            try:
                stop_if_asked(request, trainer, iteration)
                metrics, seconds = trainer.step(iteration)
            except ArtuneError as error:
                if world.leads:
                    writer.finish()
                    if writer.last != iteration:  # otherwise this very state is written
                        save_state(folder, iteration, {"config": config, "trainer": trainer.good_state()})
                if isinstance(error, SharedError):  # as soon as one process ends, torchrun ends the others
                    world.wait()
                raise
            if world.leads:
                logger.log(iteration, metrics, seconds)
                if (picture := trainer.picture(iteration, folder.parent / "grids")) is not None:
                    logger.show(iteration, picture)
                writer.check()
                if snapshots is not None:  # before the state, so that no state is ahead of a missing one
                    snapshots.take(iteration + 1)
                if (iteration + 1) % trainer.save_every == 0 and iteration + 1 < trainer.iterations:
                    writer.save(iteration + 1, {"config": config, "trainer": trainer.state_dict()})
                progress.update(iteration + 1, trainer.note(metrics))
    return start, metrics
