//! What was learned about each way out, kept in a small file: written rarely, since routers keep files in flash.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linkspan_protocol::driver::Pulse;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::keepalive::{FIRST, Learner};

/// Ways out that are remembered: wired, two SIMs, and the places where the router was before.
const UPLINKS_MAX: usize = 8;

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024;

/// Time between two times that the file is written.
const WRITE_EVERY: Duration = Duration::from_secs(3600);

/// A link that is back this soon after the last one fell silent: the line was up, and only the connection was forgotten.
const LINE_WAS_UP: Duration = Duration::from_secs(10);

/// The learners, and the one of the way out that the link takes.
#[derive(Debug)]
pub(super) struct Uplinks {
    file: PathBuf,
    known: Vec<Uplink>,
    /// The name of the way out, and whether the server allows to learn on it.
    current: Option<String>,
    most: Option<Duration>,
    v6: bool,
    survived: u64,
    /// A silence after which the link was lost, and since when it is.
    lost: Option<(Duration, Instant)>,
    written: Option<(Instant, Vec<Uplink>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Uplink {
    name: String,
    #[serde(flatten)]
    learner: Learner,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    uplinks: Vec<Uplink>,
}

/// For the status: the span in force, and whether it is still being learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the gateway asks.
    pub span: Duration,
    /// It may still change.
    pub learning: bool,
    /// The way out it holds for.
    pub uplink: Option<String>,
    /// The link is one over IPv6.
    pub v6: bool,
}

/// Bytes of a PING and its PONG as a carrier counts them: each a TLS 1.3 record (22 bytes around the message) in a packet,
/// and the packet by which TCP acknowledges the PONG. The PING is 9 bytes (its WebSocket message has a mask), the PONG 5.
const QUESTION: u64 = (22 + 9) + (22 + 5);

/// Bytes around the content of the three packets: IPv4 or IPv6, and TCP with its timestamps.
const PACKETS: [u64; 2] = [3 * (20 + 32), 3 * (40 + 32)];

impl Keepalive {
    /// Bytes in 30 days, both ways, while nothing else is said.
    pub fn bytes_per_month(&self) -> u64 {
        let [v4, v6] = PACKETS;
        30 * 86_400 * (QUESTION + if self.v6 { v6 } else { v4 }) / self.span.as_secs().max(1)
    }
}

impl Uplinks {
    /// Reads the file. One that is missing or spoilt is as good as an empty one.
    pub(super) fn load(file: &Path) -> Self {
        let known = match read(file) {
            Ok(known) => known,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => {
                log::info!("{}: {e}; it is written anew", file.display());
                Vec::new()
            }
        };
        Self {
            file: file.to_owned(),
            known,
            current: None,
            most: None,
            v6: false,
            survived: 0,
            lost: None,
            written: None,
        }
    }

    /// A link is up, by that way out, over IPv6 or not. `fixed` is what the server asks for, `most` what it allows to learn.
    pub(super) fn connected(
        &mut self,
        (name, v6): (Option<String>, bool),
        (fixed, most): (Duration, Option<Duration>),
        pulse: &Pulse,
    ) {
        if let Some((silence, since)) = self.lost.take()
            && self.current.as_deref() == Some(name.as_deref().unwrap_or_default())
            && since.elapsed() <= LINE_WAS_UP
        {
            self.learn(|learner| learner.lost(silence));
        }
        self.v6 = v6;
        let name = name.unwrap_or_default();
        let nth = self.known.iter().position(|uplink| uplink.name == name);
        let uplink = nth
            .map_or_else(|| Uplink { name: name.clone(), learner: Learner::default() }, |nth| self.known.remove(nth));
        self.known.insert(0, uplink);
        self.known.truncate(UPLINKS_MAX);
        (self.current, self.survived) = (Some(name), pulse.survived);
        self.most = Some(most.unwrap_or(fixed));
    }

    /// The link's pulse; the new span if it is another one.
    pub(super) fn beat(&mut self, pulse: &Pulse) -> Option<Keepalive> {
        if pulse.suspect {
            if pulse.waits {
                self.lost.get_or_insert((pulse.silence, Instant::now()));
            }
            return None;
        }
        self.lost = None;
        if pulse.survived == self.survived {
            return None;
        }
        let before = self.keepalive();
        self.survived = pulse.survived;
        self.learn(|learner| learner.held(pulse.silence));
        Some(self.keepalive()).filter(|after| *after != before)
    }

    /// The link is lost.
    pub(super) fn lost(&mut self, pulse: &Pulse) {
        if pulse.waits {
            self.lost.get_or_insert((pulse.silence, Instant::now()));
        }
    }

    /// What is in force.
    pub(super) fn keepalive(&self) -> Keepalive {
        let learner = self.known.first().map(|uplink| &uplink.learner);
        let (span, settled) = learner.map_or((FIRST, false), |learner| (learner.span(), learner.is_settled()));
        let most = self.most.unwrap_or(FIRST);
        Keepalive {
            span: span.min(most),
            learning: !settled && span < most,
            uplink: self.current.clone().filter(|name| !name.is_empty()),
            v6: self.v6,
        }
    }

    /// Writes what is new, if it is time.
    pub(super) fn save(&mut self, now: bool) {
        let due = self.written.as_ref().is_none_or(|(at, _)| now || at.elapsed() >= WRITE_EVERY);
        if !due || self.known.is_empty() || self.written.as_ref().is_some_and(|(_, written)| *written == self.known) {
            return;
        }
        if let Err(e) = write(&self.file, &self.known) {
            // Once: the next time is an hour away.
            log::info!("{}: {e}; what is learned about the line is forgotten at the end", self.file.display());
        }
        self.written = Some((Instant::now(), self.known.clone()));
    }

    fn learn(&mut self, lesson: impl FnOnce(&mut Learner)) {
        if let Some(uplink) = self.known.first_mut() {
            let before = uplink.learner.span();
            lesson(&mut uplink.learner);
            let after = uplink.learner.span();
            if before != after {
                log::debug!("{}: asks after {} s of silence, was {} s", uplink.name, after.as_secs(), before.as_secs());
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<Uplink>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(file)?.take(FILE_MAX).read_to_end(&mut text)?;
    let mut uplinks = serde_json::from_slice::<File>(&text)?.uplinks;
    uplinks.truncate(UPLINKS_MAX);
    Ok(uplinks)
}

/// Beside it and renamed, so that no half of it is ever read.
fn write(file: &Path, known: &[Uplink]) -> io::Result<()> {
    let mut new = file.to_owned().into_os_string();
    new.push(".new");
    std::fs::write(&new, serde_json::to_vec(&File { uplinks: known.to_vec() })?)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(900);

    fn up(uplinks: &mut Uplinks, name: &str) -> Duration {
        let pulse = Pulse { survived: uplinks.survived, ..Pulse::default() };
        uplinks.connected((Some(name.into()), false), (FIRST, Some(MOST)), &pulse);
        uplinks.keepalive().span
    }

    fn beat(uplinks: &mut Uplinks) {
        let silence = uplinks.keepalive().span;
        let survived = uplinks.survived + 1;
        uplinks.beat(&Pulse { survived, silence, ..Pulse::default() });
    }

    #[test]
    fn each_way_out_is_remembered_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keepalive");
        let mut uplinks = Uplinks::load(&file);
        assert_eq!(up(&mut uplinks, "wwan0"), FIRST);
        (0..20).for_each(|_| beat(&mut uplinks));
        assert_eq!(
            uplinks.keepalive(),
            Keepalive { span: MOST, learning: false, uplink: Some("wwan0".into()), v6: false }
        );
        assert_eq!(up(&mut uplinks, "eth1"), FIRST);
        uplinks.save(true);
        let mut again = Uplinks::load(&file);
        assert_eq!((up(&mut again, "eth1"), up(&mut again, "wwan0")), (FIRST, MOST));
        // What is not new is not written, and what is new waits for its hour.
        std::fs::remove_file(&file).unwrap();
        uplinks.save(true);
        beat(&mut uplinks);
        beat(&mut uplinks);
        uplinks.save(false);
        assert!(!file.exists());
        uplinks.save(true);
        assert!(file.exists());
    }

    #[test]
    fn an_idle_month_is_what_its_questions_cost() {
        let month = |seconds, v6| {
            Keepalive { span: Duration::from_secs(seconds), learning: false, uplink: None, v6 }.bytes_per_month()
        };
        assert_eq!((month(400, false), month(900, false), month(900, true)), (1_386_720, 616_320, 789_120));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keepalive");
        for text in ["", "{", "[]", "{\"uplinks\":[{\"name\":7}]}", "\u{0}\u{1}"] {
            std::fs::write(&file, text).unwrap();
            assert!(Uplinks::load(&file).known.is_empty(), "{text}");
        }
        let mut nowhere = Uplinks::load(&dir.path().join("no/such/folder"));
        nowhere.connected((None, false), (FIRST, Some(MOST)), &Pulse::default());
        nowhere.save(true);
    }

    #[test]
    fn only_a_loss_while_the_line_is_up_counts_and_a_server_may_set_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut uplinks = Uplinks::load(&dir.path().join("keepalive"));
        up(&mut uplinks, "wwan0");
        beat(&mut uplinks);
        assert_eq!(uplinks.keepalive().span, 2 * FIRST);
        let waits = Pulse { suspect: true, waits: true, silence: 2 * FIRST, ..Pulse::default() };
        uplinks.beat(&waits);
        uplinks.beat(&Pulse { survived: 2, ..Pulse::default() });
        up(&mut uplinks, "wwan0");
        assert_eq!(uplinks.keepalive().span, 2 * FIRST, "it was only late");
        uplinks.beat(&waits);
        up(&mut uplinks, "eth1");
        up(&mut uplinks, "wwan0");
        assert_eq!(uplinks.keepalive().span, 2 * FIRST, "it was another line");
        uplinks.lost(&waits);
        up(&mut uplinks, "wwan0");
        assert_eq!(uplinks.keepalive().span, FIRST);
        // A server that does not know of learning is asked as often as it says.
        uplinks.connected((Some("wwan0".into()), false), (FIRST / 2, None), &Pulse::default());
        let fixed = uplinks.keepalive();
        assert!(fixed.span == FIRST / 2 && !fixed.learning);
    }
}
