"""The server: one model, any number of scans, several of them at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import socketserver
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from noref.config import Source
from noref.data.part import AsTheyCome
from noref.errors import NorefError
from noref.formats.mrd_images import MrdImage
from noref.reconstruction import Reconstruction
from noref.scan import Role
from noref.serve.assembly import Complete
from noref.serve.images import Kind, image_of
from noref.serve.log import Log
from noref.serve.session import ERROR, Limits, Session
from noref.serve.wire import PORT, Close, Id, Text, Wire
from noref.version import __version__

GRACE = 8.0
"""Seconds in which scans under way may end when the server is to stop; containers are killed after ten."""


class Server:
    """Reconstructs what comes over a socket.

    All slices of all connections are reconstructed by one thread, in turns: a model is there once, and one
    reconstruction has the whole machine.

    Args:
        reconstruction: what makes images.
        how: how scans are prepared for it.
        host: name or address to listen at.
        port: to listen at; 0 for any free one.
        health: a port for HTTP, whose `/healthz` tells that the server lives; None for none, 0 for any.
        kind: of the images: magnitudes, or complex, unless a scan asks for the other.
        limits: on connections.
        log: where to tell what happens.

    Attributes:
        port: where it listens.
        health_port: where it tells its health; 0 if nowhere.

    Raises:
        NorefError: if it cannot listen there.
    """

    def __init__(
        self,
        reconstruction: Reconstruction,
        how: Source,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        health: int | None = None,
        kind: Kind = "magnitude",
        limits: Limits | None = None,
        log: Log | None = None,
    ) -> None:
        self._reconstruction, self._how, self._kind = reconstruction, how, kind
        self._limits, self._log = limits or Limits(), log or Log()
        self._began, self._numbers = time.monotonic(), itertools.count(1)
        self._totals = {"scans": 0, "images": 0, "errors": 0}
        self._open: dict[int, socket.socket] = {}
        self._changed = threading.Condition()
        self._one = ThreadPoolExecutor(1, "reconstruct")
        self._listener = _listen(_Listener, host, port, self)
        self._http = None if health is None else _listen(_Http, host, health, self)
        self.port = int(self._listener.server_address[1])
        self.health_port = 0 if self._http is None else int(self._http.server_address[1])

    def run(self) -> None:
        """Serves until `stop` is called; scans under way then have some seconds to end."""
        told = {"port": self.port, "health": self.health_port, "model": self._reconstruction.made}
        self._log("listening", version=__version__, **told)
        if self._http is not None:
            threading.Thread(target=self._http.serve_forever, daemon=True).start()
        try:
            self._listener.serve_forever(poll_interval=0.1)
        finally:
            self._finish()

    def stop(self) -> None:
        """Makes `run` return. May be called from another thread, and from a signal's handler."""
        threading.Thread(target=self._listener.shutdown, daemon=True).start()

    def health(self) -> dict[str, object]:
        """What `/healthz` tells: it is there, for how long, and how much it has done."""
        with self._changed:
            seconds = round(time.monotonic() - self._began, 1)
            model = self._reconstruction.made
            return {
                "status": "ok",
                "version": __version__,
                "model": model,
                "seconds": seconds,
                "connections": len(self._open),
                **self._totals,
            }

    def serve(self, peer: socket.socket, address: object) -> None:
        """Serves one connection until it ends."""
        number = next(self._numbers)
        log = self._log.of(connection=number)
        wire = Wire(peer, self._limits.patience, self._limits.slice)
        with self._changed:
            busy = len(self._open) >= self._limits.connections
            if not busy:
                self._open[number] = peer
        if busy:
            most = self._limits.connections
            log("refused", peer=str(address))
            text = f"{ERROR} {most} scans are being reconstructed, and no more are allowed; try again later"
            with contextlib.suppress(OSError):
                wire.send(Text(Id.TEXT, text.encode()), Close())
            wire.end(1.0)
            return
        log("opened", peer=str(address))
        session = Session(wire, self._made, self._limits, self._kind, self._how.averages, log)
        try:
            session.run()
        finally:
            with self._changed:
                del self._open[number]
                self._totals["scans"] += 1
                self._totals["images"] += session.counts.images
                self._totals["errors"] += session.counts.errors
                self._changed.notify_all()

    def report(self) -> None:
        """Tells what went wrong outside of all scans."""
        self._log("failure", traceback=traceback.format_exc())

    def _made(self, complete: Complete, kind: Kind) -> MrdImage:
        return self._one.submit(self._reconstructed, complete, kind).result()

    @torch.no_grad()
    def _reconstructed(self, complete: Complete, kind: Kind) -> MrdImage:
        scan, head = complete.scan(self._limits.slice)
        alone = AsTheyCome([scan], self._how, self._how.role or Role.TARGET, cache_gb=0)
        # What chooses a strength weighs its samples by their density, which takes a look at the mask.
        prepared = alone[0] if self._how.holdout > 0 else alone.prepared(0)
        flat = self._reconstruction.flat(prepared)
        return image_of(flat, prepared, head, kind, self._reconstruction.made)

    def _finish(self) -> None:
        self._listener.server_close()
        with self._changed:
            self._log("stopping", connections=len(self._open))
            self._changed.wait_for(lambda: not self._open, GRACE)
            for peer in self._open.values():
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        self._one.shutdown(wait=False, cancel_futures=True)
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
        self._log("stopped", **self._totals)


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, owner: Server) -> None:
        self.owner, self.address_family = owner, family
        super().__init__(address, _Connection)

    def handle_error(self, *_: object) -> None:
        self.owner.report()


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.owner.serve(self.request, self.client_address[0])  # type: ignore[attr-defined] # a _Listener


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, owner: Server) -> None:
        self.owner, self.address_family = owner, family
        super().__init__(address, _Health)

    def handle_error(self, *_: object) -> None:
        self.owner.report()


class _Health(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        """Answers `/healthz`, and nothing else."""
        known = self.path == "/healthz"
        told = self.server.owner.health() if known else {"status": "unknown path; ask for /healthz"}  # type: ignore[attr-defined] # an _Http
        body = json.dumps(told).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: it is asked every few seconds."""


def _listen(kind: Any, host: str, port: int, owner: Server) -> Any:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return kind(address[:2], family, owner)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NorefError(
            f"{host}:{port}: cannot listen there ({reason}); choose another port or --host"
        ) from None
