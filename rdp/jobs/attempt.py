"""One attempt at training a run: resume, train with checkpoints, and commit the record."""

import logging
import resource
import socket
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import Terminated, UserError
from rdp.jobs import energy
from rdp.jobs.event_files import EventFile
from rdp.jobs.progress import RunProgress
from rdp.jobs.signals import termination
from rdp.spec import Choice, RunSpec
from rdp.store import Identity, RunRecord, Store, timestamp
from rdp.store.record import PREDICTIONS, WEIGHTS, Energy, Numbers, Status, Telemetry
from rdp.training import checkpoint
from rdp.utils import files, machine

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from rdp.data.dataset import Prepared
    from rdp.training.process_group import ProcessGroup
    from rdp.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobContext:
    """What the attempts of a job share."""

    store: Store  # the run store
    device: "torch.device"  # where to train
    checkpoint_seconds: float  # time between checkpoints
    group: "ProcessGroup"  # the processes that train each run together
    bar: "Progress | None"  # shows progress, if any
    event_folder: Path | None = None  # where to write event files for TensorBoard, if anywhere


class RunAttempt:
    """One attempt at one run, in a directory of its own.

    ``stack`` is that of its identity, see `rdp.store.fingerprint.stack_of`. ``choice`` is that of its sweep,
    if it has one.
    """

    def __init__(
        self,
        job: JobContext,
        spec: RunSpec,
        data: "Prepared",
        identity: Identity,
        stack: dict[str, str],
        choice: Choice | None,
    ) -> None:
        self.job, self.spec, self.data, self.identity, self.stack = job, spec, data, identity, stack
        self.choice = choice
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

        trainer = Trainer(self.spec, self.data, self.job.device, self.choice, self.group)
        self._resume(trainer)
        events = EventFile(self.job.event_folder if self.group.is_main else None, self.spec.run)
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
            events.update(trainer)

        try:
            trainer.train(after_step)
            values, predictions, weights = trainer.finish()
        finally:
            trainer.batches.close()
            events.close()
        numbers = Numbers(**values)
        if numbers.diverged_step is not None:
            reason = f"the loss was not finite at step {numbers.diverged_step}"
            return self._record("diverged", reason, numbers, _timings(trainer))
        if weights and self.group.is_main:
            self._write_arrays(predictions, weights)
        return self._record("completed", None, numbers, _timings(trainer))

    def _resume(self, trainer: "Trainer") -> None:
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

        with files.atomic_write(self.folder / PREDICTIONS) as part:
            save_arrays(predictions, part)
        with files.atomic_write(self.folder / WEIGHTS) as part:
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
            stack=self.stack,
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
