"""Finds links that lead nowhere: in Markdown, before a book is made of it, and in the book. Other hosts are not asked."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")


def markdown(files):
    """Says which links of Markdown files lead to no file, or to no heading of one."""
    anchors = {}
    for file in files:
        for number, line in enumerate(without_code(file.read_text(encoding="utf-8")).splitlines(), 1):
            for target in LINK.findall(line):
                url = urlsplit(target)
                if url.scheme or url.netloc:
                    continue
                to = file if not url.path else (file.parent / unquote(url.path)).resolve()
                if not to.exists():
                    yield f"{file}:{number}: there is no {target}"
                elif url.fragment and to.suffix == ".md":
                    if to not in anchors:
                        anchors[to] = headings(to.read_text(encoding="utf-8"))
                    if unquote(url.fragment) not in anchors[to]:
                        yield f"{file}:{number}: {to.name} has no heading #{url.fragment}"


def without_code(text):
    """Code is not read for links; its lines stay, so that numbers of lines do."""
    blank = lambda found: "\n" * found[0].count("\n")
    text = re.sub(r"^ *```.*?^ *```[^\n]*$", blank, text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "``", text)


def headings(text):
    """The anchors that mdBook and GitHub give to headings."""
    text = re.sub(r"^ *```.*?^ *```[^\n]*$", "", text, flags=re.S | re.M)
    found = {}
    for heading in re.findall(r"^#+ +(.*)$", text, flags=re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return {a if n == 0 else f"{a}-{n}" for a, most in found.items() for n in range(most + 1)}


class Page(HTMLParser):
    """What a page of the book leads to, and what in it can be led to."""

    def __init__(self, path):
        super().__init__()
        self.leads, self.ids = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.leads.append((tag, value))
            elif name in ("id", "name") and value:
                self.ids.add(value)


def book(folder: Path):
    """Says which links of the book's pages lead to no file of the book, or to no place in one."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    if not pages:
        yield f"{folder}: there is no book"
    for path, page in sorted(pages.items()):
        if path.name == "404.html":
            continue  # its links are for the place where a book is served
        for tag, target in page.leads:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            to = path if not url.path else (path.parent / unquote(url.path)).resolve()
            if folder.resolve() not in to.parents and to != folder.resolve():
                yield f"{path.name}: {target} leads out of the book"
            elif not to.exists():
                yield f"{path.name}: there is no {target}"
            elif url.fragment and tag == "a" and to in pages and unquote(url.fragment) not in pages[to].ids:
                yield f"{path.name}: {to.name} has nothing named #{url.fragment}"
