"""Writes or checks tests/vectors/sealed-v1.json: SPEC.md made a second time, by other code in another language.

    python3 tests/python/cross_check.py check   # the file is what this script makes
    python3 tests/python/cross_check.py write

Needs the package `cryptography`. It follows SPEC.md section by section and shares nothing with the Rust code; the Rust
tests open every vector of the file.
"""

import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE = pathlib.Path(__file__).parent.parent / "vectors" / "sealed-v1.json"
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


def vectors():
    data_key = bytes(range(32))
    nonce = bytes(range(100, 124))
    place = {"table": "public.customers", "column": "ssn", "row": "42"}
    full = {**place, "tenant": "7f9c", "purpose": "payroll", "version": 2**63 + 1}
    for suite in (1, 2):
        def vector(name, opens, sealed, context=place, text=b"078-05-1120", key=data_key, scope="tenant:7f9c"):
            return {"name": name, "opens": opens, "data_key": key.hex(), "scope": scope, "context": context,
                    "plaintext": text.hex(), "sealed": sealed.hex()}

        def sealed(context=place, text=b"078-05-1120", key=data_key, scope="tenant:7f9c"):
            return seal(suite, key, nonce, scope, context, text)

        good = sealed()
        yield vector("plain", True, good)
        yield vector("empty text", True, sealed(text=b""), text=b"")
        yield vector("every field", True, sealed(full), full)
        yield vector("no field", True, sealed({}), {})
        yield vector("empty field", True, sealed({"row": ""}), {"row": ""})
        yield vector("unicode", True, sealed({"row": "Zoë\n"}), {"row": "Zoë\n"})
        yield vector("long text", True, sealed(text=bytes(5000)), text=bytes(5000))
        yield vector("empty field for no field", False, sealed({"row": ""}), {})
        yield vector("another row", False, good, {**place, "row": "43"})
        yield vector("row in tenant", False, sealed({"row": "1"}), {"tenant": "1"})
        yield vector("another scope", False, good, scope="tenant:7f9d")
        yield vector("another key", False, good, key=bytes(32))
        yield vector("another suite", False, bytes([3 - suite]) + good[1:])
        yield vector("unknown suite", False, bytes([3]) + good[1:])
        yield vector("cut", False, good[:-1])
        yield vector("extended", False, good + b"\0")
        yield vector("too short", False, good[:56])
        yield vector("nothing", False, b"")


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
    text = json.dumps(list(vectors()), indent=1, ensure_ascii=True) + "\n"
    if sys.argv[1:] == ["write"]:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE} is not what this script makes")
