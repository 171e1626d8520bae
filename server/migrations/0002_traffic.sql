-- Names, not ids: what somebody has used is still known when they, or the device, are gone. Months are 'YYYY-MM'.

-- What streams carried, behind gateways of this tenant: `up` from devices, `down` to them, in bytes.
CREATE TABLE traffic (
    month TEXT NOT NULL,
    tenant BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    device TEXT NOT NULL,
    service TEXT NOT NULL,
    person TEXT NOT NULL,
    up BIGINT NOT NULL,
    down BIGINT NOT NULL,
    streams BIGINT NOT NULL,
    PRIMARY KEY (month, tenant, gateway, device, service, person)
);

-- What gateways say of their links, all headers counted. A gateway that has lost its count begins anew at zero: what it
-- had said before then moves to the `earlier` columns.
CREATE TABLE traffic_links (
    month TEXT NOT NULL,
    gateway TEXT NOT NULL,
    sent BIGINT NOT NULL,
    received BIGINT NOT NULL,
    earlier_sent BIGINT NOT NULL,
    earlier_received BIGINT NOT NULL,
    told BIGINT NOT NULL,
    PRIMARY KEY (month, gateway)
);

-- Bytes of one month after which somebody is warned, and after which no more is carried.
CREATE TABLE data_caps (
    gateway_id BIGINT PRIMARY KEY NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    warn BIGINT,
    hard BIGINT,
    lifted_until BIGINT
);
