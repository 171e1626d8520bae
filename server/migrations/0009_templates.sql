-- Words to group gateways by.
CREATE TABLE gateway_tags (
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (gateway_id, tag)
);
CREATE INDEX gateway_tags_tag ON gateway_tags (tag, gateway_id);

-- What a gateway has for itself beside its template: the values of its variables, as JSON, and a document that is laid over
-- that of the template. `version` counts the changes, those of its tags too.
CREATE TABLE gateway_parts (
    gateway_id BIGINT PRIMARY KEY NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    variables TEXT NOT NULL,
    overrides TEXT NOT NULL
);

-- Documents for all gateways that carry certain tags: numbered for each template, and never changed.
CREATE TABLE templates (
    id BIGINT PRIMARY KEY NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    UNIQUE (tenant_id, name)
);
CREATE TABLE template_revisions (
    template_id BIGINT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    -- A list, as JSON: a gateway is meant that carries all of them.
    tags TEXT NOT NULL,
    document TEXT NOT NULL,
    author TEXT NOT NULL,
    at BIGINT NOT NULL,
    comment TEXT NOT NULL,
    PRIMARY KEY (template_id, number)
);

-- The revision of a template that a document was made from.
ALTER TABLE config_revisions ADD COLUMN template TEXT;
ALTER TABLE config_revisions ADD COLUMN template_revision BIGINT;

-- Lists go through the gateways of an organisation by name.
CREATE INDEX gateways_tenant_name ON gateways (tenant_id, name);
