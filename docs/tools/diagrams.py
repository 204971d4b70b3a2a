"""The flows of the four crates. Coordinates are written down: a flow is read from left to right, then from the top down."""

from svg import WIDTH, Drawing


def heading(title, told):
    drawing = Drawing(title, told)
    drawing.text(20, 32, title, size=16, bold=True)
    drawing.text(20, 52, told, "soft", 12)
    return drawing


def policy():
    d = heading("From a policy to guarded rows", "Above: once, at deployment. Below: each request.")
    d.box(20, 78, 128, 52, ["policy", "text, or JSON"])
    d.box(20, 160, 128, 52, ["tables", "read_schema"], "store")
    d.box(196, 78, 128, 52, ["Document", "all syntax mistakes"])
    d.box(196, 160, 128, 52, ["Policy", "fits the tables"])
    d.box(372, 160, 128, 52, ["State, wanted", "roles, grants, RLS"])
    d.box(372, 78, 128, 52, ["State, found", "the live catalog"], "store")
    d.box(548, 119, 192, 52, ["Plan", "steps, SQL, what widens access"])
    d.box(548, 212, 192, 52, ["Accepted", "somebody has read it"])
    d.box(372, 252, 128, 52, ["apply", "one transaction"])
    d.box(196, 252, 128, 52, ["verified", "read again, or undone"])
    for points, word, at in [
        ([(148, 104), (196, 104)], "parse", (172, 97)),
        ([(260, 130), (260, 160)], "check", (280, 150)),
        ([(148, 186), (196, 186)], "", (0, 0)),
        ([(324, 186), (372, 186)], "compile", (348, 179)),
        ([(500, 104), (524, 104), (524, 136), (548, 136)], "diff", (531, 100)),
        ([(500, 186), (524, 186), (524, 154), (548, 154)], "", (0, 0)),
        ([(644, 171), (644, 212)], "accept", (664, 196)),
        ([(548, 238), (524, 238), (524, 278), (500, 278)], "", (0, 0)),
        ([(372, 278), (324, 278)], "", (0, 0)),
    ]:
        d.arrow(points)
        if word:
            d.text(*at, word, "soft", 11, "middle")
    d.line([(20, 324), (740, 324)])
    d.box(20, 344, 128, 52, ["verified token", "who is asking"])
    d.box(196, 344, 128, 52, ["Session", "role and claims"])
    d.box(372, 344, 128, 52, ["begin", "one round trip"])
    d.box(548, 344, 192, 52, ["PostgreSQL decides", "tenant, rows, columns, masks"], "store")
    d.arrow([(148, 370), (196, 370)])
    d.arrow([(324, 370), (372, 370)])
    d.arrow([(500, 370), (548, 370)])
    d.text(20, 420, "Claims end with the transaction. Where they are signed, injected SQL cannot choose others.", "soft", 12)
    return d.finish(438)


def notes(d, y, rows):
    """Ends a diagram with what happens, and what it does, from `y` down."""
    for what, told in rows:
        d.text(20, y, what, size=12, bold=True)
        d.text(190, y, told, "soft", 12)
        y += 20
    return d.finish(y + 2)


def sealing():
    d = heading("Sealing, opening, and where the keys are", "The key-encryption key never leaves its service; the database never sees a plaintext.")
    d.rect(20, 72, 200, 254, "rule", 8)
    d.text(32, 92, "key-management service", "soft", 12)
    d.rect(254, 72, 252, 254, "rule", 8)
    d.text(266, 92, "process of the service", "soft", 12)
    d.rect(540, 72, 200, 254, "rule", 8)
    d.text(552, 92, "PostgreSQL, dumps, backups", "soft", 12)
    d.box(40, 112, 160, 56, ["KEK", "unwraps a data key", "in its context"], "secret")
    d.box(280, 112, 200, 56, ["data keys in memory", "one for each scope; wiped", "when max_age ends"], "secret")
    d.box(560, 112, 160, 56, ["zk.data_keys", "wrapped data keys,", "generations, states"], "store")
    d.arrow([(280, 128), (200, 128)])
    d.arrow([(200, 152), (280, 152)])
    d.text(240, 122, "unwrap", "soft", 11, "middle")
    d.arrow([(560, 140), (480, 140)])
    d.text(520, 133, "wrapped", "soft", 11, "middle")
    d.box(280, 208, 200, 40, ["seal", "scope, context, plaintext"])
    d.box(280, 270, 200, 40, ["open", "scope, context, bytes"])
    d.box(560, 224, 160, 72, ["bytea column", "key id, nonce, ciphertext;", "bound to tenant, table,", "column and row"], "store")
    d.arrow([(380, 168), (380, 208)])
    d.arrow([(480, 236), (560, 236)])
    d.arrow([(560, 284), (480, 284)])
    d.text(40, 222, "asked once for each", "soft", 12)
    d.text(40, 239, "data key and max_age,", "soft", 12)
    d.text(40, 256, "not for each value", "soft", 12)
    return notes(d, 350, [
        ("the KEK is rotated", "rewrap_keys: wrapped data keys change, no row does"),
        ("a data key is rotated", "rotate_key, then Reseal: rows change in batches, while they are used"),
        ("a tenant is forgotten", "destroy_scope: its values open nowhere, backups included"),
    ])


def login():
    d = heading("The life of a login", "Each bar is a role of PostgreSQL with a password of its own. Time runs to the right.")
    rows = [("orders, 1st", 96), ("orders, 2nd", 166), ("orders, 3rd", 236)]
    for name, y in rows:
        d.text(20, y + 17, name, size=12, bold=True)
    d.rect(120, 96, 262, 26, "ours", 4)
    d.rect(300, 166, 262, 26, "ours", 4)
    d.rect(560, 236, 160, 26, "ours", 4)
    for x, y in [(180, 96), (240, 96), (360, 166), (420, 166), (480, 166), (620, 236)]:
        d.line([(x, y), (x, y + 26)], "tick")
    d.text(120, 88, "deploy: issue", "soft", 12)
    d.text(190, 138, "renewed at two thirds of its lifetime", "soft", 12, "middle")
    d.text(300, 88, "rotate", "soft", 12)
    d.line([(300, 92), (300, 166)], dashed=True)
    d.text(341, 158, "grace", "soft", 12, "middle")
    d.line([(382, 92), (382, 196)], dashed=True)
    d.text(392, 113, "reconcile: role dropped", "soft", 12)
    d.text(562, 158, "revoke, it leaked", "told", 12, "middle")
    d.line([(562, 162), (562, 236)], dashed=True)
    d.text(572, 183, "closed, sessions ended", "soft", 12)
    d.text(560, 278, "issue", "soft", 12)
    d.line([(120, 296), (730, 296)])
    d.arrow([(120, 296), (736, 296)])
    return notes(d, 322, [
        ("in a grace", "both logins work; pools and processes move over, and no query fails"),
        ("never renewed", "VALID UNTIL in the database ends it, also when no issuer is there"),
        ("its maximum", "is reached by no renewal: then the next login is issued beside it"),
        ("the issuer was killed", "reconcile finds roles without leases and leases without roles, and ends both"),
    ])


def authority():
    d = heading("Certificates between services", "A root that is trusted, certificates that live for hours, and how both are replaced.")
    d.box(20, 80, 180, 56, ["authority's key", "at rest sealed under a KMS;", "in memory while it signs"], "secret")
    d.box(290, 80, 180, 56, ["issuer", "service, lease and maximum", "stand in zk.grants"])
    d.box(560, 80, 180, 56, ["service", "its key never leaves it;", "spiffe://domain/name"], "secret")
    d.arrow([(200, 108), (290, 108)])
    d.text(245, 100, "opens", "soft", 11, "middle")
    d.arrow([(560, 96), (470, 96)])
    d.text(515, 89, "request", "soft", 11, "middle")
    d.arrow([(470, 122), (560, 122)])
    d.text(515, 136, "certificate", "soft", 11, "middle")
    d.box(290, 168, 180, 40, ["list of revocations", "signed, with an end"])
    d.arrow([(380, 136), (380, 168)])
    d.arrow([(470, 188), (650, 188), (650, 136)])
    d.text(560, 204, "read at each handshake", "soft", 11, "middle")
    d.text(20, 246, "A new authority, without a failed request", bold=True)
    steps = [("1  create it", "trusted: old", "shown: old"), ("2  trust both", "trusted: old, new", "shown: old"),
             ("3  new certificates", "trusted: old, new", "shown: new"), ("4  trust the new", "trusted: new", "shown: new")]
    for number, lines in enumerate(steps):
        x = 20 + number * 186
        d.box(x, 260, 162, 60, list(lines))
        if number:
            d.arrow([(x - 24, 290), (x, 290)])
    d.text(20, 344, "Each step is done on every service, in any order, before the next begins: at each moment every side trusts what", "soft", 12)
    d.text(20, 361, "the others show. Then the old key is destroyed. Connections that are open end with ServerOptions::max_age.", "soft", 12)
    return d.finish(380)


ALL = {"flow-policy": policy, "flow-sealing": sealing, "flow-login": login, "flow-authority": authority}
assert WIDTH == 760, "the coordinates above are for this width"
