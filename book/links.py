"""Say what a built site lacks: targets of its own links, and anything it would load from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
CSS_URL = re.compile(r"""url\(\s*["']?(https?:)?//|@import\s+["'](https?:)?//""")


class _Page(HTMLParser):
    """Collect the ids, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what `tag` names, links to or loads."""
        found = {name: value for name, value in attrs if value}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        address = found.get(LOADED.get(tag, "href"), "")
        if not address:
            return
        loads = tag in LOADED and found.get("rel") not in ("canonical", "author")
        (self.loaded if loads else self.links).append(address)


def problems(site: Path) -> list[str]:
    """Return one line for each link that leads nowhere and each file that would come from another host."""
    files = (
        path for path in site.rglob("*.html") if "_static" not in path.parts
    )  # there lie templates of the theme
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in files}
    wrong = []
    for path, page in pages.items():
        shown = path.relative_to(site.resolve())
        for address in [*page.links, *page.loaded]:
            wrong += [f"{shown}: {problem}" for problem in _problem(path, address, pages)]
        wrong += [f"{shown} would load {a}" for a in page.loaded if re.match(r"(https?:)?//", a)]
    for style in site.rglob("*.css"):
        if CSS_URL.search(style.read_text(encoding="utf-8")):
            wrong.append(f"{style.relative_to(site)} would load from another host")
    return sorted(set(wrong))


def _problem(path: Path, address: str, pages: dict[Path, _Page]) -> list[str]:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return []
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return [f"{address} is not there"]
    wanted = unquote(parts.fragment)
    if wanted and target in pages and wanted not in pages[target].ids:
        return [f"{address}: the page has no such place"]
    return []
