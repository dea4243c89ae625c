"""Event files of runs in training, for TensorBoard."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rdp.errors import os_errors
from rdp.utils.distribution import missing_extra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from rdp.training.trainer import Trainer

log = logging.getLogger(__name__)


def prepare(folder: Path) -> None:
    """Create the folder of the event files.

    Raises:
        UserError: the package tensorboard is not installed, or the folder cannot be created.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 (it looks for the package)
    except ImportError:
        raise missing_extra("--tensorboard", "tensorboard") from None
    with os_errors(folder, "cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)


class EventFile:
    """Writes the history of one run: a scalar for each column and epoch, and the learning rate at the epoch's end.

    An attempt that resumes knows the epochs of the earlier ones, and writes all of them to a new file. It begins with a
    mark at which TensorBoard forgets the earlier files, so no epoch is shown twice or missing. A file that cannot be
    written, as on a full disk, is given up with a warning.

    Args:
        folder: the files of the run are in a folder below it, named by cell and seed; None writes no file.
        run: the run's name in the store.
    """

    def __init__(self, folder: Path | None, run: str) -> None:
        self._folder = folder / run if folder else None
        self._written = 0  # epochs
        self._writer: SummaryWriter | None = None

    def update(self, trainer: "Trainer") -> None:
        """Write the epochs that ended since the last call."""
        if self._folder is None or len(trainer.history) == self._written:
            return
        try:
            self._write(self._folder, trainer)
        except OSError as error:
            log.warning("%s: no event file: %s", self._folder, error.strerror or error)
            self._folder = None

    def _write(self, folder: Path, trainer: "Trainer") -> None:
        from torch.utils.tensorboard import SummaryWriter

        from rdp.training.optimizers import learning_rate

        if self._writer is None:
            # The earlier files stay: a TensorBoard that is open would not go on from a deleted one.
            self._writer = SummaryWriter(str(folder), purge_step=0)
        for epoch in trainer.history[self._written :]:
            rate = learning_rate(trainer.recipe, epoch["step"] - 1, trainer.steps)
            for name, value in (epoch | {"learning_rate": rate}).items():
                if name not in {"epoch", "step"} and value is not None:
                    self._writer.add_scalar(name, value, epoch["epoch"])
        self._writer.flush()
        self._written = len(trainer.history)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
