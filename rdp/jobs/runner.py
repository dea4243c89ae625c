"""One job: train the seeds of a cell in one process, and leave a record and a receipt for each."""

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
from rdp.jobs.locks import lock
from rdp.jobs.progress import Reporter, RunProgress
from rdp.jobs.signals import terminable
from rdp.spec import RunSpec
from rdp.store import Identity, RunRecord, Store, fingerprint, timestamp
from rdp.store.record import PREDICTIONS, WEIGHTS, Energy, Numbers, Status, Telemetry
from rdp.training import checkpoint
from rdp.utils import digest, files, machine

if TYPE_CHECKING:
    from rdp.training.process_group import World


def choose_device(wanted: str) -> str:
    """``cpu`` or ``cuda``, for a study's ``auto``, ``cpu`` or ``cuda``."""
    import torch

    if wanted not in {"auto", "cpu", "cuda"}:
        raise UserError(f"device: auto, cpu or cuda is needed, found '{wanted}'")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, and this machine has no GPU that torch can use")
    return wanted


def identity(spec: RunSpec, data_digest: str, stack: dict[str, str]) -> Identity:
    """The four digests of a run. Same four, same numbers, bit for bit."""
    return Identity(spec=spec.spec_digest, data=data_digest, code=fingerprint.code_of(spec), stack=digest.of(stack))


def run_job(
    specs: Iterable[RunSpec],
    results: Path,
    device: str,
    *,
    checkpoint_seconds: float = 60,
    bar: bool = True,
    world: "World | None" = None,
    known_rates: Mapping[str, float] | None = None,
) -> list[RunRecord]:
    """Train runs that share a thread count, one after another, each unless its record is there already.

    Where a sweep chooses their learning rate, its runs are trained first, unless theirs are.

    A run that fails is recorded as failed, with its reason, and the others go on.

    Args:
        specs: the runs, of one cell or several; each is asked for when the one before is done.
        results: the results directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_seconds: time between checkpoints.
        bar: whether to draw a progress bar on a terminal.
        world: the processes that train together, all of which call this; None for this one alone.
        known_rates: learning rates by cell that need no sweep, as those of records that are trained again.

    Raises:
        UserError: what concerns the whole job: data that are absent, a directory that cannot be written.
        Terminated: SIGTERM came. A run in training has written its checkpoint, one in its last evaluation its
            record, and no other was begun.
    """
    import torch

    from rdp.training.process_group import ALONE
    from rdp.training.trainer import make_deterministic

    world = world or ALONE
    chosen = choose_device(device)
    where = torch.device(chosen, world.rank) if world.size > 1 and chosen == "cuda" else torch.device(chosen)
    stack = fingerprint.stack(chosen)
    store = Store(results)
    loaded: dict[str, prepared.Prepared] = {}
    rates = dict(known_rates or {})
    with Reporter(bar and world.leads, silent=not world.leads) as reporter, terminable():

        def chosen_rate(spec: RunSpec) -> float:
            """The learning rate that a cell's sweep chose.

            From the sweep's records on this very stack: else the choice would not follow from the run's identity.
            """
            if spec.cell not in rates:
                records = [train(candidate) for candidate in spec.candidates()]
                rates[spec.cell] = tuning.choose(spec, records).learning_rate
            return rates[spec.cell]

        def train(spec: RunSpec) -> RunRecord:
            terminable.look()
            make_deterministic(spec.threads)
            if spec.dataset not in loaded:
                world.first(lambda: prepared.ensure(spec.dataset, results))
                loaded[spec.dataset] = prepared.load(spec.dataset, results)
            data = loaded[spec.dataset]
            who = identity(spec, data.digest, stack)
            rate = None
            if spec.tuning and world.first(lambda: store.find(spec.run, who)) is None:
                rate = chosen_rate(spec)  # before the lock, which nobody should wait for through a whole sweep
            with lock(store, spec.run, reporter.say, terminable.look) if world.leads else nullcontext():
                record = world.first(lambda: store.find(spec.run, who))
                if record is None:
                    job = _Attempt(spec, data, where, who, stack, store, checkpoint_seconds, rate, world)
                    record = job.run(reporter)
                elif world.leads:
                    store.remove_leftovers(spec.run)
                    reporter.say(f"{spec.run}: already {record.status}, kept")
                if world.leads:
                    store.write_receipt(spec.run, record)
            return record

        return [train(spec) for spec in specs]


class _Attempt:
    """One attempt at one run, in a directory of its own."""

    def __init__(
        self,
        spec: RunSpec,
        data: prepared.Prepared,
        device: Any,
        who: Identity,
        stack: dict[str, str],
        store: Store,
        checkpoint_seconds: float,
        learning_rate: float | None,
        world: "World",
    ) -> None:
        self.spec, self.data, self.device, self.identity, self.stack = spec, data, device, who, stack
        self.store, self.checkpoint_seconds, self.learning_rate = store, checkpoint_seconds, learning_rate
        self.world = world
        self.earlier = [*store.attempts(spec.run), store.folder(spec.run)]  # a failed run lies in the latter
        self.folder = world.first(lambda: store.new_attempt(spec.run))
        self.resumed_at: list[int] = []
        self.seconds_before = 0.0  # of the attempts it goes on from
        self.started = time.time()
        self.clock = time.perf_counter()
        # The first of several processes reads the GPUs of all of them: they are of this machine.
        gpus = range(world.size) if device.type == "cuda" and world.leads else ()
        self.meter = energy.meter(gpus)

    def run(self, reporter: Reporter) -> RunRecord:
        """Train to the end, and commit the record."""
        progress = reporter.run(self.spec.run, self.folder)
        try:
            record = self._train(reporter, progress)
        except (Terminated, KeyboardInterrupt, UserError):
            progress.stop()
            raise
        except Exception as error:  # whatever it is, the other runs go on and the report names it
            if self.world.size > 1:  # the others would wait for this process: all begin anew, from a checkpoint
                raise
            detail = "".join(traceback.format_exception(error))
            reporter.say(f"{self.spec.run}: failed\n{detail}")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            record = self._record("failed", reason, Numbers(), {"traceback": detail})
        finally:
            progress.end()
        record = self.world.first(lambda: self.store.commit(self.spec.run, self.folder, record))
        reporter.say(f"{self.spec.run}: {record.status} {record.reason or _accuracy(record.numbers)}")
        return record

    def _train(self, reporter: Reporter, progress: RunProgress) -> RunRecord:
        from safetensors.numpy import save_file as save_arrays
        from safetensors.torch import save_file as save_tensors

        from rdp.training.trainer import Run

        run = Run(self.spec, self.data, self.device, self.learning_rate, self.world)
        state, damaged = self.world.first(lambda: checkpoint.latest(self.earlier, self.identity.model_dump()))
        for line in damaged:
            reporter.say(line)
        if state is not None:
            run.restore(state)
            self.resumed_at = [*state.state["resumed_at"], state.step]
            self.seconds_before = state.state["seconds"]
            self.meter.earlier = state.state["energy"]
            reporter.say(f"{self.spec.run}: goes on from step {state.step}")
        last = time.monotonic()

        def after_step(run: Run) -> None:
            nonlocal last
            if time.monotonic() - last >= self.checkpoint_seconds or terminable.asked:
                if self.world.leads:
                    self._checkpoint(run, reporter)
                last = time.monotonic()
                terminable.look()
            self.meter.look()
            progress.update(run.step, run.steps, run.history)

        try:
            run.train(after_step)
            values, predictions, weights = run.finish()
        finally:
            run.batches.close()
        numbers = Numbers(**values)
        status: Status
        if numbers.diverged_step is None:
            if weights and self.world.leads:
                with files.whole(self.folder / PREDICTIONS) as part:
                    save_arrays(predictions, part)
                with files.whole(self.folder / WEIGHTS) as part:
                    save_tensors(weights, part)
            status, reason = "completed", None
        else:
            status, reason = "diverged", f"the loss was not finite at step {numbers.diverged_step}"
        seconds = run.epoch_seconds
        timings = {
            "epoch_seconds": seconds,
            "train_seconds": sum(seconds),
            "evaluate_seconds": run.evaluate_seconds,
            "examples_per_second": _throughput(seconds, run),
        }
        return self._record(status, reason, numbers, timings)

    def _checkpoint(self, run: Any, reporter: Reporter) -> None:
        """Write a checkpoint; where that cannot be done, say so, and train on from the one there is."""
        tensors, state = run.state()
        state |= {"resumed_at": self.resumed_at, "seconds": self._seconds(), "energy": self.meter.joules()}
        try:
            checkpoint.save(self.folder, checkpoint.Checkpoint(run.step, self.identity.model_dump(), tensors, state))
        except UserError as error:
            reporter.say(f"{self.spec.run}: no checkpoint at step {run.step}, the one before stays: {error}")

    def _seconds(self) -> float:
        """What the run took so far, with the attempts that it goes on from."""
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
            device=self.device.type,
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


def _accuracy(numbers: Numbers) -> str:
    """A completed run's accuracy in words; a sweep's run has none on the test split."""
    split = "validation" if numbers.test_accuracy is None else "test"
    value = numbers.history[-1].validation_accuracy if numbers.test_accuracy is None else numbers.test_accuracy
    return f"{split} accuracy {value:.4f}"


def _throughput(epoch_seconds: list[float], run: Any) -> float | None:
    """Training examples a second in the median epoch, evaluation left out."""
    size = run.batches.steps_per_epoch
    steps = [min(size, run.steps - start) for start in range(0, run.steps, size)]
    rates = [count * run.recipe.batch_size / s for count, s in zip(steps, epoch_seconds, strict=False)]
    return sorted(rates)[(len(rates) - 1) // 2] if rates else None
