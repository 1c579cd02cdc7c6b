"""Whether the scans of a training are of the kinds that its method learns from, and are kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Set

from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.methods import Joint, Method, Supervised
from noref.scan import Role


def check_roles(method: Method, sets: Mapping[Role, Dataset]) -> None:
    """Refuses scans that a method cannot learn from.

    Args:
        method: with all methods inside it.
        sets: the scans of a training, by role.

    Raises:
        NorefError: naming the role that is missing or not learned from, or the first proxy that is wrong.
    """
    parts = [module for module in method.modules() if isinstance(module, Method)]
    simple = [part for part in parts if not any(isinstance(child, Method) for child in part.children())]
    selfs = [type(part).__name__.lower() for part in simple if not isinstance(part, Supervised)]
    if not sets:
        raise NorefError(f"nothing to train on; give data.{'target' if selfs else 'proxy'}.path=FOLDER")
    joint = any(isinstance(part, Joint) for part in parts)
    if len(sets) == 1 and joint:
        missing = "proxy" if Role.TARGET in sets else "target"
        raise NorefError(f"method joint: needs two kinds of scans; give data.{missing}.path=FOLDER")
    if Role.TARGET not in sets and selfs:
        raise NorefError(
            f"method {selfs[0]}: learns from targets, of which there are none; give data.target.path"
        )
    supervised = learns_references(method)
    if Role.PROXY not in sets and supervised:
        raise NorefError(
            "method supervised: learns from references, and those of targets are not for training; give "
            "data.proxy.path=FOLDER, or set data.target.role=proxy"
        )
    if Role.TARGET in sets and not selfs:
        raise NorefError(
            "method supervised: does not learn from targets; give them as data.validation, or train with jssl"
        )
    if Role.PROXY in sets:
        if not (joint or supervised):
            raise NorefError(
                f"method {selfs[0]}: would not use the proxies' references; leave data.proxy out, train with "
                "jssl, or with ssdu-everything to learn from proxies as from targets"
            )
        sets[Role.PROXY].check_shown()
        if supervised:
            sets[Role.PROXY].check_references()


def learns_references(method: Method) -> bool:
    """Whether anything in a method learns from the references of proxies."""
    return any(isinstance(part, Supervised) for part in method.modules())


def check_apart(volumes: Set[str], where: str, scored: Mapping[str, Dataset | None]) -> None:
    """Refuses proxies that are targets or validate as well: their references would be learned.

    Args:
        volumes: `subject/scan` of the proxies. Slices of one volume are as good as one.
        where: the place of the proxies in the configuration.
        scored: targets, by their place in the configuration's data.

    Raises:
        NorefError: naming the first.
    """
    for name, scans in scored.items():
        known = scans.known_as if scans else {}
        both = sorted(volume for volume, names in known.items() if volumes & names)
        if both:
            raise NorefError(
                f"{where}: {both[0]} is in data.{name} too, where no reference may be learned from; "
                "leave it out of one, or rename its file if it is another scan"
            )
