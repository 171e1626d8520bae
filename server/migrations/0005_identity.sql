-- A gateway proves itself with a shared secret (`secret` is its hash; empty: none) or with a certificate of ours.
ALTER TABLE gateways ADD COLUMN revoked BIGINT;
-- Counts whenever what proved the gateway before stops doing so: a link that came in under another number is ended.
ALTER TABLE gateways ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

-- Counts every change of what gateways prove themselves with.
INSERT INTO changes (topic, number) VALUES ('identity', 0);

-- Certificates that were given to gateways. One that is not here opens nothing, whoever signed it.
CREATE TABLE certificates (
    fingerprint TEXT PRIMARY KEY NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    public_key TEXT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT,
    retired BIGINT
);
CREATE INDEX certificates_gateway ON certificates (gateway_id);

-- Codes for one use with which a router becomes a gateway. A used one answers the key that used it, until the
-- certificate was seen: the first answer may have been lost.
CREATE TABLE claims (
    code TEXT PRIMARY KEY NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used_by TEXT
);
CREATE INDEX claims_gateway ON claims (gateway_id);

-- Keys for many routers: each may bring a number of them into the queue.
CREATE TABLE provisioning_keys (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    uses BIGINT NOT NULL,
    used BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

-- Routers that showed a provisioning key, until somebody decides.
CREATE TABLE enrolments (
    id BIGINT PRIMARY KEY NOT NULL,
    key_id BIGINT NOT NULL REFERENCES provisioning_keys (id) ON DELETE CASCADE,
    public_key TEXT NOT NULL UNIQUE,
    label TEXT,
    address TEXT NOT NULL,
    agent TEXT NOT NULL,
    created BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'accepted', 'refused')),
    gateway_id BIGINT REFERENCES gateways (id) ON DELETE CASCADE
);
CREATE INDEX enrolments_key ON enrolments (key_id);
