"""Inline reconstruction: a server and a client that speak MRD (version 1) over a socket."""

from noref.serve.client import received
from noref.serve.server import Server
from noref.serve.session import Limits
from noref.serve.wire import PORT

__all__ = ["PORT", "Limits", "Server", "received"]
