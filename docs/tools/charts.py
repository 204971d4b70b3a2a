"""Charts of saved figures. A bar is one row that a bench has printed."""

import math
from dataclasses import dataclass

from figures import Figures
from svg import WIDTH, Drawing

LEFT, RIGHT = 258, 84


@dataclass
class Bar:
    name: str
    value: float
    label: str
    css: str = "other"
    wanted: float | None = None


def bars(title, told, groups, origins, *, log=False, line=None, mark=""):
    """Groups of bars along one axis from 0, or from a power of ten where the axis counts powers."""
    drawing = Drawing(title, told)
    values = [bar.value for _, rows in groups for bar in rows]
    values += [bar.wanted for _, rows in groups for bar in rows if bar.wanted is not None]
    room = WIDTH - LEFT - RIGHT
    if log:
        least, most = math.floor(math.log10(min(values)) - 0.15), math.log10(max(values))
        place = lambda value: (math.log10(value) - least) / (most - least) * room
    else:
        place = lambda value: value / max(values) * room
    drawing.text(20, 32, title, size=16, bold=True)
    drawing.text(20, 52, told, "soft", 12)
    y = top = 68
    bottom = top + sum((24 if heading else 0) + 20 * len(rows) + 6 for heading, rows in groups)
    if line is not None:
        drawing.line([(LEFT + place(line), top), (LEFT + place(line), bottom)], dashed=True)
    for heading, rows in groups:
        if heading:
            drawing.text(20, y + 15, heading, bold=True)
            y += 24
        for bar in rows:
            drawing.text(LEFT - 10, y + 13, bar.name, size=12, anchor="end")
            drawing.rect(LEFT, y + 3, max(place(bar.value), 1.5), 13, bar.css, 2)
            if bar.wanted is not None:
                at = LEFT + place(bar.wanted)
                drawing.line([(at, y), (at, y + 19)], "wanted")
            end = max(place(bar.value), 1.5)
            if bar.wanted is not None and 0 < place(bar.wanted) - end < 14 + 7 * len(bar.label):
                end = place(bar.wanted)  # the label would stand on the mark
            drawing.text(LEFT + end + 7, y + 13, bar.label, "soft", 12)
            y += 20
        y += 6
    if mark:
        drawing.line([(21, y + 4), (21, y + 18)], "wanted")
        drawing.text(30, y + 15, mark, "soft", 12)
        y += 24
    for origin in origins:
        drawing.text(20, y + 13, origin, "soft", 11)
        y += 16
    return drawing.finish(y + 14)


def rls(folder):
    figures = Figures(folder / "rls.txt")
    shapes = [("point", 1.25), ("page of 50", 1.15), ("count", 1.15), ("insert", 1.25), ("update", 1.25),
              ("masked page of 50", 1.7)]
    groups = []
    for claims in ("plain claims", "signed claims"):
        rows = []
        for shape, wanted in shapes:
            row = "generated mask" if "mask" in shape else "generated policy"
            ratio = figures.number(f"{shape}, {claims}", row, 2)
            rows.append(Bar(shape, ratio, f"{ratio:.2f}", "ours", wanted))
        groups.append((claims, rows))
    told = "Processor time of the server ÷ that of a hand-written WHERE with the same rule; 1 is the dashed line."
    return bars("A policy, and a WHERE by hand", told, groups, [figures.origin()], line=1.0, mark="at most wanted")


def decide(folder):
    figures = Figures(folder / "decide.txt")
    groups = []
    for kind in ("of a kind", "that have nothing in common"):
        rows = []
        for count in (1, 10, 50):
            title = f"One decision, {count} rules {kind}"
            rules = "1 rule" if count == 1 else f"{count} rules"
            rows.append(time_bar(f"{rules}, zk-policy", figures.seconds(title, "zk-policy `decide`"), "ours", 300e-9))
            rows.append(time_bar(f"{rules}, Cedar", figures.seconds(title, "cedar-policy `is_authorized`")))
        groups.append((f"rules {kind}", rows))
    told = "Time of one decision in process. Each step to the right of the axis is ten times as long."
    return bars("Deciding in process", told, groups, [figures.origin()], log=True, mark="at most wanted")


def seal_small(folder):
    return seal(folder, 64, "Sealing and opening 64 bytes", log=True, told="Time of one call. Each step is ten times as long.")


def seal_large(folder):
    return seal(folder, 1048576, "Sealing and opening 1 MiB", log=False, told="Time of one call.")


VITAMINC = "vitaminc-encrypt, AES-256-GCM (opening: sealed and opened)"
PEERS = {
    "REF: AES-256-GCM of aws-lc-rs by hand (new buffer)": "AES-256-GCM by hand",
    "tink-aead, AES-256-GCM keyset": "Tink, keyset",
    "tink-aead, envelope with a KMS in memory": "Tink, envelope, KMS in memory",
    VITAMINC: "vitaminc",
    "orion, XChaCha20-Poly1305": "orion, XChaCha20-Poly1305",
    "dryoc, XSalsa20-Poly1305": "dryoc, XSalsa20-Poly1305",
    "age, one X25519 recipient": "age, X25519",
    "aws-esdk, committing": "AWS Encryption SDK",
}
SEALING = {
    "seal": {
        "zk-crypto, Encryptor::seal (new buffer)": "zk-crypto",
        "zk-crypto, Sealer::seal, XChaCha20-Poly1305": "zk-crypto, XChaCha20-Poly1305",
        **PEERS,
    },
    "open": {
        "zk-crypto, Encryptor::open (new buffer, wiped)": "zk-crypto",
        "zk-crypto, Encryptor::open, XChaCha20-Poly1305": "zk-crypto, XChaCha20-Poly1305",
        # It gives a sealed value away when it opens it, so that only both together can be measured.
        **PEERS | {VITAMINC: "vitaminc, both"},
    },
}


def seal(folder, size, title, *, log, told):
    figures = Figures(folder / "seal-peers.txt")
    groups = []
    for verb, names in SEALING.items():
        rows = []
        for row, name in names.items():
            css = "ours" if name.startswith("zk-crypto") else "bare" if "by hand" in name else "other"
            rows.append(time_bar(name, figures.seconds(f"{verb.capitalize()} {size} bytes", row), css))
        groups.append((verb, rows))
    return bars(title, told, groups, [figures.origin()], log=log)


def creds(folder):
    figures = Figures(folder / "creds.txt")
    names = {
        "issue": ["plain CREATE ROLE and GRANT", "zk-creds", "zk-creds, a deployment of 100 services",
                  "zk-creds, password hashed once", "zk-creds, 100 services, passwords hashed once", "OpenBao"],
        "renew": ["zk-creds", "OpenBao"],
        "revoke": ["zk-creds, no session open", "zk-creds, ending a session", "OpenBao, which ends no session"],
    }
    groups = []
    for verb, rows in names.items():
        drawn = []
        for name in rows:
            rate = figures.number("", f"{verb}: {name}")
            css = "ours" if name.startswith("zk-creds") else "bare" if name.startswith("plain") else "other"
            short = name.replace("zk-creds, 100 services, passwords", "zk-creds, 100 services,")
            drawn.append(Bar(short, rate, f"{rate:.0f}", css))
        groups.append((verb, drawn))
    told = "Calls a second; more is better. Each step is ten times as many."
    return bars("Credentials", told, groups, [figures.origin()], log=True)


def time_bar(name, seconds, css="other", wanted=None):
    for unit, factor in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * factor:
            break
    number = seconds / factor
    return Bar(name, seconds, f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}", css, wanted)


ALL = {"rls": rls, "decide": decide, "seal-64": seal_small, "seal-1mib": seal_large, "creds": creds}
