-- What gateways have found on their LANs. Nothing of it can be reached before somebody approves it.
CREATE TABLE found_devices (
    id BIGINT PRIMARY KEY NOT NULL,
    gateway_id BIGINT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    -- What the gateway knows it by.
    found_key TEXT NOT NULL,
    -- What the gateway says of it, as JSON.
    report TEXT NOT NULL,
    -- Its names, addresses and vendor in lower case, to be searched.
    words TEXT NOT NULL,
    present BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    -- When it was last told of; while it is present, it is seen all the time.
    last_seen BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('new', 'ignored', 'approved')),
    -- The device that it was approved as.
    device TEXT,
    -- The one that it is a part of.
    part_of BIGINT,
    UNIQUE (gateway_id, found_key)
);
CREATE INDEX found_devices_state ON found_devices (state, id);
CREATE INDEX found_devices_part ON found_devices (part_of);

-- What each gateway calls all that it has told.
CREATE TABLE found_lans (
    gateway_id BIGINT PRIMARY KEY NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    digest TEXT NOT NULL
);
