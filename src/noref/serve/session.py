"""One connection, one scan: read-outs come in, images go out."""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from noref.errors import NorefError
from noref.formats import Averages
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_images import MrdImage
from noref.serve.assembly import Assembly, Complete
from noref.serve.images import Kind
from noref.serve.log import Log
from noref.serve.wire import MIB, Close, Ended, Id, Message, Readout, Text, Wire

ERROR = "ERR"
"""How texts begin that tell what went wrong."""

LINGER = 5.0
"""Seconds in which what a scanner still sends after an error is thrown away."""

NAME = "scan"
"""Of scans whose parameters give none."""

Make = Callable[[Complete, Kind], MrdImage]
"""Reconstructs a slice."""


@dataclass(frozen=True)
class Limits:
    """What connections may take.

    Attributes:
        memory: bytes that the read-outs of one may take; a slice's k-space may take an eighth of it.
        connections: at once.
        patience: seconds that one may be silent.
    """

    memory: int = 2048 * MIB
    connections: int = 8
    patience: float = 600.0

    @property
    def slice(self) -> int:
        """Bytes of one slice's k-space, and of one message."""
        return self.memory // 8


@dataclass
class Counts:
    """What came and went in one connection."""

    readouts: int = 0
    images: int = 0
    errors: int = 0


class Session:
    """Serves a connection until it is closed.

    One thread, the caller's, takes messages, so that a scanner never waits for a reconstruction as long as
    there is memory; another one has slices reconstructed, one by one, and sends.

    Args:
        wire: the connection.
        make: reconstructs a slice.
        limits: on what it may take.
        kind: of the images, unless the scan's parameters ask for another.
        averages: "mean" or "apart".
        log: of this connection.
    """

    def __init__(
        self, wire: Wire, make: Make, limits: Limits, kind: Kind, averages: Averages, log: Log
    ) -> None:
        self._wire, self._make, self._limits, self._log = wire, make, limits, log
        self._kind, self._averages, self._name = kind, averages, NAME
        self._header: MrdHeader | None = None
        self._assembly: Assembly | None = None
        self._todo: queue.Queue[Complete | Text | None] = queue.Queue()
        self._room = threading.Condition()
        self._working = 0
        self._lost = False
        self.counts = Counts()

    def run(self) -> None:
        """Takes messages until the other side closes, or something is wrong; answers close in any case."""
        sender = threading.Thread(target=self._work, daemon=True)
        sender.start()
        began, linger = time.monotonic(), 0.0
        try:
            self._take_all()
        except NorefError as error:
            linger = 0.0 if isinstance(error, Ended) else LINGER
            self._refuse(str(error))
        except Exception as error:
            # Whatever one scan does, the server has to live for the next.
            linger = LINGER
            self._log("failure", traceback=traceback.format_exc())
            self._refuse(f"the scan could not be read ({_reason(error)})")
        finally:
            # What was not complete is gone, also while complete slices are still being made.
            self._assembly = None
            self._todo.put(None)
            sender.join()
            self._send(Close())
            self._wire.end(linger)
            seconds = round(time.monotonic() - began, 3)
            self._log("closed", seconds=seconds, **vars(self.counts))

    def _take_all(self) -> None:
        while True:
            message = self._wire.receive()
            if message is None:
                raise Ended("the connection ended without a close; slices that were not complete are dropped")
            if isinstance(message, Close):
                break
            if isinstance(message, Readout):
                self.counts.readouts += 1
                self._hand_over(self._slices().add(message))
                self._wait_for_room()
            elif isinstance(message, Text):
                self._told(message)
        if self._assembly is not None:
            self._hand_over(self._assembly.finish())

    def _told(self, message: Text) -> None:
        if message.id is Id.METADATA and self._assembly is None:
            self._header = parse(message.text)
            if self._header is None:
                self._log("warning", text="the metadata are no XML; matrix and centre come from the data")
            else:
                spaces = [space.encoded.matrix for space in self._header.spaces]
                self._log("metadata", matrices=spaces, protocol=self._header.protocol)
        elif message.id is Id.TEXT and self._assembly is None:
            self._set(str(message))
        elif message.id in (Id.CONFIGURATION, Id.CONFIGURATION_FILE):
            self._log("configuration", text=str(message)[:100])

    def _set(self, text: str) -> None:
        """Parameters, as JSON: `name` of the scan, and `images`; all else is another server's."""
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return
        given = told.get("parameters", told) if isinstance(told, dict) else None
        if not isinstance(given, dict):
            return
        self._name = str(given.get("name", self._name)).replace("/", "_") or NAME
        kind = given.get("images", self._kind)
        if kind not in ("magnitude", "complex"):
            raise NorefError(f"images {kind!r} are unknown; ask for magnitude or complex")
        self._kind = kind

    def _slices(self) -> Assembly:
        if self._assembly is None:
            self._assembly = Assembly(self._name, self._header or MrdHeader(), self._averages)
        return self._assembly

    def _hand_over(self, complete: list[Complete]) -> None:
        with self._room:
            self._working += sum(one.size for one in complete)
        for one in complete:
            self._todo.put(one)

    def _wait_for_room(self) -> None:
        held, most = self._slices().held, self._limits.memory
        with self._room:
            while self._working and held + self._working > most and not self._lost:
                self._room.wait()
        if self._lost:
            raise Ended("the connection takes no images any more")
        if held > most:
            raise NorefError(
                f"more than {most / MIB:.0f} MiB of read-outs wait for the rest of their slices; mark the "
                "last read-out of every slice, or raise the server's --memory"
            )

    def _refuse(self, text: str) -> None:
        self._todo.put(Text(Id.TEXT, f"{ERROR} {text}".encode()))

    def _work(self) -> None:
        """Reconstructs and sends, in the order in which slices became complete."""
        while (one := self._todo.get()) is not None:
            if isinstance(one, Complete):
                if not self._lost:
                    self._send(self._made(one))
                with self._room:
                    self._working -= one.size
                    self._room.notify_all()
            else:
                self.counts.errors += 1
                self._log("error", text=str(one))
                self._send(one)

    def _made(self, one: Complete) -> Message:
        """The image of a slice, or what is wrong with it: others may be good."""
        began = time.monotonic()
        try:
            made = self._make(one, self._kind)
        except NorefError as error:
            text = str(error)
        except Exception as error:
            self._log("failure", traceback=traceback.format_exc())
            text = f"slice {one.key[-1]} could not be reconstructed ({_reason(error)})"
        else:
            self.counts.images += 1
            # Sixteen bits, which a long series exceeds.
            made.head["image_index"] = self.counts.images % 2**16
            told = {
                name: int(made.head[name]) for name in ("slice", "repetition", "contrast", "phase", "set")
            }
            self._log("image", seconds=round(time.monotonic() - began, 3), **told)
            return made
        self.counts.errors += 1
        # A slice is told by its name, which begins with the patient.
        subject = (one.header.subject or one.name).replace("/", "_")
        self._log("error", text=text.replace(f"{subject}/", ""))
        return Text(Id.TEXT, f"{ERROR} {text}".encode())

    def _send(self, message: Message) -> None:
        if self._lost:
            return
        try:
            self._wire.send(message)
        except OSError as error:
            self._log("lost", text=(error.strerror or str(error)).lower())
            with self._room:
                self._lost = True
                self._room.notify_all()
            # Wakes the thread that receives.
            self._wire.hang_up()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
