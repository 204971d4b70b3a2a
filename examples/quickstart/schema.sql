CREATE TABLE countries (
    code text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE customers (
    id           bigint PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    owner_id     uuid NOT NULL,
    name         text NOT NULL,
    country      text NOT NULL REFERENCES countries,
    phone        text,
    email        text,
    credit_limit bigint NOT NULL,
    legal_hold   boolean NOT NULL DEFAULT false,
    ssn          bytea,
    card         bytea
);
CREATE INDEX ON customers (tenant_id, id);

CREATE TABLE invoices (
    id          bigint PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    customer_id bigint NOT NULL REFERENCES customers,
    owner_id    uuid NOT NULL,
    total_cents bigint NOT NULL,
    state       text NOT NULL CHECK (state IN ('open', 'sent', 'paid')),
    paid_on     date
);
CREATE INDEX ON invoices (tenant_id, id);

INSERT INTO countries VALUES ('DE', 'Germany'), ('EG', 'Egypt'), ('SA', 'Saudi Arabia'), ('SE', 'Sweden');

-- Two tenants with two agents each; every value follows from the row's number.
INSERT INTO customers (id, tenant_id, owner_id, name, country, phone, email, credit_limit, legal_hold)
SELECT n,
       ('0000000' || 1 + n % 2 || '-0000-4000-8000-000000000000')::uuid,
       ('aaaaaaa' || 1 + n % 4 || '-0000-4000-8000-000000000000')::uuid,
       'Customer ' || n,
       (ARRAY['DE', 'EG', 'SA', 'SE'])[1 + n % 4],
       '+49 30 ' || 100000 + n,
       'customer' || n || '@example.com',
       1000 + n * 37 % 9000,
       n % 50 = 0
FROM generate_series(1, 4000) AS n;

INSERT INTO invoices (id, tenant_id, customer_id, owner_id, total_cents, state)
SELECT n, c.tenant_id, c.id, c.owner_id, n * 7919 % 500000, (ARRAY['open', 'sent', 'paid'])[1 + n % 3]
FROM generate_series(1, 6000) AS n JOIN customers c ON c.id = 1 + n % 4000;
