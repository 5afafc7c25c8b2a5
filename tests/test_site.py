"""The site: every page is in the navigation, every link and anchor leads somewhere, every public name is described."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from environments import ROOT

import gradscope

DOCS = ROOT / "docs"
NAVIGATED = re.compile(r": (\S+\.md)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"^(```|~~~).*?^\1$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of this folder, as `make docs` does."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def copy_of_the_sources(folder: Path) -> Path:
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "gradscope").symlink_to(ROOT / "gradscope")
    return folder


class Targets(HTMLParser):
    """What a page of the site links to, what it loads, and which anchors it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag in ("img", "script", "link"):
            self.loaded.append(given.get("src") or given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Targets]:
    """The pages of the site, by file."""
    folder = copy_of_the_sources(tmp_path_factory.mktemp("site"))
    done = built(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return {page: Targets(page) for page in sorted((folder / "site").rglob("*.html")) if page.name != "404.html"}


def leading_nowhere(site: dict[Path, Targets]) -> Iterator[str]:
    for page, targets in site.items():
        for link in targets.links:
            address, anchor = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", address):
                continue
            goal = (page.parent / address).resolve() if address else page
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.is_file() or (anchor and goal in site and anchor not in site[goal].anchors):
                yield f"{page.parent.name}: {link}"


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: dict[Path, Targets]) -> None:
    assert list(leading_nowhere(site)) == []
    assert sum(len(targets.links) for targets in site.values()) > 1000


def test_a_reader_loads_nothing_from_elsewhere(site: dict[Path, Targets]) -> None:
    assert [name for targets in site.values() for name in targets.loaded if name.startswith(("http", "//"))] == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    entries = set(NAVIGATED.findall((ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert entries == {page.name for page in DOCS.glob("*.md")} | {"analyzers/README.md"}


def test_the_reference_describes_every_public_name(site: dict[Path, Targets]) -> None:
    (reference,) = [targets for page, targets in site.items() if page.parent.name == "api"]
    wanted = {f"gradscope.{gradscope._HOMES[name]}.{name}" for name in gradscope.__all__}
    assert wanted - reference.anchors == set()


def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path) -> None:
    (copy_of_the_sources(tmp_path) / "docs" / "faq.md").write_text("# F\n\n[a](cost.md#no-such-anchor) [b](none.md)\n")
    done = built(tmp_path)
    assert done.returncode != 0
    assert "anchor" in done.stdout + done.stderr


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_links_work_in_the_source_too(path: Path) -> None:
    linked = LINK.findall(CODE.sub("", path.read_text(encoding="utf-8")))
    assert [link for link in linked if not (path.parent / link).exists()] == []
