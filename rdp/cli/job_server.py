"""A server that runs ``rdp`` commands in forks of a process that has imported torch.

The imports take seconds, often longer than a job of a small study. So the Snakefile starts a server on its machine and
names its socket in ``RDP_JOB_SERVER``. A command hands the server its arguments, environment and standard streams,
waits, and exits with the status of the fork. Signals are passed on. A command runs in its own process if no server
answers, or if a fork would differ: other code, another directory, or another environment of the interpreter.
"""

import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir
from types import FrameType
from typing import Any

# Imported once: what training jobs need. Forks import the rest, such as matplotlib, when they need it.
_PRELOADED = ("rdp.cli.app", "rdp.training.trainer", "rdp.jobs.parallel", "rdp.claims.preregistration", "rdp.utils.rng")
# Variables that are read when the interpreter or a library starts, by prefix.
_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "CUBLAS_")
# Variables that set a default number of threads. Commands set their own, so the workflow gives all jobs the same.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_REFUSED = -1
_STATUS, _LENGTH = struct.Struct("!i"), struct.Struct("!I")


_server: subprocess.Popen[bytes] | None = None  # of this process


def address() -> str:
    """The address of this process's server."""
    return f"{gettempdir()}/rdp-{os.getuid()}-{os.getpid()}/jobs"


def start() -> None:
    """Start a server that ends with this process, on systems whose kernel tells a server when a fork ends (Linux)."""
    global _server
    if not hasattr(os, "pidfd_open"):
        return
    environment = os.environ | dict.fromkeys(THREADS, "1")
    code = "from rdp.cli import job_server; job_server.serve()"
    # In its own session, since Ctrl-C reaches its forks through their commands.
    _server = subprocess.Popen(
        [sys.executable, "-c", code, address()], stdin=subprocess.PIPE, env=environment, start_new_session=True
    )


def submit(server: str) -> int | None:
    """Run this command in a fork of the server, and return its exit status; None if it must run by itself."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(server)
    except OSError:
        return None

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            connection.send(bytes([number]))

    environment = dict(os.environ)
    request = {"arguments": sys.argv, "environment": environment, "state": _state(environment)}
    content = json.dumps(request).encode()
    with connection:
        try:
            socket.send_fds(connection, [_LENGTH.pack(len(content))], [0, 1, 2])
            connection.sendall(content)
            handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
            reply = connection.recv(_STATUS.size)
        except OSError:
            return None
    if not reply:
        print("rdp: the job server ended before the job did", file=sys.stderr)
        return 1
    status: int = _STATUS.unpack(reply)[0]
    if status == _REFUSED:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return None
    return status


def serve() -> None:
    """The main function of the server; in a fork, that of its command."""
    path = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends when its standard input is closed
    state = _state(dict(os.environ))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        sys.exit(f"{path.parent}: belongs to another user; jobs import torch by themselves")
    path.unlink(missing_ok=True)  # of a killed server with the number of this process
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)
        for module in _PRELOADED:
            import_module(module)
        import_module("rdp.store.fingerprint").module_digest("rdp.training.trainer")  # caches what all runs share
        connection = _accept(listener)
    if connection is None:
        path.unlink()
        path.parent.rmdir()
    else:
        _run(connection, state)


def _accept(listener: socket.socket) -> socket.socket | None:
    """Fork for each connection, and send the status of each fork that ends; in a fork, return its connection."""
    forks: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while forks or listener.fileno() >= 0:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection = listener.accept()[0]
                    if not (pid := os.fork()):
                        return connection
                    descriptor = os.pidfd_open(pid)
                    forks[descriptor] = pid, connection
                    selector.register(descriptor, selectors.EVENT_READ)
                elif key.fileobj is sys.stdin:
                    selector.unregister(listener)
                    selector.unregister(sys.stdin)
                    listener.close()  # a command that waits for it runs by itself
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid, connection = forks.pop(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with connection, suppress(OSError):
                        connection.send(_STATUS.pack(code if code >= 0 else 128 - code))
    return None


def _run(connection: socket.socket, state: dict[str, Any]) -> None:
    """Run the command that a connection asks for, or refuse it."""
    length, streams, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
    request = json.loads(connection.recv(_LENGTH.unpack(length)[0], socket.MSG_WAITALL))
    if request["state"] != state:
        connection.send(_STATUS.pack(_REFUSED))
        return
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(line_buffering=output.isatty())  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_receive_signals, args=(connection,), daemon=True).start()
    from rdp.cli.app import main

    main()


def _receive_signals(connection: socket.socket) -> None:
    """Send this process the signals that its command receives, and SIGTERM if the command dies."""
    with suppress(OSError):
        while True:
            number = connection.recv(1)
            os.kill(os.getpid(), number[0] if number else signal.SIGTERM)
            if not number:
                return


def _state(environment: dict[str, str]) -> dict[str, Any]:
    """What a fork of the server and a command's own process must have in common."""
    return {
        "python": [sys.executable, sys.prefix],
        "directory": str(Path.cwd()),
        "environment": {name: value for name, value in environment.items() if name.startswith(_AT_START)},
        "code": _code(),
    }


def _code() -> list[list[Any]]:
    """The files of this package and of the user's extensions, with times of change and sizes."""
    package = Path(__file__).parents[1]
    files = sorted([*package.rglob("*.py"), *Path("extensions").rglob("*.py")])
    return [[str(file), status.st_mtime_ns, status.st_size] for file in files if (status := file.stat())]
