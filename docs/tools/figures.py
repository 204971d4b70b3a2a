"""What benches have printed: a head of `key: value` lines, then Markdown tables below headings."""

import re
from pathlib import Path

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


class Figures:
    """One saved output. `tables` has, for each heading, its rows: a name and the cells behind it."""

    def __init__(self, path: Path):
        if not path.exists():
            raise SystemExit(f"{path}: there is no such file; it is what a bench has printed, below a head")
        head, _, self.body = path.read_text(encoding="utf-8").partition("\n\n")
        self.path = path
        self.head = dict(line.split(": ", 1) for line in head.splitlines())
        for key in ("command", "machine", "load", "day"):
            if key not in self.head:
                raise SystemExit(f"{path}: the head has no line `{key}: …`")
        self.tables, title = {}, ""
        for line in self.body.splitlines():
            if line.startswith("### "):
                title = line[4:]
            elif line.startswith("| ") and not line.startswith("| |"):
                name, *cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
                # A second table below a heading compares rows of the first.
                self.tables.setdefault(title, {}).setdefault(name, cells)

    def cells(self, title, name):
        try:
            return self.tables[title][name]
        except KeyError:
            raise SystemExit(f"{self.path}: there is no row `{name}` below `{title}`") from None

    def seconds(self, title, name):
        """A time, from `87.0 µs`."""
        number, unit = self.cells(title, name)[0].split()
        return float(number) * UNITS[unit]

    def number(self, title, name, column=0):
        return float(self.cells(title, name)[column])

    def origin(self):
        return f"{self.head['command']} · {self.head['day']} · {self.head['load']}"


def shown(figures):
    """What a page shows of a saved output: where it is from, and its tables as they were printed."""
    head = figures.head
    return f"`{head['command']}` on {head['day']}: {head['machine']}; {head['load']}.\n\n{figures.body.strip()}\n"


def fill(page, folder):
    """Puts saved outputs between `<!-- figures: NAME -->` and `<!-- end -->`."""
    def block(found):
        return f"{found[1]}\n{shown(Figures(folder / (found[2] + '.txt')))}\n<!-- end -->"
    return re.sub(r"(<!-- figures: ([a-z0-9-]+) -->)\n.*?<!-- end -->", block, page, flags=re.S)
