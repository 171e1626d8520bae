//! What was carried in each month, and the small file in which that survives a restart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::platform::tcp_info::OnTheWire;

/// Months that are kept: enough to see what a wrong clock did, and what was before.
const MONTHS: usize = 6;
/// Services that are kept of one month; the configuration may change often.
const SERVICES: usize = 1000;
/// Longest file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// Bytes of the link and of the services, by month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    months: Vec<Month>,
}

/// One month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Month {
    /// `2026-11`
    pub(super) month: String,
    /// Bytes of the link, all headers counted.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Bytes of each `device:service`: from the device, and to it.
    #[serde(default)]
    pub(super) services: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    /// The month, begun if it is new; then the one that was not used for longest is forgotten.
    pub(super) fn month(&mut self, name: &str) -> &mut Month {
        let at = self.months.iter().position(|month| month.month == name);
        let month = match at {
            Some(at) => self.months.remove(at),
            None => Month { month: name.to_owned(), ..Month::default() },
        };
        self.months.truncate(MONTHS - 1);
        self.months.insert(0, month);
        &mut self.months[0]
    }

    /// The month, if it is there.
    pub(super) fn find(&self, name: &str) -> Option<&Month> {
        self.months.iter().find(|month| month.month == name)
    }

    /// The month that was used last.
    pub(super) fn latest(&self) -> Option<&Month> {
        self.months.first()
    }

    /// Reads the file. One that is not there, or was cut short, is an empty tally.
    pub(super) fn load(path: &Path) -> Self {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
        let tally = read.and_then(|_| serde_json::from_slice::<Self>(&text).map_err(io::Error::from));
        match tally {
            Ok(mut tally) => {
                tally.months.truncate(MONTHS);
                tally
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(e) => {
                log::warn!("{}: {e}; data is counted from zero", path.display());
                Self::default()
            }
        }
    }

    /// Writes the file so that there is always a whole one: aside, to the medium, then into its place.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut new = path.to_owned().into_os_string();
        new.push(".new");
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    }
}

impl Month {
    pub(super) fn bytes(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }

    pub(super) fn add(&mut self, wire: OnTheWire) {
        self.sent = self.sent.saturating_add(wire.sent);
        self.received = self.received.saturating_add(wire.received);
    }

    pub(super) fn add_service(&mut self, name: &str, (up, down): (u64, u64)) {
        if !self.services.contains_key(name) && self.services.len() >= SERVICES {
            return;
        }
        let kept = self.services.entry(name.to_owned()).or_default();
        *kept = (kept.0.saturating_add(up), kept.1.saturating_add(down));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_stay_apart_also_when_the_clock_goes_back() {
        let mut tally = Tally::default();
        tally.month("2026-11").add(OnTheWire { sent: 5, received: 50 });
        tally.month("2099-01").add(OnTheWire { sent: 1, received: 1 });
        tally.month("2026-11").add(OnTheWire { sent: 1, received: 1 });
        assert_eq!(tally.latest().unwrap().bytes(), 57);
        for month in 1..10 {
            tally.month(&format!("2027-0{month}"));
            tally.month("2026-11");
        }
        assert_eq!((tally.months.len(), tally.latest().unwrap().bytes()), (MONTHS, 57));
    }

    #[test]
    fn the_file_is_always_whole_and_a_spoilt_one_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/traffic.json");
        assert_eq!(Tally::load(&path), Tally::default());
        let mut tally = Tally::default();
        tally.month("2026-11").add_service("plc1:web", (7, 8));
        tally.save(&path).unwrap();
        assert_eq!(Tally::load(&path), tally);
        // As after a power cut in the middle of writing.
        std::fs::write(dir.path().join("state/traffic.json.new"), "{\"mon").unwrap();
        assert_eq!(Tally::load(&path), tally);
        std::fs::write(&path, "{\"mon").unwrap();
        assert_eq!(Tally::load(&path), Tally::default());
    }
}
