"""The documentation as a site: the pages of this clone where they are, and the files that they link to.

Navigation is the map of `docs/README.md`, and nothing is written here that a page does not say. The generator checks
every link and anchor within the pages; it asks nobody about others.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATTERNS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md", "instrumentors/*/README.md")
MAP = ROOT / "docs" / "README.md"
BUILD = ROOT / "build" / "docs"
"""`pages` in it are what the site is made of, `site` is the site."""
MADE = frozenset({"__pycache__", "node_modules", "target", ".spanrelay"})
LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )([^)#\s]+)", re.MULTILINE)
SETTINGS = """\
[project]
site_name = "SpanRelay"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
extra_css = ["site.css"]
nav = {nav}

[project.theme]
font = false
features = ["content.code.copy", "navigation.footer", "navigation.top", "toc.follow"]
palette = [
  {{ media = "(prefers-color-scheme: light)", scheme = "default", toggle = {{ icon = "lucide/moon", name = "Dark" }} }},
  {{ media = "(prefers-color-scheme: dark)", scheme = "slate", toggle = {{ icon = "lucide/sun", name = "Light" }} }},
]

[project.markdown_extensions]
attr_list = {{}}
pymdownx.highlight = {{}}
pymdownx.superfences = {{}}
sane_lists = {{}}
tables = {{}}
toc = {{ permalink = true, slugify = {{ object = "pymdownx.slugs.slugify", kwds = {{ case = "lower" }} }} }}
"""
STYLE = """\
/* Names of settings and files have room to stay whole, and tables what pages without headings leave. */
.md-typeset table td:has(> code:first-child) { min-width: 10rem; }
.md-sidebar--secondary:not(:has(.md-nav__item)) { display: none; }
.md-grid { max-width: 72rem; }
"""


def linked(page: Path, text: str) -> Iterator[Path]:
    """Yield what a page of this clone links to in it, in order."""
    for _, target in LINK.findall(text):
        if "://" not in target:
            yield (page.parent / target).resolve()


def files_in(folder: Path) -> list[Path]:
    """The files below a folder, but for what is made when they are run."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and MADE.isdisjoint(path.parts)]


def title(path: Path) -> str:
    """A page's own title, or a file's name."""
    return path.read_text().partition("\n")[0].removeprefix("# ") if path.suffix == ".md" else path.name


def listing(folder: Path) -> str:
    """What stands for the README of a folder that has none."""
    lines = (f"- [{title(path)}]({path.relative_to(folder)})\n" for path in files_in(folder))
    return f"# {folder.relative_to(ROOT)}\n\n{''.join(lines)}"


def staged(page: Path) -> str:
    """A page in which a link to a folder leads to the page of that folder."""

    def led(match: re.Match[str]) -> str:
        is_folder = "://" not in match[2] and (page.parent / match[2]).is_dir()
        return f"{match[1]}{match[2].rstrip('/')}/README.md" if is_folder else match[0]

    return LINK.sub(led, page.read_text())


def stage(pages: Path) -> list[str]:
    """Lay out what the site is made of, as it is in this clone, and return which links lead to no file."""
    found = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
    links = [(page, path) for page in found for path in linked(page, page.read_text())]
    folders = [path for path in dict.fromkeys(path for _, path in links) if path.is_dir()]
    for folder in folders:
        written(pages, folder / "README.md").write_text(listing(folder))
    targets = [path for _, path in links if path.exists()]
    for path in dict.fromkeys([*found, *targets, *(each for folder in folders for each in files_in(folder))]):
        if path.suffix == ".md":
            written(pages, path).write_text(staged(path))
        elif path.is_file():
            shutil.copy(path, written(pages, path))
    return [f"{page.relative_to(ROOT)} links to {path}, where nothing is" for page, path in links if not path.exists()]


def written(pages: Path, path: Path) -> Path:
    """Where a file of this clone is among what the site is made of."""
    place = pages / path.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def sections() -> dict[str, list[Path]]:
    """The map of `docs/README.md`: the pages below each heading; one that is there twice is where it is first."""
    shown = {MAP, ROOT / "README.md"}
    found: dict[str, list[Path]] = {}
    for section in MAP.read_text().split("\n## ")[1:]:
        pages = [path for path in dict.fromkeys(_with_siblings(linked(MAP, section))) if path not in shown]
        shown.update(pages)
        found[section.partition("\n")[0]] = pages
    return found


def navigation(found: dict[str, list[Path]]) -> str:
    """The sections of the map in TOML."""
    parts = ['{"SpanRelay" = "README.md"}', '{"What you want to do" = "docs/README.md"}']
    for section, pages in found.items():
        names = json.dumps([str(path.relative_to(ROOT)) for path in pages])
        parts.append(f"{{{json.dumps(section)} = {names}}}")
    return f"[{', '.join(parts)}]"


def _with_siblings(paths: Iterator[Path]) -> Iterator[Path]:
    """Yield pages, and behind that of a folder those in it."""
    for path in paths:
        page = path / "README.md" if path.is_dir() else path
        yield page
        if page.name == "README.md" and page.parent not in (ROOT, MAP.parent):
            yield from sorted(set(page.parent.glob("*.md")) - {page})


def main() -> int:
    """Build the site with the generator that is named; returns 1 where a link leads nowhere, or the map to no page."""
    shutil.rmtree(BUILD, ignore_errors=True)
    broken = stage(BUILD / "pages")
    found = sections()
    lost = set(ROOT.glob("docs/**/*.md")) - {MAP, *(page for pages in found.values() for page in pages)}
    broken += [f"{page.relative_to(ROOT)} is not in the map of {MAP.relative_to(ROOT)}" for page in sorted(lost)]
    for each in broken:
        print(each, file=sys.stderr)
    (BUILD / "pages" / "site.css").write_text(STYLE)
    (BUILD / "zensical.toml").write_text(SETTINGS.format(nav=navigation(found)))
    done = subprocess.run([sys.argv[1], "build", "--strict", "--config-file", BUILD / "zensical.toml"])
    if broken or done.returncode:
        return 1
    print(f"the site is in {BUILD / 'site' / 'index.html'}; to search in it: python -m http.server -d {BUILD / 'site'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
