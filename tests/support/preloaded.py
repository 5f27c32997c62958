"""`vae-train` and `vae-export` as processes that need not import PyTorch first: forked from one that has.

Run as a program it is that process: it listens on a socket, and forks a process for every command, which runs in the
folder, with the streams and arguments and variables of who asked. The command lines are as they would be otherwise.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

_COMMANDS = {"vae-train": "vae_training.cli", "vae-export": "vae_export.cli"}
_SLOW_TO_IMPORT = (
    "vae_training.loop",
    "vae_training.evaluation.measuring",
    "vae_export.bundle",
    "torch._dynamo",
)
_LONGEST_ORDER = 1 << 20  # bytes
_LONGEST = 300  # seconds
_READY = "ready\n"

_CLIENT = """#!{python} -SE
import json, os, socket, sys
order = [{module!r}, os.getcwd(), {name!r}, *sys.argv[1:]]
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [json.dumps([order, dict(os.environ)]).encode()], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(10)))
"""


@contextlib.contextmanager
def preloaded_commands(folder: Path) -> Iterator[Path]:
    """Give a folder for the PATH with the two commands in it; they work until the block is left."""
    address = str(folder / "server")
    for name, module in _COMMANDS.items():
        client = folder / name
        client.write_text(_CLIENT.format(python=sys.executable, module=module, name=name, address=address))
        client.chmod(stat.S_IRWXU)
    server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == _READY
        yield folder
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _serve(address: str) -> None:
    for module in (*_COMMANDS.values(), *_SLOW_TO_IMPORT):
        importlib.import_module(module)
    gc.freeze()  # a child that looks at these objects would copy their pages
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        sys.stdout.write(_READY)
        sys.stdout.close()
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(b"%d" % _run(client))


def _run(client: socket.socket) -> int:
    said, streams = b"", []
    while True:
        part, descriptors, *_ = socket.recv_fds(client, _LONGEST_ORDER, 3)
        if not part:
            break
        said, streams = said + part, streams + descriptors
    order, variables = json.loads(said)
    child = os.fork()
    if child == 0:
        _become(order, variables, streams)
    for descriptor in streams:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


def _become(order: list[str], variables: dict[str, str], streams: list[int]) -> NoReturn:
    """Be the command, to its end."""
    module, folder, *sys.argv = order
    code = 1
    try:
        signal.alarm(_LONGEST)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")  # the server has closed its own
        os.chdir(folder)
        os.environ.update(variables)
        importlib.import_module(module).main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
