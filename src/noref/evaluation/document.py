"""An HTML page that needs nothing but a browser: what all reports are written into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from noref.version import __version__


def document(title: str, main: str, *, style: str = "", end: str = "") -> str:
    """A whole page with the reports' style sheet, which asks no server for anything.

    Args:
        title: of the page, not yet escaped.
        main: HTML.
        style: CSS that goes on from the reports' own.
        end: HTML after the main part, such as scripts.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title>"
        f"<style>{resource('noref.evaluation', 'report.css')}{style}</style></head>\n"
        f"<body><main>{main}"
        f"<footer>Written by noref {escape(__version__)}; its numbers in the .json beside it.</footer></main>"
        f"{end}</body></html>\n"
    )


def sections(contents: Mapping[str, str]) -> str:
    """Sections under their headings, those without content left out."""
    return "".join(
        f'<section id="{name.lower().replace(" ", "-")}"><h2>{name}</h2>{content}</section>'
        for name, content in contents.items()
        if content
    )


def labels_list(labels: Sequence[str]) -> str:
    """What a reader must know before believing a number, as HTML; empty without any."""
    items = "".join(f"<li>{escape(label)}</li>" for label in labels)
    return items and f'<ul class="labels" aria-label="Labels">{items}</ul>'


def resource(package: str, name: str) -> str:
    """The text of a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
