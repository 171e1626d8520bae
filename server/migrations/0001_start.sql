-- Times are milliseconds since 1970-01-01 UTC. Tokens and secrets are kept as SHA-256 in hexadecimal, never as themselves.

-- Organisations that see nothing of one another. The first is there from the start, so that nobody needs to know of them.
CREATE TABLE tenants (
    id BIGINT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    colour TEXT NOT NULL,
    created BIGINT NOT NULL
);
INSERT INTO tenants (id, name, title, colour, created) VALUES (1, 'default', '', '', 0);

-- Whoever can be granted something: people, service accounts (which have no password), guests of a visit.
CREATE TABLE users (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL DEFAULT 1 REFERENCES tenants (id),
    kind TEXT NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service', 'visit')),
    name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX users_tenant ON users (tenant_id);

CREATE TABLE sessions (
    id BIGINT PRIMARY KEY NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('console', 'api')),
    token TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    used BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires);

-- What a session was given for one device's host; it dies with the session.
CREATE TABLE device_cookies (
    token TEXT PRIMARY KEY NOT NULL,
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host TEXT NOT NULL
);
CREATE INDEX device_cookies_session ON device_cookies (session_id);

-- Carries a signed-in person from the console to a device's host, once.
CREATE TABLE tickets (
    token TEXT PRIMARY KEY NOT NULL,
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    nonce TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX tickets_session ON tickets (session_id);
CREATE INDEX tickets_expires ON tickets (expires);

CREATE TABLE gateways (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL DEFAULT 1 REFERENCES tenants (id),
    name TEXT NOT NULL UNIQUE,
    secret TEXT NOT NULL,
    agent TEXT,
    created BIGINT NOT NULL,
    last_seen BIGINT
);
CREATE INDEX gateways_tenant ON gateways (tenant_id);

CREATE TABLE devices (
    name TEXT PRIMARY KEY NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    report TEXT NOT NULL
);
CREATE INDEX devices_gateway ON devices (gateway_id);
