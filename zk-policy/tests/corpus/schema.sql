-- The tables that the policies of this folder speak of. Foreign keys are deferred, so that a row can be taken away for a look.
CREATE TABLE customers (
  id uuid PRIMARY KEY, tenant_id uuid NOT NULL, owner_id uuid, region text, phone text, email text, score int8,
  legal_hold bool, credit_limit numeric, ssn bytea);
CREATE INDEX ON customers (tenant_id);
CREATE TABLE invoices (
  id uuid PRIMARY KEY, tenant_id uuid NOT NULL, customer_id uuid REFERENCES customers DEFERRABLE INITIALLY DEFERRED,
  issued_on date, state text);
CREATE INDEX ON invoices (tenant_id);
CREATE TABLE countries (code text PRIMARY KEY);
CREATE TABLE projects (
  id int8 NOT NULL, tenant_id uuid NOT NULL, lead uuid, title text, due date, closed bool, UNIQUE (tenant_id, id), PRIMARY KEY (id, tenant_id));
CREATE TABLE tasks (
  id int8 PRIMARY KEY, tenant_id uuid NOT NULL, project_id int8, assignee uuid, state text, at timestamptz, estimate int8,
  urgent bool, secret bytea,
  FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE comments (
  id int8 PRIMARY KEY, tenant_id uuid NOT NULL, task_id int8 REFERENCES tasks DEFERRABLE INITIALLY DEFERRED, author uuid,
  body text, internal bool);
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Ta""ble" (
  id int8 PRIMARY KEY, "Tenant" int8 NOT NULL, "when" timestamptz, "is" text, "null" text, flag bool);
-- Names as long as they may be, 63 bytes, and names that differ in nothing but case or their last byte.
CREATE TABLE "My Schema"."äääääääääääääääääääääääääääääääx" (id int8 PRIMARY KEY, "Tenant" int8 NOT NULL, "äääääääääääääääääääääääääääääääx" text, "äääääääääääääääääääääääääääääääy" text);
CREATE TABLE "My Schema"."äääääääääääääääääääääääääääääääy" (id int8 PRIMARY KEY, "Tenant" int8 NOT NULL, "äääääääääääääääääääääääääääääääx" text, "äääääääääääääääääääääääääääääääy" text);
CREATE TABLE "My Schema".case_of (id int8 PRIMARY KEY, "Tenant" int8 NOT NULL, flag bool, "Flag" bool);
CREATE TABLE "My Schema"."Case_of" (id int8 PRIMARY KEY, "Tenant" int8 NOT NULL, flag bool, "Flag" bool);
-- A table of the same name in another schema.
CREATE SCHEMA archive;
CREATE TABLE archive.invoices (
  id uuid PRIMARY KEY, tenant_id uuid NOT NULL, invoice_id uuid REFERENCES public.invoices DEFERRABLE INITIALLY DEFERRED,
  reason text);
