//! Which server is tried next, and when: each has waits of its own, and the last good one goes first (pure).

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Backoff, Retry};
use super::failure::Failure;
use crate::config::HostPort;

/// The servers of the configuration.
#[derive(Debug)]
pub(super) struct Servers {
    entries: Vec<Entry>,
    good: usize,
    /// Since when there is no link, or none that can be relied on.
    down_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    at: HostPort,
    backoff: Backoff,
    /// Not before then; and whether news of the network change that.
    due: Option<(Instant, bool)>,
    failure: Option<(Failure, Instant)>,
}

/// What a server last said, for the status.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerReport {
    /// Which.
    pub at: HostPort,
    /// Why it is not connected to, if it was tried since it last was.
    pub failure: Option<(Failure, Instant)>,
    /// When it is tried again at the earliest.
    pub due: Option<Instant>,
}

impl Servers {
    pub(super) fn new(all: Vec<HostPort>, now: Instant) -> Self {
        let entry = |at| Entry { at, backoff: Backoff::default(), due: None, failure: None };
        Self { entries: all.into_iter().map(entry).collect(), good: 0, down_since: Some(now) }
    }

    /// The server that is next, and when.
    pub(super) fn next(&self, now: Instant) -> (usize, Instant) {
        let order = std::iter::once(self.good).chain((0..self.entries.len()).filter(|nth| *nth != self.good));
        let due = |nth: usize| self.entries.get(nth).and_then(|entry| entry.due).map_or(now, |(due, _)| due.max(now));
        // Of those that are due at one time, `min_by_key` takes the first.
        order.map(|nth| (nth, due(nth))).min_by_key(|(_, due)| *due).unwrap_or((0, now))
    }

    pub(super) fn at(&self, nth: usize) -> Option<&HostPort> {
        self.entries.get(nth).map(|entry| &entry.at)
    }

    /// How long there has been no link.
    pub(super) fn down_for(&self, now: Instant) -> Duration {
        self.down_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes that one failed, or that its link did; the wait before it is tried again.
    pub(super) fn failed(&mut self, nth: usize, failure: &Failure, now: Instant, random: f64) -> Duration {
        let down_for = self.down_for(now);
        let Some(entry) = self.entries.get_mut(nth) else { return Duration::ZERO };
        let wait = entry.backoff.next(failure.retry, down_for, random);
        // A wish of the server's, or a refusal, holds on any network.
        let is_news_to_it = matches!(failure.retry, Retry::Soon | Retry::Line);
        (entry.due, entry.failure) = (Some((now + wait, is_news_to_it)), Some((failure.clone(), now)));
        wait
    }

    /// Notes that a link is up.
    pub(super) fn connected(&mut self, nth: usize) {
        (self.good, self.down_since) = (nth, None);
        if let Some(entry) = self.entries.get_mut(nth) {
            (entry.due, entry.failure) = (None, None);
        }
    }

    /// Notes that the link is suspect: from now on there may be none.
    pub(super) fn suspect(&mut self) {
        self.down_since.get_or_insert_with(Instant::now);
    }

    /// Notes that the link lives.
    pub(super) fn calm(&mut self) {
        self.down_since = None;
    }

    /// Notes that a link has ended that held so long.
    pub(super) fn down(&mut self, nth: usize, held: Duration) {
        self.suspect();
        if let Some(entry) = self.entries.get_mut(nth) {
            entry.backoff.link_held(held);
        }
    }

    /// The network has changed: what failed because of the old one is tried at once.
    pub(super) fn news(&mut self, now: Instant) {
        self.down_since = Some(now);
        for entry in self.entries.iter_mut().filter(|entry| entry.due.is_none_or(|(_, is_news_to_it)| is_news_to_it)) {
            entry.backoff.reset();
            entry.due = None;
        }
    }

    pub(super) fn report(&self) -> Vec<ServerReport> {
        let report = |entry: &Entry| ServerReport {
            at: entry.at.clone(),
            failure: entry.failure.clone(),
            due: entry.due.map(|(due, _)| due),
        };
        self.entries.iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Step;

    const ALMOST_ONE: f64 = 1.0 - f64::EPSILON;

    fn three() -> (Servers, Instant) {
        let now = Instant::now();
        let at = |host: &str| HostPort { host: host.into(), port: 443 };
        (Servers::new(vec![at("a"), at("b"), at("c")], now), now)
    }

    fn failure(retry: Retry) -> Failure {
        Failure::new(Step::Tcp, "no", "do").with_retry(retry)
    }

    #[test]
    fn they_are_tried_in_order_and_the_last_good_one_first() {
        let (mut servers, now) = three();
        for nth in 0..3 {
            assert_eq!(servers.next(now), (nth, now));
            servers.failed(nth, &failure(Retry::Soon), now, ALMOST_ONE);
        }
        let (nth, due) = servers.next(now);
        assert!(nth == 0 && due > now, "all have failed: a pause");
        servers.connected(2);
        servers.down(2, Duration::from_secs(3600));
        assert_eq!(servers.next(now).0, 2);
        assert_eq!(servers.report()[2].failure, None);
        assert!(servers.report()[0].failure.is_some());
    }

    #[test]
    fn a_server_that_wants_peace_has_it_while_others_are_tried() {
        let (mut servers, now) = three();
        let hour = Duration::from_secs(3600);
        servers.failed(0, &failure(Retry::After(hour)), now, 0.0);
        servers.failed(1, &failure(Retry::Slowly), now, 0.0);
        servers.failed(2, &failure(Retry::Line), now, 0.0);
        let (nth, due) = servers.next(now);
        assert!(nth == 2 && due <= now + Duration::from_secs(1), "{due:?}");
        servers.news(now);
        assert_eq!(servers.next(now), (2, now), "news help where the network was at fault");
        servers.failed(2, &failure(Retry::After(2 * hour)), now, 0.0);
        assert_eq!(servers.next(now).0, 1);
        assert_eq!(servers.next(now + hour), (0, now + hour), "the first again, once it may be");
    }
}
