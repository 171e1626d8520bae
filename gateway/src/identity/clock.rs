//! What time it is, on a machine whose own clock may say 1970: the server's word, once it has been told; until then the
//! system's, but never earlier than what is surely past. The system's clock is never set.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use linkspan_protocol::encoding::from_hex;
use serde::{Deserialize, Serialize};

use super::disk;

/// No release of this program is older: 2026-01-01.
const RELEASED: u64 = 1_767_225_600;
/// The time is kept on the disk when the last one kept is older than this: flash wears out, and a week is near enough to
/// tell an old certificate from one that holds.
const KEPT_FOR: u64 = 7 * 86_400;
/// Public keys of one server that are remembered.
const KEYS_MAX: usize = 16;

/// The hash of a public key: the SHA-256 of its SubjectPublicKeyInfo.
pub(crate) type KeyHash = [u8; 32];

/// A moment, in seconds since 1970, and whether the server said so in this life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) seconds: u64,
    pub(crate) certain: bool,
}

/// What the disk keeps over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// A moment that is surely past.
    time: u64,
    /// The public keys by which the server can be known, as `sha256:` and 64 digits.
    server_keys: Vec<String>,
}

/// The time, and what goes with doubts about it: how the server can be known all the same.
#[derive(Debug)]
pub(crate) struct Clock {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    told: Option<(u64, Instant)>,
    /// Said once: a disk that cannot be written to must not fill the log.
    complained: bool,
}

impl Clock {
    /// Reads what was kept in this file; what cannot be read is as good as nothing.
    pub(crate) fn new(file: PathBuf) -> Self {
        let kept = std::fs::read(&file).ok().filter(|text| text.len() < 16 * 1024);
        let kept = kept.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { file: Some(file), state: Mutex::new(State { kept, ..State::default() }) }
    }

    /// One that keeps nothing.
    #[cfg(test)]
    pub(crate) fn forgetful() -> Self {
        Self { file: None, state: Mutex::default() }
    }

    /// Where it is kept for a configuration.
    pub(crate) fn file_of(config: &Path) -> PathBuf {
        crate::config::home(config).with_extension("known")
    }

    pub(crate) fn now(&self) -> Reading {
        let state = self.lock();
        match state.told {
            Some((seconds, at)) => Reading { seconds: seconds.saturating_add(at.elapsed().as_secs()), certain: true },
            None => Reading { seconds: system_clock().max(floor(&state.kept)), certain: false },
        }
    }

    /// A moment that is surely past.
    pub(crate) fn floor(&self) -> u64 {
        floor(&self.lock().kept)
    }

    /// The server says what time it is; false if that is surely past, and then nothing changes.
    pub(crate) fn tell(&self, seconds: u64) -> bool {
        let mut state = self.lock();
        if seconds < floor(&state.kept) {
            return false;
        }
        state.told = Some((seconds, Instant::now()));
        if seconds.saturating_sub(state.kept.time) >= KEPT_FOR {
            state.kept.time = seconds;
            self.keep(&mut state);
        }
        true
    }

    /// The keys by which the server can be known from now on, in its own words.
    pub(crate) fn remember_keys(&self, keys: &[String]) {
        let mut known: Vec<String> = keys.iter().filter(|key| parse(key).is_some()).take(KEYS_MAX).cloned().collect();
        known.sort();
        let mut state = self.lock();
        if !known.is_empty() && state.kept.server_keys != known {
            state.kept.server_keys = known;
            self.keep(&mut state);
        }
    }

    /// Whether the server was known by this key.
    pub(crate) fn knows(&self, key: &KeyHash) -> bool {
        self.lock().kept.server_keys.iter().any(|known| parse(known).as_ref() == Some(key))
    }

    fn keep(&self, state: &mut MutexGuard<'_, State>) {
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec(&state.kept).unwrap_or_default();
        if let Err(error) = disk::replace(file, &text, 0o600)
            && !std::mem::replace(&mut state.complained, true)
        {
            log::warn!("{} cannot be written: {error}; after a restart the time is less well known", file.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn floor(kept: &Kept) -> u64 {
    // Reproducible builds say when their source was last changed.
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).unwrap_or(0);
    kept.time.max(built).max(RELEASED)
}

fn system_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn parse(key: &str) -> Option<KeyHash> {
    from_hex(key.strip_prefix("sha256:")?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_word_counts_and_what_is_past_stays_past() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.known");
        let clock = Clock::new(file.clone());
        assert!(!clock.now().certain && clock.now().seconds >= RELEASED);
        assert!(!clock.tell(86_400), "1970 is past");
        let far = 4_000_000_000;
        assert!(clock.tell(far));
        let now = clock.now();
        assert!(now.certain && (far..far + 60).contains(&now.seconds));
        let again = Clock::new(file.clone());
        assert_eq!((again.now().certain, again.floor()), (false, far), "kept over a restart");
        assert!(!again.tell(far - 1));
        let written = std::fs::metadata(&file).unwrap().modified().unwrap();
        assert!(again.tell(far + KEPT_FOR - 1));
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written, "flash is spared");
        assert!(again.tell(far + KEPT_FOR));
        assert_eq!(Clock::new(file).floor(), far + KEPT_FOR);
    }

    #[test]
    fn keys_are_remembered_and_rubbish_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.known");
        let key = format!("sha256:{}", "ab".repeat(32));
        let clock = Clock::new(file.clone());
        clock.remember_keys(&[key.clone(), "sha256:".into(), "x".repeat(1000)]);
        assert!(clock.knows(&[0xab; 32]) && !clock.knows(&[0xac; 32]));
        clock.remember_keys(&[]);
        assert!(Clock::new(file.clone()).knows(&[0xab; 32]), "a server that says nothing is known as before");
        std::fs::write(&file, "{\"time\":").unwrap();
        assert_eq!(Clock::new(file).floor(), RELEASED);
    }
}
