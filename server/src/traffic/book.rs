//! What is counted and not in the database yet, and how each gateway stands with its cap (pure: no clock, no database).

use std::collections::HashMap;

use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;

use super::Passage;
use crate::store::{DataCap, LinkCount, Month, TrafficKey, TrafficSum};

/// What goes to the database in one piece.
pub(super) type Batch = (Vec<(TrafficKey, TrafficSum)>, Vec<(Month, String, LinkCount)>);

#[derive(Debug)]
pub(super) struct Book {
    month: Month,
    sums: HashMap<TrafficKey, TrafficSum>,
    links: HashMap<(Month, String), LinkCount>,
    gauges: HashMap<GatewayName, Gauge>,
    caps: HashMap<GatewayName, DataCap>,
}

/// What a gateway has used this month.
#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    /// Bytes that its streams carried.
    streams: u64,
    /// Bytes of its link, as it last said, and as it had said before it lost its count.
    told: u64,
    told_earlier: u64,
    /// Bytes that its streams carried since it last said so.
    since: u64,
    level: Level,
}

impl Gauge {
    /// The link's count is what the carrier counts, but is as old as the gateway's last word.
    fn used(&self) -> u64 {
        let told = self.told.saturating_add(self.told_earlier).saturating_add(self.since);
        if self.told == 0 { self.streams } else { told.max(self.streams) }
    }
}

/// How far a gateway has come with its cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is reached, or there is no cap.
    #[default]
    Free,
    /// More than the warning is used.
    Warned,
    /// All is used: no more is carried.
    Reached,
}

/// How a gateway stands this month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The month.
    pub month: Month,
    /// Bytes used: those of the link as the gateway last said, with what streams carried since.
    pub used: u64,
    /// Its cap.
    pub cap: DataCap,
    /// How far it has come.
    pub level: Level,
}

impl Book {
    pub(super) fn new(month: Month) -> Self {
        let (sums, links) = (HashMap::new(), HashMap::new());
        Self { month, sums, links, gauges: HashMap::new(), caps: HashMap::new() }
    }

    pub(super) fn month(&self) -> Month {
        self.month
    }

    /// Begins a month in which so much was used before: by streams, and by links.
    pub(super) fn turn(&mut self, month: Month, streams: &[(GatewayName, u64)], links: &[(GatewayName, u64)]) {
        self.month = month;
        self.gauges.clear();
        for (gateway, bytes) in streams {
            self.gauge(gateway).streams = *bytes;
        }
        for (gateway, bytes) in links {
            self.gauge(gateway).told = *bytes;
        }
    }

    /// Adds what a stream carried.
    pub(super) fn add(&mut self, passage: &Passage, sum: TrafficSum) {
        if sum == TrafficSum::default() {
            return;
        }
        let key = TrafficKey {
            month: self.month,
            tenant: passage.tenant,
            gateway: passage.gateway_name.to_string(),
            device: passage.device.to_string(),
            service: passage.service.to_string(),
            person: passage.who.name.clone(),
        };
        *self.sums.entry(key).or_default() += sum;
        let gauge = self.gauge(&passage.gateway_name);
        gauge.streams = gauge.streams.saturating_add(sum.bytes());
        gauge.since = gauge.since.saturating_add(sum.bytes());
    }

    /// Takes a gateway's word for what its link has carried. Only this month and the last are believed: a clock that
    /// lies must not fill the database.
    pub(super) fn hear(&mut self, gateway: &GatewayName, month: Month, count: LinkCount) {
        if month != self.month && month != self.month.back(1) {
            return;
        }
        self.links.insert((month, gateway.to_string()), count);
        if month == self.month {
            let gauge = self.gauge(gateway);
            let bytes = count.bytes();
            if bytes < gauge.told {
                gauge.told_earlier = gauge.told_earlier.saturating_add(gauge.told);
            }
            (gauge.told, gauge.since) = (bytes, 0);
        }
    }

    /// What is to be written down; put it [back](Self::put_back) if that fails.
    pub(super) fn take(&mut self) -> Batch {
        let links = self.links.drain().map(|((month, gateway), count)| (month, gateway, count));
        (self.sums.drain().collect(), links.collect())
    }

    pub(super) fn put_back(&mut self, (sums, links): Batch) {
        for (key, sum) in sums {
            *self.sums.entry(key).or_default() += sum;
        }
        for (month, gateway, count) in links {
            self.links.entry((month, gateway)).or_insert(count);
        }
    }

    pub(super) fn set_caps(&mut self, caps: Vec<(GatewayName, DataCap)>) {
        self.caps = caps.into_iter().collect();
    }

    /// Looks where each gateway stands now; returns those that came to another level.
    pub(super) fn judge(&mut self, now: Timestamp) -> Vec<(GatewayName, Standing)> {
        let mut news = Vec::new();
        for (name, gauge) in &mut self.gauges {
            let cap = self.caps.get(name).copied().unwrap_or_default();
            let level = level(gauge.used(), &cap, now);
            if std::mem::replace(&mut gauge.level, level) != level {
                news.push((name.clone(), Standing { month: self.month, used: gauge.used(), cap, level }));
            }
        }
        news
    }

    pub(super) fn standing(&self, gateway: &GatewayName) -> Standing {
        let gauge = self.gauges.get(gateway).copied().unwrap_or_default();
        let cap = self.caps.get(gateway).copied().unwrap_or_default();
        Standing { month: self.month, used: gauge.used(), cap, level: gauge.level }
    }

    fn gauge(&mut self, gateway: &GatewayName) -> &mut Gauge {
        self.gauges.entry(gateway.clone()).or_default()
    }
}

fn level(used: u64, cap: &DataCap, now: Timestamp) -> Level {
    let is_lifted = cap.lifted_until.is_some_and(|until| now < until);
    if cap.hard.is_some_and(|hard| used >= hard) && !is_lifted {
        return Level::Reached;
    }
    let reached = [cap.warn, cap.hard].iter().flatten().any(|bound| used >= *bound);
    if reached { Level::Warned } else { Level::Free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::tests::passage;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn told(bytes: u64) -> LinkCount {
        LinkCount { sent: bytes, received: 0, told: Timestamp::UNIX_EPOCH }
    }

    fn carried(up: u64) -> TrafficSum {
        TrafficSum { up, down: 0, streams: 0 }
    }

    #[test]
    fn the_links_count_leads_and_streams_fill_in_what_came_after_it() {
        let mut book = Book::new(month("2026-11"));
        let site: GatewayName = "site12".parse().unwrap();
        let used = |book: &Book| book.standing(&site).used;
        book.add(&passage("anna"), carried(100));
        assert_eq!(used(&book), 100, "an old gateway says nothing");
        book.hear(&site, month("2026-11"), told(180));
        assert_eq!(used(&book), 180);
        book.add(&passage("anna"), carried(50));
        assert_eq!(used(&book), 230);
        book.hear(&site, month("2026-11"), told(10));
        assert_eq!(used(&book), 190, "it lost its count and began anew");
        book.hear(&site, month("2026-10"), told(9000));
        book.hear(&site, month("2099-01"), told(9000));
        assert_eq!(used(&book), 190);
        let (_, links) = book.take();
        let mut months: Vec<_> = links.iter().map(|(month, ..)| month.to_string()).collect();
        months.sort();
        assert_eq!(months, ["2026-10", "2026-11"], "2099 is not believed");
    }

    #[test]
    fn levels_change_once_and_a_lifted_cap_warns_only() {
        let mut book = Book::new(month("2026-11"));
        let site: GatewayName = "site12".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let cap = DataCap { warn: Some(100), hard: Some(200), lifted_until: None };
        book.set_caps(vec![(site.clone(), cap)]);
        let levels = |book: &mut Book, up, now| {
            book.add(&passage("anna"), carried(up));
            book.judge(at(now)).into_iter().map(|(_, standing)| standing.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&mut book, 99, 0), []);
        assert_eq!(levels(&mut book, 1, 0), [Level::Warned]);
        assert_eq!(levels(&mut book, 1, 0), []);
        assert_eq!(levels(&mut book, 500, 0), [Level::Reached]);
        book.set_caps(vec![(site.clone(), DataCap { lifted_until: Some(at(60)), ..cap })]);
        assert_eq!(levels(&mut book, 0, 59), [Level::Warned]);
        assert_eq!(levels(&mut book, 0, 60), [Level::Reached]);
        book.turn(month("2026-12"), &[], &[]);
        assert_eq!(levels(&mut book, 1, 61), [], "a new month");
        book.turn(month("2026-11"), &[(site.clone(), 601)], &[]);
        assert_eq!(levels(&mut book, 0, 61), [Level::Reached], "and back, as a clock may go");
    }

    #[test]
    fn what_could_not_be_written_is_not_lost() {
        let mut book = Book::new(month("2026-11"));
        book.add(&passage("anna"), carried(5));
        book.hear(&"site12".parse().unwrap(), month("2026-11"), told(7));
        let batch = book.take();
        assert_eq!(book.take().0.len(), 0);
        book.add(&passage("anna"), carried(1));
        book.hear(&"site12".parse().unwrap(), month("2026-11"), told(8));
        book.put_back(batch);
        let (sums, links) = book.take();
        assert_eq!((sums[0].1.up, links[0].2.sent), (6, 8), "the newer word of the gateway stays");
    }
}
