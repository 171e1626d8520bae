-- People: where an account is kept, what a session is used from, the second factor, and links for one use.

-- `local`: the password is here. `ldap` and `oidc`: somebody else knows the person, whom `subject` names there for ever.
ALTER TABLE users ADD COLUMN source TEXT NOT NULL DEFAULT 'local';
ALTER TABLE users ADD COLUMN subject TEXT;
-- When the directory was last asked for this person, and when it last said that they are still welcome.
ALTER TABLE users ADD COLUMN asked BIGINT;
ALTER TABLE users ADD COLUMN confirmed BIGINT;
-- Their source does not let them in: they may do nothing, whatever they were given.
ALTER TABLE users ADD COLUMN blocked BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX users_subject ON users (source, subject);

-- Whether everybody of a tenant must have a second factor.
ALTER TABLE tenants ADD COLUMN second_factor BIGINT NOT NULL DEFAULT 0;

-- As it was when the session began; told to its owner and to admins.
ALTER TABLE sessions ADD COLUMN address TEXT;
ALTER TABLE sessions ADD COLUMN agent TEXT;

-- A secret that makes codes (RFC 6238), sealed with the key in the state directory. It counts once a code has shown that
-- the person has it; `step` is the last one used, so that no code is taken twice.
CREATE TABLE second_factors (
    user_id BIGINT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    secret TEXT NOT NULL,
    proven BIGINT NOT NULL,
    step BIGINT NOT NULL,
    created BIGINT NOT NULL
);

-- Each opens once in place of a code; kept as SHA-256 of 80 random bits.
CREATE TABLE recovery_codes (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code TEXT NOT NULL,
    PRIMARY KEY (user_id, code)
);

-- Sign-ins that wait for the second factor.
CREATE TABLE half_sign_ins (
    token TEXT PRIMARY KEY NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tries BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX half_sign_ins_user ON half_sign_ins (user_id);

-- Links for one use: to make the first account (no user), or to choose a password.
CREATE TABLE account_links (
    token TEXT PRIMARY KEY NOT NULL,
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    expires BIGINT NOT NULL
);

-- Sign-ins that are under way at an OpenID provider.
CREATE TABLE oidc_sign_ins (
    state TEXT PRIMARY KEY NOT NULL,
    browser TEXT NOT NULL,
    nonce TEXT NOT NULL,
    verifier TEXT NOT NULL,
    next TEXT NOT NULL,
    expires BIGINT NOT NULL
);

-- Wrong attempts to sign in, so that a restart forgives nothing. What is counted is kept as its SHA-256.
CREATE TABLE failures (
    counted TEXT PRIMARY KEY NOT NULL,
    times BIGINT NOT NULL,
    last BIGINT NOT NULL
);
