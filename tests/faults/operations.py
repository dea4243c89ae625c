"""Every change that a process makes under a folder, counted, and one of them chosen to be killed at."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.numpy
import safetensors.torch

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Operations:
    """While the block lasts, tells each change of the file system just before it is made.

    Files opened for writing, written (by safetensors), synced, renamed and removed; folders made, synced and
    removed. Python's own audit events see all but two of them, which are wrapped.

    Args:
        root: changes elsewhere do not count.
        tell: called with ``operation``, the change's name and its path within the root.
        at: SIGKILL before the change of this number, counted from 0; None never.
        half: where that is the syncing of a file, cut the file to half its length first, as if the kill had come
            in the middle of writing it; where it is the writing by safetensors, leave half of its temporary file.
    """

    def __init__(self, root: Path, tell: Callable[..., None], at: int | None, half: bool) -> None:
        self.root, self.tell, self.at, self.half = root, tell, at, half
        self.count = 0
        self.on = False

    def __enter__(self) -> None:
        sys.addaudithook(self._audited)
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            self._change("sync", _path(descriptor))
            sync(descriptor)

        os.fsync = fsync
        for module in (safetensors.numpy, safetensors.torch):
            self._wrap_writing(module)
        self.on = True

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.on = False

    def _wrap_writing(self, module: Any) -> None:
        write = module.serialize_file

        def serialize_file(tensors: Any, filename: Any, *arguments: Any, **options: Any) -> Any:
            if self.half and self.count == self.at:
                part = Path(filename).with_name(".tmpAb3dEf")  # as safetensors names what it renames when it is whole
                write(tensors, part, *arguments, **options)
                os.truncate(part, part.stat().st_size // 2)
            self._change("write", Path(filename))
            return write(tensors, filename, *arguments, **options)

        module.serialize_file = serialize_file

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and not isinstance(arguments[0], int) and arguments[2] & _WRITES:
            self._change("open", Path(arguments[0]))
        elif event == "os.rename":
            self._change("rename", Path(arguments[1]))
        elif event in {"os.mkdir", "os.remove", "os.rmdir"}:
            folder = arguments[-1]  # shutil.rmtree names what it removes by a descriptor of the folder
            before = Path() if folder == -1 else _path(folder)
            self._change(event.removeprefix("os."), before / arguments[0])

    def _change(self, name: str, path: Path) -> None:
        if not self.on or not path.is_relative_to(self.root):
            return
        self.on = False  # not what is done here
        self.tell("operation", name, str(path.relative_to(self.root)))
        if self.count == self.at:
            if self.half and name == "sync" and path.is_file():
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        self.on = True


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
