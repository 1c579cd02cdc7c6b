"""Commands in processes of their own, forked from one that has imported noref.

Texts hold dozens of commands, most of which take less time than the import of PyTorch does.

    python forked.py SOCKET     waits for commands, told by the scripts that `install` writes
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
import traceback
from pathlib import Path

COMMANDS = ("noref", "python")

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    told = json.dumps([{command!r}, sys.argv[1:], os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [told.encode()], [0, 1, 2])
    sys.exit(int(server.recv(8) or b"70"))
"""


def install(folder: Path, address: Path) -> None:
    """Writes `noref` and `python`, which hand their arguments on to the process at a socket."""
    for command in COMMANDS:
        script = folder / command
        script.write_text(
            _CLIENT.format(python=sys.executable, address=str(address), command=command), encoding="utf-8"
        )
        script.chmod(0o755)


def serve(address: Path) -> None:
    """Carries out one command after the other."""
    # PyTorch imports its compiler when an operator of noref's is called for the first time.
    import torch._dynamo  # noqa: F401

    from noref.cli import main

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        while True:
            asked, _ = listening.accept()
            with asked:
                told, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
                child = os.fork()
                if child == 0:
                    _carry_out(main, json.loads(told), streams)
                _, status = os.waitpid(child, 0)
                for stream in streams:
                    os.close(stream)
                asked.sendall(str(os.waitstatus_to_exitcode(status) & 255).encode())


def _carry_out(main, told: list, streams: list[int]) -> None:
    """What a new process would do; does not return."""
    command, arguments, folder, environment = told
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [command, *arguments]
    code: object = 0
    try:
        if command == "noref":
            main()
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
