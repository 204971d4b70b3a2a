"""SVG that reads in light and in dark: it has a background of its own and follows the reader's setting."""

from html import escape

WIDTH = 760
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

LIGHT = {"page": "#ffffff", "edge": "#c8d0d8", "ink": "#1f2328", "soft": "#59636e", "ours": "#0a62c9", "other": "#7d8794",
         "bare": "#b3bbc4", "wanted": "#c4262e", "box": "#eef3fa", "store": "#f6efdd", "secret": "#fbe9e7"}
DARK = {"page": "#151a21", "edge": "#3a424c", "ink": "#e6edf3", "soft": "#9aa4af", "ours": "#57a0ff", "other": "#8893a0",
        "bare": "#5b6570", "wanted": "#ff7b72", "box": "#1c2939", "store": "#2e2817", "secret": "#382021"}


def style(colours):
    """One rule for each use of a colour."""
    rules = [f".page{{fill:{colours['page']};stroke:{colours['edge']}}}",
             f".ink{{fill:{colours['ink']}}}", f".soft{{fill:{colours['soft']}}}", f".told{{fill:{colours['wanted']}}}",
             f".rule{{stroke:{colours['edge']};fill:none}}", f".arrow{{stroke:{colours['soft']};fill:none;stroke-width:1.5}}",
             f".wanted{{stroke:{colours['wanted']};stroke-width:2;fill:none}}",
             f".tick{{stroke:{colours['page']};stroke-width:3;fill:none}}"]
    rules += [f".{name}{{fill:{colours[name]}}}" for name in ("ours", "other", "bare")]
    rules += [f".{name}{{fill:{colours[name]};stroke:{colours['edge']}}}" for name in ("box", "store", "secret")]
    return "".join(rules)


class Drawing:
    """Marks on a card, from the top to the bottom; `finish` says how high it became."""

    def __init__(self, title, told):
        self.title, self.told, self.marks = title, told, []

    def text(self, x, y, text, css="ink", size=13, anchor="start", bold=False):
        weight = ' font-weight="600"' if bold else ""
        self.marks.append(f'<text x="{x:g}" y="{y:g}" class="{css}" font-size="{size}" text-anchor="{anchor}"{weight}>'
                          f"{escape(text, quote=False)}</text>")

    def rect(self, x, y, width, height, css, round=0):
        self.marks.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round}" class="{css}"/>')

    def line(self, points, css="rule", dashed=False):
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        self.marks.append(f'<path d="{path}" class="{css}"{dash}/>')

    def arrow(self, points):
        """A line whose last point has a head. Lines run along an axis."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        self.line(points[:-1] + [(x - 5 * dx, y - 5 * dy)], "arrow")
        left, right = (x - 8 * dx + 4 * dy, y - 8 * dy + 4 * dx), (x - 8 * dx - 4 * dy, y - 8 * dy - 4 * dx)
        path = f"M{x:g} {y:g} L{left[0]:g} {left[1]:g} L{right[0]:g} {right[1]:g} Z"
        self.marks.append(f'<path d="{path}" class="soft"/>')

    def box(self, x, y, width, height, lines, css="box"):
        """A box with its name and, below that, smaller words."""
        self.rect(x, y, width, height, css, 6)
        top = y + height / 2 - (len(lines) - 1) * 7.5 + 4.5
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 15 * number, line, "ink" if number == 0 else "soft", 13 if number == 0 else 11,
                      "middle", number == 0)

    def finish(self, height):
        title, told = escape(self.title, quote=False), escape(self.told, quote=False)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="{FONT}" role="img">'
                f"<title>{title}</title><desc>{told}</desc>\n<style>{style(LIGHT)}"
                f"@media (prefers-color-scheme:dark){{{style(DARK)}}}</style>\n"
                f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" class="page"/>\n'
                + "\n".join(self.marks) + "\n</svg>\n")
