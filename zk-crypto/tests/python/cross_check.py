"""Writes or checks tests/vectors/*.json: SPEC.md made a second time, by other code in another language.

    python3 tests/python/cross_check.py check   # the files are what this script makes
    python3 tests/python/cross_check.py write
    python3 tests/python/cross_check.py open    # opens the value that a Rust test gives it

Needs the package `cryptography`. It follows SPEC.md section by section and shares nothing with the Rust code; the Rust
tests open, or make again, every vector of the files.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys
import unicodedata

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

FOLDER = pathlib.Path(__file__).parent.parent / "vectors"
TAGS = {"table": 1, "column": 2, "tenant": 3, "row": 4, "purpose": 5, "version": 6}


def derive(data_key, info, length):
    """Section 3."""
    return HKDF(SHA256(), length, b"zk-crypto v1", info).derive(data_key)


def field(tag, value):
    return bytes([tag]) + struct.pack(">Q", len(value)) + value


def associated_data(suite, key_id, scope, context):
    """Section 4."""
    out = bytes([suite]) + key_id + field(0, scope.encode())
    for name, tag in TAGS.items():
        if name in context:
            value = context[name]
            out += field(tag, struct.pack(">Q", value) if name == "version" else value.encode())
    return out


def xaes(key, nonce, text, aad):
    """Section 2, https://c2sp.org/XAES-256-GCM."""
    def aes(block):
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)

    subkey_l = int.from_bytes(aes(bytes(16)), "big")
    k1 = (subkey_l << 1) & (2**128 - 1)
    if subkey_l >> 127:
        k1 ^= 0b10000111
    halves = (bytes([0, i, 0x58, 0]) + nonce[:12] for i in (1, 2))
    derived = b"".join(aes((int.from_bytes(m, "big") ^ k1).to_bytes(16, "big")) for m in halves)
    return AESGCM(derived).encrypt(nonce[12:], text, aad)


def hchacha20(key, nonce):
    """draft-irtf-cfrg-xchacha-03, section 2.2."""
    s = list(struct.unpack("<4I8I4I", b"expand 32-byte k" + key + nonce))

    def rotate(x, n):
        return ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] = rotate(s[z] ^ s[x], n)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def xchacha(key, nonce, text, aad):
    """draft-irtf-cfrg-xchacha-03, section 2.3."""
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], text, aad)


def seal(suite, data_key, nonce, scope, context, text):
    """Section 1."""
    key_id = derive(data_key, b"key id", 16)
    key = derive(data_key, b"seal" + bytes([suite]), 32)
    aad = associated_data(suite, key_id, scope, context)
    return bytes([suite]) + key_id + nonce + (xaes if suite == 1 else xchacha)(key, nonce, text, aad)


def sealed_vectors():
    data_key = bytes(range(32))
    nonce = bytes(range(100, 124))
    place = {"table": "public.customers", "column": "ssn", "row": "42"}
    full = {**place, "tenant": "7f9c", "purpose": "payroll", "version": 2**63 + 1}
    for suite in (1, 2):
        # `outcome` is "opens", or the stage that must fail: "parse" or "open".
        def vector(name, outcome, sealed, context=place, text=b"078-05-1120", key=data_key, scope="tenant:7f9c"):
            return {"name": name, "outcome": outcome, "data_key": key.hex(), "scope": scope, "context": context,
                    "plaintext": text.hex(), "sealed": sealed.hex()}

        def sealed(context=place, text=b"078-05-1120", key=data_key, scope="tenant:7f9c"):
            return seal(suite, key, nonce, scope, context, text)

        good = sealed()
        yield vector("plain", "opens", good)
        yield vector("empty text", "opens", sealed(text=b""), text=b"")
        yield vector("every field", "opens", sealed(full), full)
        yield vector("no field", "opens", sealed({}), {})
        yield vector("empty field", "opens", sealed({"row": ""}), {"row": ""})
        yield vector("unicode", "opens", sealed({"row": "Zoë\n"}), {"row": "Zoë\n"})
        yield vector("long text", "opens", sealed(text=bytes(5000)), text=bytes(5000))
        yield vector("empty field for no field", "open", sealed({"row": ""}), {})
        yield vector("another row", "open", good, {**place, "row": "43"})
        yield vector("row in tenant", "open", sealed({"row": "1"}), {"tenant": "1"})
        yield vector("another scope", "open", good, scope="tenant:7f9d")
        yield vector("another key", "open", good, key=bytes(32))
        yield vector("another suite", "open", bytes([3 - suite]) + good[1:])
        yield vector("unknown suite", "parse", bytes([3]) + good[1:])
        yield vector("cut", "open", good[:-1])
        yield vector("extended", "open", good + b"\0")
        yield vector("too short", "parse", good[:56])
        yield vector("nothing", "parse", b"")


NORMALIZERS = {"exact": 1, "text": 2, "case_fold": 3, "digits": 4, "email": 5}


def normalize(normalizer, text):
    """Section 9, the second table."""
    def fold(text):
        return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())

    return {
        "exact": lambda: text,
        "text": lambda: unicodedata.normalize("NFC", text),
        "case_fold": lambda: fold(text),
        "digits": lambda: "".join(c for c in text if c in "0123456789"),
        "email": lambda: fold(text.strip()),
    }[normalizer]()


def pieces(kind, text):
    """Section 9, the first table."""
    name, *lengths = kind
    if name == "prefix":
        return {text[:n] for n in range(lengths[0], lengths[1] + 1) if n <= len(text)}
    return {text[i:i + lengths[0]] for i in range(len(text) - lengths[0] + 1)}


def tokens(data_key, generation, index, value):
    """Section 9."""
    def mac(key, message):
        return hmac.new(key, message, hashlib.sha256).digest()

    name, *lengths = index["kind"]
    kind = bytes([{"filter": 1, "unique": 2, "prefix": 3, "ngram": 4}[name], *lengths])
    info = b"\1" + field(1, index["table"].encode()) + field(2, index["name"].encode()) + field(3, kind)
    info += field(4, struct.pack(">H", index["bits"])) + field(5, bytes(NORMALIZERS[n] for n in index["parts"]))
    if index["slow"]:
        info += field(6, struct.pack(">II", *index["slow"]))
    key = mac(derive(data_key, b"index", 32), info)

    def token(parts):
        message = b"\2" + b"".join(field(1, part.encode()) for part in parts)
        if index["slow"]:
            memory, passes = index["slow"]
            salt = mac(key, b"\3")[:16]
            slow = Argon2id(salt=salt, length=32, iterations=passes, lanes=1, memory_cost=memory).derive(message)
            message = b"\4" + slow
        size = (index["bits"] + 7) // 8
        unused = size * 8 - index["bits"]
        head = int.from_bytes(mac(key, message)[:size], "big") >> unused << unused
        return struct.pack(">I", generation) + head.to_bytes(size, "big")

    value = [normalize(n, part) for n, part in zip(index["parts"], value, strict=True)]
    if name in ("prefix", "ngram"):
        return sorted(token([piece]) for piece in pieces(index["kind"], value[0]))
    return [token(value)]


def index_vectors():
    data_key = bytes(range(32))

    def vector(label, value, kind=("filter",), bits=10, parts=("text",), slow=None, generation=1, table="public.people",
               name="name"):
        index = {"table": table, "name": name, "kind": list(kind), "bits": bits, "parts": list(parts), "slow": slow}
        made = tokens(data_key, generation, index, value)
        return {"label": label, "data_key": data_key.hex(), "generation": generation, **index, "value": value,
                "tokens": [token.hex() for token in made]}

    yield vector("filter", ["Ann"])
    yield vector("empty", [""])
    yield vector("another name", ["Ann"], name="alias")
    yield vector("another table", ["Ann"], table="public.dogs")
    yield vector("another generation", ["Ann"], generation=2**32 - 1)
    for bits in (1, 7, 8, 9, 255, 256):
        yield vector(f"{bits} bits", ["Ann"], bits=bits)
    yield vector("unique", ["Ann"], kind=("unique",), bits=256)
    yield vector("exact", ["e\u0301"], parts=("exact",))
    yield vector("composed", ["e\u0301"])
    yield vector("folded", ["STRA\u00dfE \u03a3\u1fb3 \u01c5"], parts=("case_fold",))
    yield vector("digits", ["+1 (555) 010-99"], parts=("digits",))
    yield vector("e-mail", [" Ann@Example.ORG\n"], parts=("email",))
    yield vector("compound", ["Ann", "078-05-1120"], parts=("case_fold", "digits"))
    yield vector("compound, moved", ["Ann0", "78-05-1120"], parts=("case_fold", "digits"))
    yield vector("prefixes", ["Zo\u00eb"], kind=("prefix", 2, 5), bits=16)
    yield vector("n-grams", ["banana"], kind=("ngram", 3), bits=16, parts=("case_fold",))
    yield vector("n-grams of a short text", ["ba"], kind=("ngram", 3), bits=16)
    yield vector("slow", ["078-05-1120"], kind=("unique",), bits=256, parts=("digits",), slow=[8192, 2])


HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
INFO = b"zk-crypto v1 portable"
SCOPE, PLACE, TEXT = "tenant:7f9c", {"table": "public.customers", "column": "ssn", "row": "42"}, b"078-05-1120"
KMS_URI, RSA_URI = b"aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd", b"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k"


def body_key(file_key, header):
    """Section 12."""
    return derive(file_key, b"portable" + header, 32)


def lengths(parts, size=">H"):
    return b"".join(struct.pack(size, len(part)) + part for part in parts)


def entry(kind, name, wrapped):
    name = hashlib.sha256(b"zk-crypto v1 recipient" + bytes([kind]) + name).digest()[:16]
    return bytes([kind]) + name + lengths([wrapped])


def pairs():
    return lengths([b"for", INFO, b"scope", SCOPE.encode()], ">Q")


def rsa_associated_data(encrypted):
    return lengths([b"zk-kms rsa-oaep-256 wrap v1", RSA_URI, b"1", encrypted, pairs()], ">Q")


def portable_vector():
    """Made anew by each `write`: HPKE and RSA draw random bytes. `check` opens what is there."""
    privates = [bytes(range(i, i + 32)) for i in (1, 2)]
    file_key = bytes(range(50, 82))
    kms = {"uri": KMS_URI.decode(), "context": pairs().hex(), "bytes": bytes(range(200)).hex(), "key": file_key.hex()}
    rsa = generate_private_key(65537, 2048)
    pkcs8 = rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    one_time = bytes(range(90, 122))
    encrypted = rsa.public_key().encrypt(one_time, OAEP)

    header = b"ZKP\1" + bytes([len(privates) + 2])
    for private in privates:
        public = X25519PrivateKey.from_private_bytes(private).public_key()
        header += entry(1, public.public_bytes_raw(), HPKE.encrypt(file_key, public, INFO))
    header += entry(3, KMS_URI, b"ZKW1" + lengths([KMS_URI, b"7", bytes(range(200))]))
    wrapped = b"\1" + encrypted + xchacha(one_time, bytes(24), file_key, rsa_associated_data(encrypted))
    header += entry(4, RSA_URI, b"ZKW1" + lengths([RSA_URI, b"1", wrapped]))
    body = seal(1, body_key(file_key, header), bytes(range(24)), SCOPE, PLACE, TEXT)
    return {"private": [private.hex() for private in privates], "kms": kms,
            "rsa": {"uri": RSA_URI.decode(), "private": pkcs8.hex()}, "scope": SCOPE, "context": PLACE,
            "plaintext": TEXT.hex(), "portable": (header + body).hex()}


def read_entries(portable):
    """Takes a value apart, as a reader that knows only section 12."""
    assert portable[:4] == b"ZKP\1" and 1 <= portable[4] <= 8
    entries, at = [], 5
    for _ in range(portable[4]):
        kind, name, (size,) = portable[at], portable[at + 1:at + 17], struct.unpack(">H", portable[at + 17:at + 19])
        entries.append((kind, name, portable[at + 19:at + 19 + size]))
        at += 19 + size
    return entries, portable[:at], portable[at:]


def read_parts(record, count):
    parts = []
    for _ in range(count):
        (size,) = struct.unpack(">H", record[:2])
        parts.append(record[2:2 + size])
        record = record[2 + size:]
    assert record == b""
    return parts


def check_portable(vector):
    entries, header, body = read_entries(bytes.fromhex(vector["portable"]))
    file_keys = []
    for kind, name, wrapped in entries:
        if kind == 1:
            for private in map(X25519PrivateKey.from_private_bytes, map(bytes.fromhex, vector["private"])):
                if entry(1, private.public_key().public_bytes_raw(), b"")[1:17] == name:
                    file_keys.append(HPKE.decrypt(wrapped, private, INFO))
        elif kind == 3:
            uri, _, known = read_parts(wrapped[4:], 3)
            assert entry(3, uri, b"")[1:17] == name and uri.decode() == vector["kms"]["uri"]
            assert known.hex() == vector["kms"]["bytes"] and vector["kms"]["context"] == pairs().hex()
            file_keys.append(bytes.fromhex(vector["kms"]["key"]))
        elif kind == 4:
            uri, version, block = read_parts(wrapped[4:], 3)
            assert entry(4, uri, b"")[1:17] == name and (uri, version, block[:1]) == (RSA_URI, b"1", b"\1")
            rsa = load_der_private_key(bytes.fromhex(vector["rsa"]["private"]), None)
            encrypted, sealed = block[1:-48], block[-48:]
            nonce, key = bytes(24), rsa.decrypt(encrypted, OAEP)
            cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
            file_keys.append(cipher.decrypt(bytes(12), sealed, rsa_associated_data(encrypted)))
    assert len(file_keys) == len(entries) and len(set(file_keys)) == 1
    again = seal(1, body_key(file_keys[0], header), body[17:41], vector["scope"], vector["context"],
                 bytes.fromhex(vector["plaintext"]))
    assert again == body


def check_published():
    """The vectors of the standards, so that this script stands on its own."""
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    assert xaes(b"\1" * 32, nonce, b"XAES-256-GCM", b"").hex() == \
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    assert xaes(b"\3" * 32, nonce, b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM").hex() == \
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
    assert hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927")).hex() == \
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


if __name__ == "__main__":
    check_published()
    if sys.argv[1:] == ["open"]:
        check_portable(json.load(sys.stdin))
        sys.exit()
    for name, vectors in {"sealed-v1.json": sealed_vectors(), "index-v1.json": index_vectors()}.items():
        text = json.dumps(list(vectors), indent=1, ensure_ascii=True) + "\n"
        if sys.argv[1:] == ["write"]:
            (FOLDER / name).write_text(text)
        elif (FOLDER / name).read_text() != text:
            sys.exit(f"{name} is not what this script makes")
    if sys.argv[1:] == ["write"]:
        (FOLDER / "portable-v1.json").write_text(json.dumps(portable_vector(), indent=1) + "\n")
    check_portable(json.loads((FOLDER / "portable-v1.json").read_text()))
