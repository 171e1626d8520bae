//! Bytes by month, and the caps on them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_protocol::id::GatewayName;

use super::gateways::gateway_name;
use super::{GatewayId, Store, StoreError, damaged, time_from};
use crate::rights::TenantId;

/// Rows of one answer; a page for people and a sheet for programs have fewer.
const ROWS_MAX: i64 = 100_000;

/// A month of the calendar: `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month of this moment, in this zone.
    pub fn of(at: Timestamp, zone: &TimeZone) -> Self {
        let at = zone.to_datetime(at);
        Self { year: at.year(), month: at.month() }
    }

    /// So many months earlier.
    pub fn back(self, months: u32) -> Self {
        let number = i64::from(self.year) * 12 + i64::from(self.month - 1) - i64::from(months);
        let (year, month) = (number.div_euclid(12), number.rem_euclid(12));
        Self { year: i16::try_from(year).unwrap_or(i16::MIN), month: i8::try_from(month + 1).unwrap_or(1) }
    }

    /// When the next one begins.
    pub fn end(self, zone: &TimeZone) -> Option<Timestamp> {
        let next = self.next();
        jiff::civil::Date::new(next.year, next.month, 1)
            .ok()
            .and_then(|first| first.to_zoned(zone.clone()).ok())
            .map(|first| first.timestamp())
    }

    fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year.saturating_add(1), month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A text is not a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a month is written like 2026-11")]
pub struct NotAMonth;

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let (year, month) = text.split_once('-').ok_or(NotAMonth)?;
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(NotAMonth);
        }
        let (year, month) = (year.parse().map_err(|_| NotAMonth)?, month.parse().map_err(|_| NotAMonth)?);
        if (1..=12).contains(&month) { Ok(Self { year, month }) } else { Err(NotAMonth) }
    }
}

/// What bytes are booked under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficKey {
    /// The month.
    pub month: Month,
    /// Whose the gateway is.
    pub tenant: TenantId,
    /// The gateway's name.
    pub gateway: String,
    /// The device's name.
    pub device: String,
    /// The service's name.
    pub service: String,
    /// The person's name.
    pub person: String,
}

/// Bytes and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSum {
    /// Bytes from devices.
    pub up: u64,
    /// Bytes to devices.
    pub down: u64,
    /// Streams that have ended.
    pub streams: u64,
}

impl TrafficSum {
    /// Bytes both ways.
    pub fn bytes(self) -> u64 {
        self.up.saturating_add(self.down)
    }
}

impl std::ops::AddAssign for TrafficSum {
    fn add_assign(&mut self, more: Self) {
        self.up = self.up.saturating_add(more.up);
        self.down = self.down.saturating_add(more.down);
        self.streams = self.streams.saturating_add(more.streams);
    }
}

/// What a gateway says of its link in a month, all headers counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCount {
    /// Bytes that it sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
    /// When it last said so.
    pub told: Timestamp,
}

impl LinkCount {
    /// Bytes both ways.
    pub fn bytes(self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

/// Which rows are wanted, and what they are summed up by.
#[derive(Clone, Debug)]
pub struct TrafficQuery {
    /// The first month.
    pub from: Month,
    /// The last month.
    pub to: Month,
    /// Only behind gateways of this tenant.
    pub tenant: Option<TenantId>,
    /// Only this gateway.
    pub gateway: Option<String>,
    /// Only this device.
    pub device: Option<String>,
    /// Only this person.
    pub person: Option<String>,
    /// A row for each gateway, for each device, for each service, for each person.
    pub by: By,
}

/// What rows are told apart by, beside the month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// By gateway.
    pub gateway: bool,
    /// By device.
    pub device: bool,
    /// By service.
    pub service: bool,
    /// By person.
    pub person: bool,
}

/// Bytes of one month after which somebody is warned, and after which no more is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataCap {
    /// Warn from here on.
    pub warn: Option<u64>,
    /// Carry no more from here on.
    pub hard: Option<u64>,
    /// Until then the second does not count.
    pub lifted_until: Option<Timestamp>,
}

impl Store {
    /// Adds to what is booked, all or nothing.
    pub async fn book_traffic(
        &self,
        sums: &[(TrafficKey, TrafficSum)],
        links: &[(Month, String, LinkCount)],
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for (key, sum) in sums {
            let sql = "INSERT INTO traffic (month, gateway, device, service, person, up, down, streams, tenant) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                       ON CONFLICT (month, tenant, gateway, device, service, person) DO UPDATE SET \
                       up = traffic.up + excluded.up, down = traffic.down + excluded.down, \
                       streams = traffic.streams + excluded.streams";
            sqlx::query(sql)
                .bind(key.month.to_string())
                .bind(&key.gateway)
                .bind(&key.device)
                .bind(&key.service)
                .bind(&key.person)
                .bind(number(sum.up))
                .bind(number(sum.down))
                .bind(number(sum.streams))
                .bind(key.tenant.0)
                .execute(&mut *write)
                .await?;
        }
        for (month, gateway, count) in links {
            let sql = "INSERT INTO traffic_links \
                       (month, gateway, sent, received, earlier_sent, earlier_received, told) \
                       VALUES ($1, $2, $3, $4, 0, 0, $5) ON CONFLICT (month, gateway) DO UPDATE SET \
                       earlier_sent = traffic_links.earlier_sent + CASE \
                       WHEN excluded.sent < traffic_links.sent THEN traffic_links.sent ELSE 0 END, \
                       earlier_received = traffic_links.earlier_received + CASE \
                       WHEN excluded.sent < traffic_links.sent THEN traffic_links.received ELSE 0 END, \
                       sent = excluded.sent, received = excluded.received, told = excluded.told";
            sqlx::query(sql)
                .bind(month.to_string())
                .bind(gateway)
                .bind(number(count.sent))
                .bind(number(count.received))
                .bind(count.told.as_millisecond())
                .execute(&mut *write)
                .await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// What is booked, summed up as asked for, in order.
    pub async fn traffic(&self, wanted: &TrafficQuery) -> Result<Vec<(TrafficKey, TrafficSum)>, StoreError> {
        type Row = (String, i64, String, String, String, String, i64, i64, i64);
        let sql = "SELECT month, tenant, CASE WHEN $1 THEN gateway ELSE '' END, CASE WHEN $2 THEN device ELSE '' END, \
                   CASE WHEN $3 THEN service ELSE '' END, CASE WHEN $4 THEN person ELSE '' END, \
                   CAST(SUM(up) AS BIGINT), CAST(SUM(down) AS BIGINT), CAST(SUM(streams) AS BIGINT) \
                   FROM traffic WHERE month BETWEEN $5 AND $6 AND ($7 = '' OR gateway = $7) \
                   AND ($8 = '' OR device = $8) AND ($9 = '' OR person = $9) AND ($10 = -1 OR tenant = $10) \
                   GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6 LIMIT $11";
        let rows: Vec<Row> = sqlx::query_as(sql)
            .bind(wanted.by.gateway)
            .bind(wanted.by.device)
            .bind(wanted.by.service)
            .bind(wanted.by.person)
            .bind(wanted.from.to_string())
            .bind(wanted.to.to_string())
            .bind(wanted.gateway.as_deref().unwrap_or(""))
            .bind(wanted.device.as_deref().unwrap_or(""))
            .bind(wanted.person.as_deref().unwrap_or(""))
            .bind(wanted.tenant.map_or(-1, |tenant| tenant.0))
            .bind(ROWS_MAX)
            .fetch_all(&self.pool)
            .await?;
        let row = |(month, tenant, gateway, device, service, person, up, down, streams): Row| {
            let month = month.parse().map_err(|_| damaged("month")(&month))?;
            let sum = TrafficSum { up: bytes(up), down: bytes(down), streams: bytes(streams) };
            let tenant = TenantId(tenant);
            Ok((TrafficKey { month, tenant, gateway, device, service, person }, sum))
        };
        rows.into_iter().map(row).collect()
    }

    /// What gateways said of their links in these months, by month and name; of one gateway, or of all.
    pub async fn link_counts(
        &self,
        (from, to): (Month, Month),
        gateway: Option<&str>,
    ) -> Result<Vec<(Month, String, LinkCount)>, StoreError> {
        type Row = (String, String, i64, i64, i64);
        let sql = "SELECT month, gateway, sent + earlier_sent, received + earlier_received, told FROM traffic_links \
                   WHERE month BETWEEN $1 AND $2 AND ($3 = '' OR gateway = $3) ORDER BY month, gateway LIMIT $4";
        let rows: Vec<Row> = sqlx::query_as(sql)
            .bind(from.to_string())
            .bind(to.to_string())
            .bind(gateway.unwrap_or(""))
            .bind(ROWS_MAX)
            .fetch_all(&self.pool)
            .await?;
        let row = |(month, gateway, sent, received, told): Row| {
            let month = month.parse().map_err(|_| damaged("month")(&month))?;
            Ok((month, gateway, LinkCount { sent: bytes(sent), received: bytes(received), told: time_from(told)? }))
        };
        rows.into_iter().map(row).collect()
    }

    /// Forgets what is older than a month; returns how many rows that were.
    pub async fn forget_traffic_before(&self, month: Month) -> Result<u64, StoreError> {
        let month = month.to_string();
        let sums = sqlx::query("DELETE FROM traffic WHERE month < $1").bind(&month).execute(&self.pool).await?;
        let links = sqlx::query("DELETE FROM traffic_links WHERE month < $1").bind(&month).execute(&self.pool).await?;
        Ok(sums.rows_affected() + links.rows_affected())
    }

    /// All caps.
    pub async fn data_caps(&self) -> Result<Vec<(GatewayName, DataCap)>, StoreError> {
        type Row = (String, Option<i64>, Option<i64>, Option<i64>);
        let sql = "SELECT g.name, c.warn, c.hard, c.lifted_until FROM data_caps c \
                   JOIN gateways g ON g.id = c.gateway_id ORDER BY g.name";
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let row = |(name, warn, hard, lifted): Row| {
            let lifted_until = lifted.map(time_from).transpose()?;
            Ok((gateway_name(&name)?, DataCap { warn: warn.map(bytes), hard: hard.map(bytes), lifted_until }))
        };
        rows.into_iter().map(row).collect()
    }

    /// Sets a gateway's cap; false if there is no gateway of that name.
    pub async fn set_data_cap(&self, name: &GatewayName, cap: &DataCap) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT id FROM gateways WHERE name = $1";
        let id: Option<(i64,)> = sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&mut *write).await?;
        let Some(id) = id.map(|(id,)| GatewayId(id)) else { return Ok(false) };
        sqlx::query("DELETE FROM data_caps WHERE gateway_id = $1").bind(id.0).execute(&mut *write).await?;
        if *cap != DataCap::default() {
            sqlx::query("INSERT INTO data_caps (gateway_id, warn, hard, lifted_until) VALUES ($1, $2, $3, $4)")
                .bind(id.0)
                .bind(cap.warn.map(number))
                .bind(cap.hard.map(number))
                .bind(cap.lifted_until.map(Timestamp::as_millisecond))
                .execute(&mut *write)
                .await?;
        }
        write.commit().await?;
        Ok(true)
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn bytes(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::tests::fresh;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn key(of: &str, device: &str, person: &str) -> TrafficKey {
        let (gateway, service) = ("site12".to_owned(), "web".to_owned());
        let tenant = TenantId::DEFAULT;
        TrafficKey { month: month(of), tenant, gateway, device: device.to_owned(), service, person: person.to_owned() }
    }

    fn sum(up: u64, down: u64) -> TrafficSum {
        TrafficSum { up, down, streams: 1 }
    }

    #[test]
    fn months_follow_the_zone_and_the_calendar() {
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        let at: Timestamp = "2026-12-31T23:30:00Z".parse().unwrap();
        assert_eq!(Month::of(at, &TimeZone::UTC).to_string(), "2026-12");
        assert_eq!(Month::of(at, &berlin).to_string(), "2027-01");
        assert_eq!(month("2027-01").back(1), month("2026-12"));
        assert_eq!(month("2026-11").back(24).to_string(), "2024-11");
        assert_eq!(month("2026-12").end(&TimeZone::UTC), Some("2027-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(month("2026-11").end(&berlin), Some("2026-11-30T23:00:00Z".parse().unwrap()));
        for wrong in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-11-01", "+026-11"] {
            assert_eq!(wrong.parse::<Month>(), Err(NotAMonth), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_is_booked_adds_up_and_is_summed_as_asked_for() {
        let (_dir, store) = fresh().await;
        for _ in 0..2 {
            let sums = [
                (key("2026-11", "plc1", "anna"), sum(10, 1)),
                (key("2026-11", "plc1", "otto"), sum(5, 0)),
                (key("2026-11", "cam", "anna"), sum(100, 0)),
                (key("2026-10", "cam", "anna"), sum(1000, 0)),
            ];
            store.book_traffic(&sums, &[]).await.unwrap();
        }
        let by = By { device: true, ..By::default() };
        let (from, to) = (month("2026-11"), month("2026-11"));
        let tenant = Some(TenantId::DEFAULT);
        let mut wanted = TrafficQuery { from, to, tenant, gateway: None, device: None, person: None, by };
        let told = async |wanted: &TrafficQuery| -> Vec<_> {
            let rows = store.traffic(wanted).await.unwrap();
            rows.into_iter().map(|(key, sum)| (key.month.to_string(), key.device, key.person, sum.up)).collect()
        };
        let row = |month: &str, device: &str, person: &str, up| (month.into(), device.into(), person.into(), up);
        assert_eq!(told(&wanted).await, [row("2026-11", "cam", "", 200), row("2026-11", "plc1", "", 30)]);
        wanted.from = month("2026-10");
        wanted.by = By { person: true, ..By::default() };
        wanted.person = Some("anna".into());
        assert_eq!(told(&wanted).await, [row("2026-10", "", "anna", 2000), row("2026-11", "", "anna", 220)]);
        wanted.tenant = Some(TenantId(7));
        assert_eq!(told(&wanted).await, [], "another tenant's");
        wanted.tenant = tenant;
        assert_eq!(store.forget_traffic_before(month("2026-11")).await.unwrap(), 1);
        assert_eq!(told(&wanted).await, [row("2026-11", "", "anna", 220)]);
    }

    #[tokio::test]
    async fn a_gateway_that_lost_its_count_goes_on_from_what_it_had_said() {
        let (_dir, store) = fresh().await;
        let of = month("2026-11");
        for (sent, received, expected) in
            [(10, 100, (10, 100)), (30, 300, (30, 300)), (5, 50, (35, 350)), (6, 60, (36, 360))]
        {
            let told = Timestamp::from_second(1_700_000_000).unwrap();
            let count = LinkCount { sent, received, told };
            store.book_traffic(&[], &[(of, "site12".into(), count)]).await.unwrap();
            let kept = store.link_counts((of, of), Some("site12")).await.unwrap();
            assert_eq!((kept[0].2.sent, kept[0].2.received), expected);
        }
        assert_eq!(store.link_counts((of, of), Some("other")).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_cap_is_of_a_gateway_that_is_there() {
        let (_dir, store) = fresh().await;
        let name: GatewayName = "site12".parse().unwrap();
        let until = Timestamp::from_second(1_700_000_000).unwrap();
        let cap = DataCap { warn: Some(400), hard: Some(500), lifted_until: Some(until) };
        assert!(!store.set_data_cap(&name, &cap).await.unwrap());
        store.add_gateway(&name, &Secret::new("s")).await.unwrap();
        assert!(store.set_data_cap(&name, &cap).await.unwrap());
        assert_eq!(store.data_caps().await.unwrap(), [(name.clone(), cap)]);
        assert!(store.set_data_cap(&name, &DataCap::default()).await.unwrap());
        assert_eq!(store.data_caps().await.unwrap(), []);
        store.set_data_cap(&name, &cap).await.unwrap();
        store.remove_gateway(&name).await.unwrap();
        assert_eq!(store.data_caps().await.unwrap(), []);
    }
}
