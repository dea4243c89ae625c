"""Training of a job's runs in this process: a record and a receipt for each."""

import logging
import signal
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs import tuning
from rdp.jobs.attempt import JobContext, RunAttempt
from rdp.jobs.locks import lock_run
from rdp.jobs.progress import progress_bar
from rdp.jobs.signals import termination
from rdp.spec import Choice, RunSpec
from rdp.store import Identity, RunRecord, Store, fingerprint
from rdp.utils import digest

if TYPE_CHECKING:
    from rdp.data.dataset import Prepared
    from rdp.training.process_group import ProcessGroup

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


def run_job(
    specs: Iterable[RunSpec],
    results: Path,
    device: str,
    *,
    checkpoint_seconds: float = 60,
    bar: bool = True,
    group: "ProcessGroup | None" = None,
    known_choices: Mapping[str, Choice] | None = None,
    event_folder: Path | None = None,
) -> list[RunRecord]:
    """Train runs with the same thread count one after another, each unless its record exists.

    The runs of their sweeps are trained before them. A run that fails gets a record
    with the reason, and the others are still trained.

    Args:
        specs: the runs; an iterator is advanced when the run before is done.
        results: the results directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_seconds: time between checkpoints.
        bar: whether to show a progress bar on a terminal.
        group: the processes that train each run together, all of which call this; by default only this one.
        known_choices: choices by cell, for which no sweep is run.
        event_folder: where to write event files for TensorBoard; None writes none.

    Raises:
        UserError: missing data, or a directory that cannot be written.
        Terminated: SIGTERM came. A run in training has written a checkpoint, one in its last evaluation its record.
            No other run was started.
    """
    import torch

    from rdp.training.process_group import SINGLE

    group = group or SINGLE
    with progress_bar(bar and group.is_main) as shown, termination.on(signal.SIGTERM):
        device = choose_device(device)
        torch_device = torch.device(f"cuda:{group.rank}" if group.size > 1 and device == "cuda" else device)
        context = JobContext(Store(results), torch_device, checkpoint_seconds, group, shown, event_folder)
        job = _Job(context, results, dict(known_choices or {}))
        return [job.train(spec) for spec in specs]


@dataclass
class _Job:
    context: JobContext
    results: Path
    choices: dict[str, Choice]
    datasets: dict[str, "Prepared"] = field(default_factory=dict)

    def train(self, spec: RunSpec) -> RunRecord:
        """The record of a run, which is trained if there is none."""
        from rdp.training.trainer import make_deterministic

        termination.check()
        make_deterministic(spec.threads)
        data = self.dataset(spec.dataset)
        code, stack = fingerprint.code_of(spec), fingerprint.stack_of(spec, self.context.device.type)
        identity = Identity(spec=spec.spec_digest, data=data.digest, code=code, stack=digest.of(stack))
        choice = None
        if spec.tuning and self._stored(spec, identity) is None:
            choice = self._choice(spec)  # before the lock: nobody should wait for a whole sweep
        store, is_main = self.context.store, self.context.group.is_main
        with lock_run(store, spec.run, termination.check) if is_main else nullcontext():
            record = self._stored(spec, identity)
            if record is None:
                record = RunAttempt(self.context, spec, data, identity, stack, choice).run()
            elif is_main:
                store.remove_leftovers(spec.run)
                log.info("%s: already %s, skipped", spec.run, record.status)
            if is_main:
                store.write_receipt(spec.run, record)
        return record

    def dataset(self, name: str) -> "Prepared":
        """A dataset, prepared if it is not."""
        if name not in self.datasets:
            self.context.group.on_main(lambda: prepared.ensure(name, self.results))
            self.datasets[name] = prepared.load(name, self.results)
        return self.datasets[name]

    def _stored(self, spec: RunSpec, identity: Identity) -> RunRecord | None:
        return self.context.group.on_main(lambda: self.context.store.find(spec.run, identity))

    def _choice(self, spec: RunSpec) -> Choice:
        """The choice of a cell's sweep.

        It uses records of this stack only: otherwise the choice would not follow from the run's identity.
        """
        if spec.cell not in self.choices:
            records = [self.train(candidate) for candidate in spec.candidates()]
            self.choices[spec.cell] = tuning.choose(spec, records).choice
        return self.choices[spec.cell]
