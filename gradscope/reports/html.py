"""A report as a page of HTML of its own: no script, nothing from elsewhere, what the program named is escaped."""

from collections.abc import Iterator
from html import escape
from typing import Protocol

from gradscope.findings import Line, markup

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 2rem auto; max-width: 75rem; padding: 0 1rem; font-family: system-ui, sans-serif }}
h1 {{ font-size: 1.25rem }}
pre {{ font-size: .9rem; line-height: 1.45; overflow-wrap: anywhere }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


class Shown(Protocol):
    """A report, a finding, a summary of several models."""

    def lines(self) -> Iterator[Line]:
        """Its text, line by line."""


def page(shown: Shown, title: str) -> str:
    """A whole document. What UTF-8 cannot hold (half a surrogate pair) is replaced."""
    text = _PAGE.format(title=escape(title), body=markup(shown.lines()))
    return text.encode("utf-8", "replace").decode("utf-8")
