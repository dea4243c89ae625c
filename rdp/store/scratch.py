"""Temporary folders in the store, on the same file system as the runs."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rdp.errors import UserError
from rdp.store import Store

RETRAINED = "again"  # parent of the folders of retrained runs
IMPORTED = "importing"  # parent of the folders of archives that are being verified
LOCK = "lock"  # a file in each folder, locked while the folder is in use, so that `rdp store clean` skips it


@contextmanager
def temporary_folder(store: Store, parent: str) -> Iterator[Path]:
    """An empty folder under ``parent`` in the store, deleted when the block ends.

    Raises:
        UserError: it cannot be created.
    """
    folder = store.root / parent / uuid.uuid4().hex[:12]
    try:
        folder.mkdir(parents=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None
    with file:
        with suppress(OSError):  # without locks, cleaning goes by the folder's age
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # not empty
                folder.parent.rmdir()
