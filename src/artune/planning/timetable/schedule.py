"""When each job runs on a machine, and the disk that is in use meanwhile."""

import heapq
from collections import defaultdict
from dataclasses import dataclass, replace

from artune.planning.plan import Plan
from artune.planning.timetable.durations import Duration, duration
from artune.planning.timetable.jobs import Job
from artune.planning.timetable.machines import LOCAL, Machine, Request
from artune.planning.timetable.sizes import brought_bytes, kept_bytes, passing_bytes


@dataclass(frozen=True)
class Run:
    """A job in the timetable: hours from the beginning, GPUs held, bytes of disk in use at most while it runs."""

    job: Job
    start: float
    hours: float
    gpus: int
    source: str
    disk: float

    @property
    def end(self) -> float:
        """Hours from the beginning to the end of the job."""
        return self.start + self.hours


class Schedule:
    """A dry run of jobs on a machine.

    As Snakemake does, it chooses by the rule's priority, then the job that reads the largest temporary files, then the
    one that has been ready longest. On a cluster the chosen jobs, of which the profile allows so many, wait in SLURM's
    queue: a job that needs GPUs overtakes none that waits for them. Downloads follow one another, since they share the
    connection.

    Args:
        plan: plan of the imagenet scale.
        jobs: jobs, each after the jobs that it needs.
        machine: the machine.
    """

    def __init__(self, plan: Plan, jobs: list[Job], machine: Machine):
        self.plan, self.jobs, self.machine = plan, jobs, machine
        self.now, self.disk = 0.0, brought_bytes(plan, jobs)
        self.peak = self.disk
        self.runs: dict[int, Run] = {}  # number of a job in ``jobs`` -> its place in the timetable
        makers = {output: number for number, job in enumerate(jobs) for output in job.outputs}
        self._needs = [{makers[path] for path in job.inputs if path in makers} for job in jobs]
        self._users: dict[int, set[int]] = defaultdict(set)
        for number, needed in enumerate(self._needs):
            for other in needed:
                self._users[other].add(number)
        self._done: set[int] = set()
        self._files: set[str] = set()
        self._ready: list[tuple[int, float, float, int]] = []  # priority, temporary bytes, hour, number
        self._queue: list[int] = []  # jobs that wait in SLURM's queue
        self._running: list[tuple[float, int]] = []
        self._simulate()

    def _simulate(self) -> None:
        for number in range(len(self.jobs)):
            self._consider(number)
        while self._ready or self._running:
            self._start_all()
            self.now, number = heapq.heappop(self._running)
            self._end(number)

    def _consider(self, number: int) -> None:
        if self._needs[number] <= self._done:
            temporary = sum(kept_bytes(self.plan, self.jobs[other]) for other in self._temporary(number))
            self._ready.append((-self.jobs[number].priority, -temporary, self.now, number))

    def _temporary(self, number: int) -> list[int]:
        """The jobs that made the temporary files that a job reads."""
        return [other for other in self._needs[number] if self.jobs[other].temporary in self.jobs[number].inputs]

    def _start_all(self) -> None:
        """Start every job that is ready and fits the machine."""
        ready, held = [entry[-1] for entry in sorted(self._ready)], False
        if self.machine.cluster:
            ready = self._submit(ready)
        for number in ready:
            request = self.request(self.jobs[number])
            if (held and request.gpus) or not self._fits(self.jobs[number], request):
                held = held or request.gpus > 0
            else:
                self._start(number, request)
        self._ready = [entry for entry in self._ready if entry[-1] not in self.runs]
        self._queue = [number for number in self._queue if number not in self.runs]

    def _submit(self, ready: list[int]) -> list[int]:
        """Fill SLURM's queue from the ready jobs; returns the jobs that may start, those of the queue in its order."""
        local = [number for number in ready if self.jobs[number].rule in LOCAL]
        busy = sum(self.jobs[number].rule not in LOCAL for _, number in self._running) + len(self._queue)
        others = [number for number in ready if number not in local and number not in self._queue]
        self._queue += others[: max(0, (self.machine.jobs or 0) - busy)]
        return [*local, *self._queue]

    def request(self, job: Job) -> Request:
        """What a job takes of the machine."""
        return self.machine.requests.get(job.rule, Request())

    def _fits(self, job: Job, request: Request) -> bool:
        others = [self.jobs[number] for _, number in self._running]
        if job.rule == "asset" and any(other.rule == "asset" for other in others):
            return False
        gpus = sum(self.request(other).gpus for other in others)
        threads = sum(self.request(other).threads for other in others)
        fits = threads + request.threads <= self.machine.assumed.cores or not others
        return fits and gpus + request.gpus <= self.machine.gpus

    def _start(self, number: int, request: Request) -> None:
        job = self.jobs[number]
        took: Duration = duration(self.plan, job, self.machine, self._files)
        if job.rule == "sample" and set(self.plan.evaluation_networks()) <= self._files:
            self._files.add(f"{job.outputs[0].replace('samples.npz', 'features.npz')} beside the samples")
        self._use(kept_bytes(self.plan, job) + passing_bytes(self.plan, job))
        heapq.heappush(self._running, (self.now + took.hours, number))
        self.runs[number] = Run(job, self.now, took.hours, request.gpus, took.source, self.disk)

    def _use(self, size: float) -> None:
        """Count ``size`` bytes more on the disk, for the running jobs as well."""
        self.disk += size
        self.peak = max(self.peak, self.disk)
        for _, number in self._running:
            self.runs[number] = replace(self.runs[number], disk=max(self.runs[number].disk, self.disk))

    def _end(self, number: int) -> None:
        job = self.jobs[number]
        self._done.add(number)
        self._files.update(job.outputs)
        self.disk -= passing_bytes(self.plan, job)
        for source in self._temporary(number):
            if self._users[source] <= self._done:
                self.disk -= kept_bytes(self.plan, self.jobs[source])
        for user in self._users[number]:
            self._consider(user)

    @property
    def table(self) -> list[Run]:
        """The jobs by their start."""
        return sorted(self.runs.values(), key=lambda run: (run.start, -run.hours))

    @property
    def hours(self) -> float:
        """Hours from the beginning to the end of the last job."""
        return max((run.end for run in self.runs.values()), default=0.0)

    @property
    def gpu_hours(self) -> float:
        """Hours for which GPUs are held, all GPUs together."""
        return sum(run.hours * run.gpus for run in self.runs.values())
