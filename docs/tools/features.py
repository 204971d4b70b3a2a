"""The table of features, from the Cargo.toml of each published crate: a feature is told by the comment above it."""

import re
from pathlib import Path

CRATES = ("zk-policy", "zk-kms", "zk-crypto", "zk-creds", "zk-http")


def features(manifest: Path):
    """Yields name, comment and what it turns on, for each feature that is for use."""
    text = manifest.read_text(encoding="utf-8")
    section = re.search(r"^\[features\]\n(.*?)(?=^\[)", text, flags=re.S | re.M)
    comment, inside = [], False
    for line in section[1].splitlines() if section else ():
        if inside:
            inside = not line.startswith("]")
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif found := re.match(r"([a-z][a-z0-9-]*) *= *(\[.*)", line):
            if found[1] != "default":
                if not comment:
                    raise SystemExit(f"{manifest}: no comment says what the feature `{found[1]}` adds")
                yield found[1], " ".join(comment)
            comment, inside = [], "]" not in line
        else:
            comment, inside = [], line.rstrip().endswith("[")


def table(root: Path):
    lines = []
    for crate in CRATES:
        rows = list(features(root / crate / "Cargo.toml"))
        lines += [f"## {crate}", ""]
        if not rows:
            lines += ["No features.", ""]
            continue
        lines += ["| feature | adds |", "|---|---|"]
        lines += [f"| `{name}` | {told.rstrip('.')} |" for name, told in rows] + [""]
    return "\n".join(lines)


def fill(page, root):
    """Puts the table between `<!-- features -->` and `<!-- end -->`."""
    return re.sub(r"<!-- features -->\n.*?<!-- end -->", lambda _: f"<!-- features -->\n{table(root)}\n<!-- end -->", page,
                  flags=re.S)
