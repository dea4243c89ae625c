"""Places in the store for what is not there yet: on its file system, each of one process, gone when that is done."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rdp.errors import UserError
from rdp.store import Store

AGAIN = "again"  # for runs that are trained again
ARRIVALS = "importing"  # for archives that are being verified
LOCK = "lock"  # a file in each place, locked as long as it is in use; of those left behind `rdp store clean` knows


@contextmanager
def place(store: Store, room: str) -> Iterator[Path]:
    """An empty folder in a room of the store, which vanishes when the block ends.

    Raises:
        UserError: it cannot be made.
    """
    folder = store.root / room / uuid.uuid4().hex[:12]
    try:
        folder.mkdir(parents=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None
    with file:
        with suppress(OSError):  # where locks are not supported, its age tells
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # there are others
                folder.parent.rmdir()
