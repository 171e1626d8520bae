-- Documents of gateways' configurations: numbered for each gateway, and never changed.
CREATE TABLE config_revisions (
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    document TEXT NOT NULL,
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    comment TEXT NOT NULL,
    PRIMARY KEY (gateway_id, number)
);

-- What a gateway last said of the configuration that it lives by. No `revision`: the router's own file. No `document`: it was
-- not asked for yet, or cannot be shown.
CREATE TABLE config_reports (
    gateway_id BIGINT PRIMARY KEY NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    revision BIGINT,
    sha256 TEXT NOT NULL,
    document TEXT,
    edited BIGINT NOT NULL,
    own_only BIGINT NOT NULL,
    at BIGINT NOT NULL
);

-- Configurations on their way to gateways, some at a time.
CREATE TABLE rollouts (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    comment TEXT NOT NULL,
    wave BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    overwrite BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'stopped')),
    reason TEXT
);
CREATE INDEX rollouts_state ON rollouts (state);
CREATE INDEX rollouts_tenant ON rollouts (tenant_id, at);

CREATE TABLE rollout_members (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'ready', 'sent', 'kept', 'failed', 'skipped')),
    attempts BIGINT NOT NULL,
    failed_check TEXT,
    detail TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, position)
);
CREATE INDEX rollout_members_gateway ON rollout_members (gateway_id, state);
