//! Whether the other end is still there: when to ask, how long an answer may take, and what silence the line survived.
//!
//! Only silence is asked about, and only the gateway asks early: its question rides on an acknowledgement that had to go
//! out alone anyway, or follows what it sent and nothing was heard of. An answer that is late makes the link *suspect*,
//! long before it is given up: then another one can be made beside it.

use std::time::{Duration, Instant};

use crate::limits::{PING_AFTER_BUSY, PING_AFTER_BUSY_SERVER, PING_AFTER_MIN, PING_DEADLINE, SUSPECT_AFTER};
use crate::mux::Role;

/// Nothing was heard, for so long, of an end that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent(pub(crate) Duration);

/// How a link is, for whoever may make another one, and learns how long this line may be silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// An answer is later than the line explains.
    pub suspect: bool,
    /// Silences, in both directions, that ended with an answer.
    pub survived: u64,
    /// The silence before the last question that was asked after one: survived, or not yet.
    pub silence: Duration,
    /// A question about a silence waits for its answer.
    pub waits: bool,
    /// The round trip, smoothed.
    pub round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Ping {
    token: u64,
    sent: Instant,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    role: Role,
    ping_after: Duration,
    heard: Instant,
    /// When the last message was sent or heard.
    last: Instant,
    /// When the oldest frame went out that is not acknowledged, or one before it.
    unacked_since: Option<Instant>,
    /// Since when this end waits for a sign of life that it asked for, or would have if the socket took anything.
    asked: Option<Instant>,
    wanted: bool,
    next: u64,
    ping: Option<Ping>,
    round_trip: RoundTrip,
    pulse: Pulse,
}

impl Liveness {
    pub(crate) fn new(role: Role, ping_after: Duration, now: Instant) -> Self {
        Self {
            role,
            ping_after: ping_after.max(PING_AFTER_MIN),
            heard: now,
            last: now,
            unacked_since: None,
            asked: None,
            wanted: false,
            next: 0,
            ping: None,
            round_trip: RoundTrip::default(),
            pulse: Pulse::default(),
        }
    }

    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { round_trip: self.round_trip.smoothed, waits: self.asked.is_some() && self.pulse.waits, ..self.pulse }
    }

    pub(crate) fn ping_after(&mut self, ping_after: Duration) {
        self.ping_after = ping_after.max(PING_AFTER_MIN);
    }

    pub(crate) fn measured(&mut self, round_trip: Duration) {
        self.round_trip = RoundTrip { provisional: true, ..RoundTrip::default() };
        self.round_trip.first(round_trip);
    }

    /// Whether an acknowledgement that goes out alone asks for a sign of life as well.
    pub(crate) fn asks_with_acks(&self) -> bool {
        self.role == Role::Gateway
    }

    /// The session goes on over a new link, on which something has just been heard.
    pub(crate) fn relinked(&mut self, now: Instant) {
        (self.heard, self.last) = (now, now);
        (self.unacked_since, self.asked, self.ping) = (None, None, None);
        self.wanted = false;
        (self.pulse.suspect, self.pulse.waits) = (false, false);
    }

    /// A message came.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.asked.take().is_some() && std::mem::take(&mut self.pulse.waits) {
            self.pulse.survived += 1;
        }
        (self.heard, self.last) = (now, now);
        (self.wanted, self.pulse.suspect) = (false, false);
    }

    /// A message goes out, with frames that the other end has to acknowledge if `unacked`.
    pub(crate) fn sent(&mut self, unacked: bool, now: Instant) {
        self.last = now;
        if unacked {
            self.unacked_since.get_or_insert(now);
        }
    }

    pub(crate) fn all_acknowledged(&mut self) {
        self.unacked_since = None;
    }

    /// Asks at once, and takes the link for suspect until there is an answer.
    pub(crate) fn probe(&mut self, now: Instant) {
        self.ask(now);
        self.pulse.suspect = true;
    }

    fn ask(&mut self, now: Instant) {
        if self.asked.is_none() {
            (self.asked, self.wanted) = (Some(now), true);
            (self.pulse.silence, self.pulse.waits) = (Duration::ZERO, false);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Silent> {
        let Some(asked) = self.asked else {
            if now >= self.due() {
                let silence = now.saturating_duration_since(self.last);
                (self.asked, self.wanted) = (Some(now), true);
                // A question in the middle of a conversation teaches nothing.
                (self.pulse.silence, self.pulse.waits) = (silence, silence >= self.ping_after);
            }
            return Ok(());
        };
        // Counted from when the ping was due: a socket that takes nothing is as dead as one that brings nothing.
        if now >= asked + self.dead_after() {
            return Err(Silent(now.saturating_duration_since(self.heard)));
        }
        self.pulse.suspect |= now >= asked + self.suspect_after();
        Ok(())
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        match self.asked {
            None => self.due(),
            Some(asked) if self.pulse.suspect => asked + self.dead_after(),
            Some(asked) => asked + self.suspect_after(),
        }
    }

    pub(crate) fn wants_ping(&self) -> bool {
        self.wanted
    }

    /// The token of the ping that is sent now, if one is due or `beside` something that asks with it.
    pub(crate) fn take_ping(&mut self, beside: bool, now: Instant) -> Option<u64> {
        if beside {
            self.ask(now);
        }
        if !std::mem::take(&mut self.wanted) {
            return None;
        }
        let token = self.next;
        self.next += 1;
        self.ping = Some(Ping { token, sent: now });
        Some(token)
    }

    /// The round trip, if this answers the last ping.
    pub(crate) fn pong(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let ping = self.ping.take_if(|ping| ping.token == token)?;
        let sample = now.saturating_duration_since(ping.sent);
        self.round_trip.sample(sample);
        Some(sample)
    }

    fn due(&self) -> Instant {
        let busy = match self.role {
            Role::Gateway => PING_AFTER_BUSY,
            Role::Server => PING_AFTER_BUSY_SERVER,
        };
        let due = self.last + self.ping_after;
        self.unacked_since.map_or(due, |since| due.min(self.heard.max(since) + busy))
    }

    fn suspect_after(&self) -> Duration {
        self.round_trip.patience().clamp(SUSPECT_AFTER, PING_DEADLINE)
    }

    fn dead_after(&self) -> Duration {
        PING_DEADLINE.max(2 * self.suspect_after())
    }
}

/// The smoothed round trip and how much it varies (RFC 6298, section 2).
#[derive(Debug, Default)]
struct RoundTrip {
    smoothed: Option<Duration>,
    varies: Duration,
    /// It was told from outside, and may hold the time of a busy server: the first of our own takes its place.
    provisional: bool,
}

impl RoundTrip {
    fn sample(&mut self, sample: Duration) {
        let provisional = std::mem::take(&mut self.provisional);
        match self.smoothed.filter(|_| !provisional) {
            None => self.first(sample),
            Some(smoothed) => {
                self.varies = self.varies * 3 / 4 + smoothed.abs_diff(sample) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + sample / 8);
            }
        }
    }

    fn first(&mut self, sample: Duration) {
        (self.smoothed, self.varies) = (Some(sample), sample / 2);
    }

    /// Four times what TCP would wait at first, since an answer may have to be sent twice.
    fn patience(&self) -> Duration {
        self.smoothed.map_or(PING_DEADLINE / 2, |smoothed| 4 * (smoothed + self.varies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);
    const AFTER: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]
    fn gateway() -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(Role::Gateway, AFTER, now);
        liveness.measured(RTT);
        (liveness, now)
    }

    #[test]
    fn a_late_answer_makes_a_link_suspect_before_it_is_given_up() {
        let (mut end, start) = gateway();
        let asked = start + AFTER;
        assert_eq!(end.poll_timeout(), asked);
        end.handle_timeout(asked).unwrap();
        assert_eq!(end.take_ping(false, asked), Some(0));
        assert_eq!(end.poll_timeout(), asked + SUSPECT_AFTER);
        end.handle_timeout(asked + SUSPECT_AFTER).unwrap();
        assert_eq!(
            end.pulse(),
            Pulse { suspect: true, survived: 0, silence: AFTER, waits: true, round_trip: Some(RTT) }
        );
        assert_eq!(end.poll_timeout(), asked + PING_DEADLINE);
        assert_eq!(end.handle_timeout(asked + PING_DEADLINE), Err(Silent(AFTER + PING_DEADLINE)));
        end.heard(asked + PING_DEADLINE);
        assert!(!end.pulse().suspect && end.pulse().survived == 1, "any sign of life clears it");
    }

    #[test]
    fn the_patience_follows_the_round_trip() {
        let (mut end, _) = gateway();
        assert_eq!(end.suspect_after(), SUSPECT_AFTER, "a quick line");
        end.measured(10 * SECOND);
        assert_eq!(end.suspect_after(), PING_DEADLINE, "what the handshake took counts");
        end.round_trip.sample(RTT);
        assert_eq!(end.suspect_after(), SUSPECT_AFTER, "until it is measured");
        for _ in 0..100 {
            end.round_trip.sample(2 * SECOND);
        }
        assert!((8 * SECOND..9 * SECOND).contains(&end.suspect_after()), "{:?}", end.suspect_after());
        assert!(end.dead_after() >= 2 * end.suspect_after());
        end.round_trip.sample(3600 * SECOND);
        assert_eq!(end.suspect_after(), PING_DEADLINE, "and has an end");
    }

    #[test]
    fn only_a_whole_silence_teaches() {
        let (mut end, start) = gateway();
        end.probe(start + SECOND);
        assert!(end.pulse().suspect, "until it answers");
        assert_eq!(end.take_ping(false, start + SECOND), Some(0));
        end.heard(start + 2 * SECOND);
        assert!(!end.pulse().suspect);
        assert_eq!(end.pulse().survived, 0, "asked because of news");
        // What is sent keeps a NAT awake as well as what is heard.
        end.sent(false, start + 30 * SECOND);
        assert_eq!(end.poll_timeout(), start + 90 * SECOND);
        end.sent(true, start + 40 * SECOND);
        assert_eq!(end.poll_timeout(), start + 40 * SECOND + PING_AFTER_BUSY);
        end.handle_timeout(start + 40 * SECOND + PING_AFTER_BUSY).unwrap();
        end.heard(start + 54 * SECOND);
        assert_eq!(end.pulse().survived, 0, "asked because something was in flight");
    }

    #[test]
    fn an_acknowledgement_that_goes_alone_asks_as_well_at_the_gateway_only() {
        let (mut end, start) = gateway();
        assert!(end.asks_with_acks());
        assert_eq!(end.take_ping(true, start), Some(0));
        assert_eq!(end.poll_timeout(), start + SUSPECT_AFTER);
        assert_eq!(end.take_ping(true, start + SECOND), None, "it has asked already");
        assert!(!Liveness::new(Role::Server, AFTER, start).asks_with_acks());
    }
}
