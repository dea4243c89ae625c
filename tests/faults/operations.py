"""Counts every change that a process makes in a folder, and kills the process at one of them."""

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
    """Reports each change of the file system just before it is made, while the block lasts.

    Changes are files opened for writing, written (by safetensors), synced, renamed and removed, and folders created,
    synced and removed. Python's audit events report all but two of them, which are wrapped.

    Args:
        root: other changes do not count.
        report: called with ``operation``, the change's name and its path within the root.
        at: index of the change before which to send SIGKILL; None for never.
        half: if that change syncs a file, first truncate the file to half its length, as if it were killed while
            writing it; if safetensors writes, leave half of its temporary file.
    """

    def __init__(self, root: Path, report: Callable[..., None], at: int | None, half: bool) -> None:
        self.root, self.report, self.at, self.half = root, report, at, half
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
                part = Path(filename).with_name(".tmpAb3dEf")  # safetensors' temporary name
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
            folder = arguments[-1]  # shutil.rmtree passes a descriptor of the folder
            before = Path() if folder == -1 else _path(folder)
            self._change(event.removeprefix("os."), before / arguments[0])

    def _change(self, name: str, path: Path) -> None:
        if not self.on or not path.is_relative_to(self.root):
            return
        self.on = False  # do not report the changes made here
        self.report("operation", name, str(path.relative_to(self.root)))
        if self.count == self.at:
            if self.half and name == "sync" and path.is_file():
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        self.on = True


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
