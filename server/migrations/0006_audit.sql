-- What was done, by whom, from where, on what, and with which result. Rows are only ever added at the end and taken away
-- at the start. Each row's hash is taken over the row before it and over its own columns, so a row that was changed,
-- removed or swapped shows.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    tenant TEXT,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    client TEXT,
    action TEXT NOT NULL,
    target_kind TEXT,
    target TEXT,
    gateway TEXT,
    device TEXT,
    service TEXT,
    result TEXT NOT NULL CHECK (result IN ('ok', 'denied', 'failed')),
    reason TEXT,
    details TEXT NOT NULL,
    bytes_up BIGINT,
    bytes_down BIGINT,
    duration_ms BIGINT,
    hash TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at, seq);
CREATE INDEX audit_tenant ON audit (tenant, at, seq);
CREATE INDEX audit_actor ON audit (actor, at, seq);
CREATE INDEX audit_action ON audit (action, at, seq);
CREATE INDEX audit_device ON audit (device, at, seq);
CREATE INDEX audit_gateway ON audit (gateway, at, seq);
CREATE INDEX audit_result ON audit (result, at, seq);

-- The last row of the chain (`end`), and the last row that was taken away at its start (`start`).
CREATE TABLE audit_marks (
    mark TEXT PRIMARY KEY NOT NULL CHECK (mark IN ('start', 'end')),
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_marks (mark, seq, hash) VALUES
    ('start', 0, '0000000000000000000000000000000000000000000000000000000000000000'),
    ('end', 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Up to which row each destination (`syslog`, `webhook`) has been sent what is written.
CREATE TABLE audit_forwards (
    destination TEXT PRIMARY KEY NOT NULL,
    seq BIGINT NOT NULL
);
