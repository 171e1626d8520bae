-- Times are milliseconds since 1970-01-01 UTC. Tokens and secrets are kept as SHA-256 in hexadecimal, never as themselves.

CREATE TABLE users (
    id BIGINT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator')),
    password TEXT NOT NULL,
    created BIGINT NOT NULL
);

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
    name TEXT NOT NULL UNIQUE,
    secret TEXT NOT NULL,
    agent TEXT,
    created BIGINT NOT NULL,
    last_seen BIGINT
);

CREATE TABLE devices (
    name TEXT PRIMARY KEY NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    report TEXT NOT NULL
);
CREATE INDEX devices_gateway ON devices (gateway_id);
