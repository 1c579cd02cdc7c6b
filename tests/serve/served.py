"""A server in this process, and a client that is made of the format's own package."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from noref.cli.sources import source
from noref.reconstruction import Reconstruction, chosen
from noref.serve import Limits, Server
from noref.serve.images import Kind
from noref.serve.log import Log

with warnings.catch_warnings():
    import ismrmrd

PATIENCE = 60


@dataclass
class Served:
    """A running server, and what it has logged."""

    server: Server
    file: io.StringIO

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Waits until so many events of a kind were logged."""
        end = time.monotonic() + PATIENCE
        while len(self.events(event)) < count:
            assert time.monotonic() < end, self.log
            time.sleep(0.01)
        return self.events(event)


@contextmanager
def serving(
    model: str | Reconstruction = "zero-filled",
    *settings: str,
    kind: Kind = "complex",
    limits: Limits | None = None,
    health: int | None = None,
) -> Iterator[Served]:
    reconstruction = chosen(model) if isinstance(model, str) else model
    file = io.StringIO()
    server = Server(
        reconstruction,
        source([], settings, reconstruction.base),
        port=0,
        health=health,
        kind=kind,
        limits=limits,
        log=Log(file),
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Served(server, file)
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclass
class Answers:
    """What a client got back."""

    images: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    closed: bool = False


class Client:
    """Speaks the protocol as its documentation says, with the records of the format's own package."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def number(self, number: int) -> None:
        self.socket.sendall(number.to_bytes(2, "little"))

    def configuration(self, name: str = "default.xml") -> None:
        self.number(1)
        self.socket.sendall(name.encode().ljust(1024, b"\0"))

    def text(self, number: int, text: str | bytes) -> None:
        data = (text.encode() if isinstance(text, str) else text) + b"\0"
        self.number(number)
        self.socket.sendall(len(data).to_bytes(4, "little") + data)

    def metadata(self, text: str | bytes) -> None:
        self.text(3, text)

    def begin(self, xml: str | bytes) -> None:
        self.configuration()
        self.metadata(xml)

    def readouts(self, readouts: Sequence[Any]) -> None:
        for one in readouts:
            self.number(1008)
            one.serialize_into(self.socket.sendall)

    def waveform(self, one: Any) -> None:
        self.number(1026)
        one.serialize_into(self.socket.sendall)

    def close(self) -> None:
        self.number(4)

    def exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found

    def image(self) -> Any:
        """The next message, which has to be an image."""
        assert int.from_bytes(self.exactly(2), "little") == 1022
        return ismrmrd.Image.deserialize_from(self.exactly)

    def answers(self) -> Answers:
        """All that comes until the server has closed and hung up."""
        found = Answers()
        while start := self.socket.recv(1):
            assert not found.closed, "nothing may follow a close"
            number = int.from_bytes(start + self.exactly(1), "little")
            if number == 4:
                found.closed = True
            elif number == 5:
                length = int.from_bytes(self.exactly(4), "little")
                found.texts.append(self.exactly(length).rstrip(b"\0").decode())
            else:
                assert number == 1022
                found.images.append(ismrmrd.Image.deserialize_from(self.exactly))
        return found


def scan(port: int, xml: str | bytes, readouts: Sequence[Any]) -> Answers:
    """A whole scan, as a scanner sends it."""
    with Client(port) as client:
        client.begin(xml)
        client.readouts(readouts)
        client.close()
        return client.answers()


def attempt(port: int, act: Callable[[Client], None]) -> Answers:
    """What a client gets that does something else."""
    with Client(port) as client:
        act(client)
        return client.answers()
