-- Programs for gateways, signed by a key that is not here. The bytes of each lie in a file.
CREATE TABLE programs (
    id BIGINT PRIMARY KEY NOT NULL,
    version TEXT NOT NULL,
    target TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    head TEXT NOT NULL,
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (version, target)
);

-- Versions on their way to gateways, some at a time.
CREATE TABLE updates (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    comment TEXT NOT NULL,
    version TEXT NOT NULL,
    wave BIGINT NOT NULL,
    rate BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'stopped')),
    reason TEXT
);
CREATE INDEX updates_state ON updates (state);
CREATE INDEX updates_tenant ON updates (tenant_id, at);

-- `loaded` of `size` bytes are at the gateway.
CREATE TABLE update_members (
    update_id BIGINT NOT NULL REFERENCES updates (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'ready', 'sent', 'kept', 'failed', 'skipped')),
    attempts BIGINT NOT NULL,
    loaded BIGINT NOT NULL,
    size BIGINT NOT NULL,
    failed_check TEXT,
    detail TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (update_id, position)
);
CREATE INDEX update_members_gateway ON update_members (gateway_id, state);
