-- What other processes must notice at once: looked at several times a second, so it is one row for each topic. `rights`
-- counts every change of what somebody may do.
CREATE TABLE changes (
    topic TEXT PRIMARY KEY NOT NULL,
    number BIGINT NOT NULL
);
INSERT INTO changes (topic, number) VALUES ('rights', 0);

-- Roles that a tenant has made; those that come with the server are in the code. `permissions` is a JSON list of names.
CREATE TABLE roles (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE groups (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE members (
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

-- Who (a user or a group) has which role (one that comes with the server, or one of the tenant's own) on what, and when.
-- `scope` is JSON; a gateway in it is named once more, so that the grant goes with it. `standing` marks the role somebody
-- was added with.
CREATE TABLE grants (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    group_id BIGINT REFERENCES groups (id) ON DELETE CASCADE,
    role TEXT,
    role_id BIGINT REFERENCES roles (id),
    scope TEXT NOT NULL,
    gateway_id BIGINT REFERENCES gateways (id) ON DELETE CASCADE,
    begins BIGINT,
    ends BIGINT,
    hours TEXT,
    zone TEXT,
    standing BIGINT NOT NULL DEFAULT 0,
    granted_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    created BIGINT NOT NULL,
    CHECK ((user_id IS NULL) <> (group_id IS NULL)),
    CHECK ((role IS NULL) <> (role_id IS NULL)),
    CHECK ((hours IS NULL) = (zone IS NULL))
);
CREATE INDEX grants_tenant ON grants (tenant_id);
CREATE INDEX grants_user ON grants (user_id);
CREATE INDEX grants_group ON grants (group_id);
CREATE INDEX grants_role ON grants (role_id);
CREATE INDEX grants_gateway ON grants (gateway_id);

-- Tokens for programs. `permissions` is a JSON list of names; absent, the token may what its owner may.
CREATE TABLE tokens (
    id BIGINT PRIMARY KEY NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,
    permissions TEXT,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT
);
CREATE INDEX tokens_user ON tokens (user_id);

-- Access for somebody without an account. The guest is a user of its own, whose sessions are those of whoever holds the
-- link; the host is who invited, and the visit never allows more than the host may. One of `service` and `speaks` is there.
CREATE TABLE visits (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    guest_id BIGINT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    host_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token TEXT NOT NULL UNIQUE,
    guest TEXT NOT NULL,
    device TEXT NOT NULL,
    service TEXT,
    speaks TEXT,
    view_only BIGINT NOT NULL,
    reason TEXT NOT NULL,
    begins BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    uses_max BIGINT NOT NULL,
    uses BIGINT NOT NULL DEFAULT 0,
    approval TEXT NOT NULL CHECK (approval IN ('none', 'pending', 'approved', 'refused')),
    decided_by TEXT,
    revoked BIGINT,
    revoked_by TEXT,
    created BIGINT NOT NULL,
    CHECK ((service IS NULL) <> (speaks IS NULL))
);
CREATE INDEX visits_tenant ON visits (tenant_id);
CREATE INDEX visits_host ON visits (host_id);
