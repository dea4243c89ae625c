"""Training of a job's runs in this process: a record and a receipt for each."""

import logging
import resource
import socket
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.data import prepared
from rdp.errors import Terminated, UserError
from rdp.jobs import energy, tuning
from rdp.jobs.locks import lock_run
from rdp.jobs.progress import RunProgress, progress_bar
from rdp.jobs.signals import termination
from rdp.spec import RunSpec
from rdp.store import Identity, RunRecord, Store, fingerprint, timestamp
from rdp.store.record import PREDICTIONS, WEIGHTS, Energy, Numbers, Status, Telemetry
from rdp.training import checkpoint
from rdp.utils import digest, files, machine

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from rdp.data.dataset import Prepared
    from rdp.training.process_group import ProcessGroup
    from rdp.training.trainer import Trainer

log = logging.getLogger(__name__)


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is ``cuda`` where torch can use a GPU.

    Raises:
        UserError: an unknown name, or ``cuda`` without a GPU.
    """
    import torch

    if name not in {"auto", "cpu", "cuda"}:
        raise UserError(f"device: expected auto, cpu or cuda, got '{name}'")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda requested, but torch can use no GPU on this machine")
    return name


def run_identity(spec: RunSpec, data_digest: str, stack: dict[str, str]) -> Identity:
    """The four digests of a run. Equal digests mean bitwise equal numbers."""
    return Identity(spec=spec.spec_digest, data=data_digest, code=fingerprint.code_of(spec), stack=digest.of(stack))


def run_job(
    specs: Iterable[RunSpec],
    results: Path,
    device: str,
    *,
    checkpoint_seconds: float = 60,
    bar: bool = True,
    group: "ProcessGroup | None" = None,
    known_rates: Mapping[str, float] | None = None,
) -> list[RunRecord]:
    """Train runs with the same thread count one after another, each unless its record exists.

    The runs of the sweeps that choose their learning rates are trained before them. A run that fails gets a record
    with the reason, and the others are still trained.

    Args:
        specs: the runs; an iterator is advanced when the run before is done.
        results: the results directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_seconds: time between checkpoints.
        bar: whether to show a progress bar on a terminal.
        group: the processes that train each run together, all of which call this; by default only this one.
        known_rates: learning rates by cell, for which no sweep is run.

    Raises:
        UserError: missing data, or a directory that cannot be written.
        Terminated: SIGTERM came. A run in training has written a checkpoint, one in its last evaluation its record.
            No other run was started.
    """
    from rdp.training.process_group import SINGLE

    group = group or SINGLE
    with progress_bar(bar and group.is_main) as shown, termination.on_sigterm():
        job = _Job(results, choose_device(device), checkpoint_seconds, shown, group, dict(known_rates or {}))
        return [job.train(spec) for spec in specs]


class _Job:
    """The store, device, datasets and learning rates that the runs of a job share."""

    def __init__(
        self,
        results: Path,
        device: str,
        checkpoint_seconds: float,
        bar: "Progress | None",
        group: "ProcessGroup",
        rates: dict[str, float],
    ) -> None:
        import torch

        self.results, self.store, self.group, self.bar = results, Store(results), group, bar
        self.device = torch.device(device, group.rank) if group.size > 1 and device == "cuda" else torch.device(device)
        self.stack = fingerprint.stack(device)
        self.checkpoint_seconds = checkpoint_seconds
        self._rates = rates  # by cell
        self._datasets: dict[str, Prepared] = {}

    def train(self, spec: RunSpec) -> RunRecord:
        """The record of a run, which is trained if there is none."""
        from rdp.training.trainer import make_deterministic

        termination.check()
        make_deterministic(spec.threads)
        identity = run_identity(spec, self.dataset(spec.dataset).digest, self.stack)
        rate = None
        if spec.tuning and self._stored(spec, identity) is None:
            rate = self._tuned_rate(spec)  # before the lock: nobody should wait for a whole sweep
        is_main = self.group.is_main
        with lock_run(self.store, spec.run, termination.check) if is_main else nullcontext():
            record = self._stored(spec, identity)
            if record is None:
                record = RunAttempt(self, spec, identity, rate).run()
            elif is_main:
                self.store.remove_leftovers(spec.run)
                log.info("%s: already %s, skipped", spec.run, record.status)
            if is_main:
                self.store.write_receipt(spec.run, record)
        return record

    def dataset(self, name: str) -> "Prepared":
        """A dataset, prepared if it is not."""
        if name not in self._datasets:
            self.group.on_main(lambda: prepared.ensure(name, self.results))
            self._datasets[name] = prepared.load(name, self.results)
        return self._datasets[name]

    def _stored(self, spec: RunSpec, identity: Identity) -> RunRecord | None:
        return self.group.on_main(lambda: self.store.find(spec.run, identity))

    def _tuned_rate(self, spec: RunSpec) -> float:
        """The learning rate that a cell's sweep chooses.

        It uses records of this stack only: otherwise the choice would not follow from the run's identity.
        """
        if spec.cell not in self._rates:
            records = [self.train(candidate) for candidate in spec.candidates()]
            self._rates[spec.cell] = tuning.choose(spec, records).learning_rate
        return self._rates[spec.cell]


class RunAttempt:
    """One attempt at one run, in a directory of its own."""

    def __init__(self, job: _Job, spec: RunSpec, identity: Identity, learning_rate: float | None) -> None:
        self.job, self.spec, self.identity, self.learning_rate = job, spec, identity, learning_rate
        self.store, self.group = job.store, job.group
        # Attempts before this one; a failed run is in the folder of the run.
        self.earlier = [*self.store.attempts(spec.run), self.store.folder(spec.run)]
        self.folder = self.group.on_main(lambda: self.store.new_attempt(spec.run))
        self.resumed_at: list[int] = []
        self.seconds_before = 0.0  # of the attempts that it resumes
        self.started = time.time()
        self.clock = time.perf_counter()
        # The main process reads the GPUs of all: they are on this machine.
        gpus = range(self.group.size) if job.device.type == "cuda" and self.group.is_main else ()
        self.meter = energy.make_meter(gpus)

    def run(self) -> RunRecord:
        """Train to the end and commit the record."""
        run = self.spec.run
        progress = RunProgress(run, self.folder if self.group.is_main else None, self.job.bar)
        try:
            record = self._train(progress)
        except (Terminated, KeyboardInterrupt, UserError):
            progress.stop()
            raise
        except Exception as error:  # of any kind: the other runs are still trained, and the report names it
            if self.group.size > 1:  # the others would wait for this process: all restart from a checkpoint
                raise
            detail = "".join(traceback.format_exception(error))
            log.error("%s: failed\n%s", run, detail)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            record = self._record("failed", reason, Numbers(), {"traceback": detail})
        finally:
            progress.close()
        record = self.group.on_main(lambda: self.store.commit(run, self.folder, record))
        log.info("%s: %s %s", run, record.status, record.reason or _describe_accuracy(record.numbers))
        return record

    def _train(self, progress: RunProgress) -> RunRecord:
        from rdp.training.trainer import Trainer

        data = self.job.dataset(self.spec.dataset)
        trainer = Trainer(self.spec, data, self.job.device, self.learning_rate, self.group)
        self._resume(trainer)
        last = time.monotonic()

        def after_step(trainer: "Trainer") -> None:
            nonlocal last
            if time.monotonic() - last >= self.job.checkpoint_seconds or termination.requested:
                if self.group.is_main:
                    self._save_checkpoint(trainer)
                last = time.monotonic()
                termination.check()
            self.meter.poll()
            progress.update(trainer.step, trainer.steps, trainer.history)

        try:
            trainer.train(after_step)
            values, predictions, weights = trainer.finish()
        finally:
            trainer.batches.close()
        numbers = Numbers(**values)
        if numbers.diverged_step is not None:
            reason = f"the loss was not finite at step {numbers.diverged_step}"
            return self._record("diverged", reason, numbers, _timings(trainer))
        if weights and self.group.is_main:
            self._write_arrays(predictions, weights)
        return self._record("completed", None, numbers, _timings(trainer))

    def _resume(self, trainer: "Trainer") -> None:
        """Continue from the latest checkpoint of this identity, if there is one."""
        latest, warnings = self.group.on_main(lambda: checkpoint.latest(self.earlier, self.identity.model_dump()))
        for line in warnings:
            log.warning(line)
        if latest is None:
            return
        trainer.restore(latest)
        self.resumed_at = [*latest.state["resumed_at"], latest.step]
        self.seconds_before = latest.state["seconds"]
        self.meter.earlier = latest.state["energy"]
        log.info("%s: resuming from step %d", self.spec.run, latest.step)

    def _save_checkpoint(self, trainer: "Trainer") -> None:
        """Write a checkpoint. If that fails, training goes on with the previous one."""
        tensors, state = trainer.state()
        state |= {"resumed_at": self.resumed_at, "seconds": self._seconds(), "energy": self.meter.joules()}
        try:
            identity = self.identity.model_dump()
            checkpoint.save(self.folder, checkpoint.Checkpoint(trainer.step, identity, tensors, state))
        except UserError as error:
            log.warning(
                "%s: no checkpoint at step %d, keeping the previous one: %s", self.spec.run, trainer.step, error
            )

    def _write_arrays(self, predictions: dict[str, Any], weights: "dict[str, torch.Tensor]") -> None:
        from safetensors.numpy import save_file as save_arrays
        from safetensors.torch import save_file as save_tensors

        with files.whole(self.folder / PREDICTIONS) as part:
            save_arrays(predictions, part)
        with files.whole(self.folder / WEIGHTS) as part:
            save_tensors(weights, part)

    def _seconds(self) -> float:
        """Duration so far, with the attempts that this one resumes."""
        return self.seconds_before + time.perf_counter() - self.clock

    def _record(self, status: Status, reason: str | None, numbers: Numbers, timings: dict[str, Any]) -> RunRecord:
        telemetry = Telemetry(
            started=timestamp(self.started),
            ended=timestamp(time.time()),
            seconds=self._seconds(),
            energy=Energy(**self.meter.joules()),
            resumed_at=self.resumed_at,
            process_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            host=socket.gethostname(),
            device="cuda" if self.job.device.type == "cuda" else "cpu",
            stack=self.job.stack,
            system=machine.system(),
            versions=machine.versions(),
            commit=machine.commit(),
            **timings,
        )
        return RunRecord(
            spec=self.spec.model_dump(mode="json"),
            identity=self.identity,
            status=status,
            reason=reason,
            numbers=numbers,
            telemetry=telemetry,
        )


def _describe_accuracy(numbers: Numbers) -> str:
    """``test accuracy 0.9123``; for a run of a sweep its validation accuracy."""
    split, value = "test", numbers.test_accuracy
    if value is None:
        split, value = "validation", numbers.history[-1].validation_accuracy
    return f"{split} accuracy {value:.4f}"


def _timings(trainer: "Trainer") -> dict[str, Any]:
    """Times of training and evaluation, in seconds, and training examples per second in the median epoch."""
    seconds, size = trainer.epoch_seconds, trainer.batches.steps_per_epoch
    steps = [min(size, trainer.steps - start) for start in range(0, trainer.steps, size)]
    rates = sorted(n * trainer.recipe.batch_size / s for n, s in zip(steps, seconds, strict=False))
    return {
        "epoch_seconds": seconds,
        "train_seconds": sum(seconds),
        "evaluate_seconds": trainer.evaluate_seconds,
        "examples_per_second": rates[(len(rates) - 1) // 2] if rates else None,
    }
