-- What the studio generated for the clinic. Keys begin with the tenant.

CREATE TABLE patients (
    tenant_id  uuid NOT NULL,
    id         uuid NOT NULL UNIQUE,
    doctor_id  uuid NOT NULL,
    name       text NOT NULL,
    phone      text,
    email      bytea NOT NULL,                  -- sealed
    email_odd  bytea,                           -- tokens of the blind index, for odd and even versions of its key
    email_even bytea,
    diagnosis  bytea,                           -- sealed
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email_odd),
    UNIQUE (tenant_id, email_even)
);

CREATE TABLE visits (
    tenant_id  uuid NOT NULL,
    id         uuid NOT NULL,
    patient_id uuid NOT NULL,
    doctor_id  uuid NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, patient_id) REFERENCES patients (tenant_id, id)
);
CREATE INDEX ON visits (tenant_id, patient_id);

-- One for each token that was signed for it: a request that is sent again prescribes nothing again.
CREATE TABLE prescriptions (
    tenant_id  uuid NOT NULL,
    token      uuid NOT NULL,
    patient_id uuid NOT NULL,
    doctor_id  uuid NOT NULL,
    drug       bytea NOT NULL,                  -- sealed
    PRIMARY KEY (tenant_id, token),
    FOREIGN KEY (tenant_id, patient_id) REFERENCES patients (tenant_id, id)
);
CREATE INDEX ON prescriptions (tenant_id, patient_id);

CREATE TABLE invoices (
    tenant_id  uuid NOT NULL,
    visit_id   uuid NOT NULL,
    cents      bigint NOT NULL,
    recipient  bytea NOT NULL,                  -- sealed
    PRIMARY KEY (tenant_id, visit_id),
    FOREIGN KEY (tenant_id, visit_id) REFERENCES visits (tenant_id, id)
);
