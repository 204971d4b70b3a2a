"""Makes what the manual is made with: charts, diagrams, tables of figures and features. Python 3.10, nothing else.

python3 docs/tools write         writes them
python3 docs/tools check         says which are not as they would be written, and which links of Markdown lead nowhere
python3 docs/tools links FOLDER  says which links of a built book lead nowhere
"""

import sys

sys.dont_write_bytecode = True

from pathlib import Path  # noqa: E402

import charts  # noqa: E402
import diagrams  # noqa: E402
import features  # noqa: E402
import figures  # noqa: E402
import links  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent


def made():
    """Every file that is made, with what has to be in it."""
    for name, draw in charts.ALL.items():
        yield DOCS / "src/charts" / f"{name}.svg", draw(DOCS / "figures")
    for name, draw in diagrams.ALL.items():
        yield DOCS / "src/charts" / f"{name}.svg", draw()
    for page in sorted((DOCS / "src").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        yield page, features.fill(figures.fill(text, DOCS / "figures"), ROOT)


def markdown_files():
    yield from sorted((DOCS / "src").glob("*.md"))
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted(ROOT.glob("*/*.md"))
    yield from sorted(ROOT.glob("examples/*/*.md"))


def main(arguments):
    match arguments:
        case ["write"]:
            (DOCS / "src/charts").mkdir(exist_ok=True)
            for path, text in made():
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    path.write_text(text, encoding="utf-8")
                    print(f"wrote {path.relative_to(ROOT)}")
            return []
        case ["check"]:
            wrong = [f"{path.relative_to(ROOT)} is not as `python3 docs/tools write` makes it"
                     for path, text in made() if not path.exists() or path.read_text(encoding="utf-8") != text]
            return wrong + list(links.markdown(list(markdown_files())))
        case ["links", folder]:
            return list(links.book(Path(folder)))
    sys.exit(__doc__)


wrong = main(sys.argv[1:])
for line in wrong:
    print(line, file=sys.stderr)
sys.exit(1 if wrong else 0)
