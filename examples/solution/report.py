"""The clinic's nightly report: a custom program that is not Rust.

It connects with what libpq finds in the environment, and signs that it acts as the analyst, with the key that the manifest
lends it: without a signature it would see no row.
"""

import hashlib
import hmac
import json
import os

import psycopg


def begin(connection, role, claims):
    """Signs the claims for this connection and transaction, as zk.claim reads them."""
    connection.execute(f"SET LOCAL ROLE {role}")
    pid, began = connection.execute(
        "SELECT pg_backend_pid(), (extract(epoch FROM transaction_timestamp()) * 1000000)::int8"
    ).fetchone()
    payload = json.dumps({"role": role, "pid": pid, "began": began, "claims": claims})
    name, key = os.environ["CLINIC_CLAIM_KEY"].split(":")
    mac = hmac.new(bytes.fromhex(key), payload.encode(), hashlib.sha256).hexdigest()
    connection.execute("SELECT set_config('zk.signed', %s, true)", [f"{name}.{mac}.{payload}"])


with psycopg.connect() as connection:
    begin(connection, "clinic_analyst", {})
    figures = "SELECT tenant_id::text, count(*), sum(cents)::int8 FROM invoices GROUP BY tenant_id ORDER BY tenant_id"
    for tenant, invoices, cents in connection.execute(figures):
        print(json.dumps({"tenant": tenant, "invoices": invoices, "cents": cents}))
