//! What a line does to the packets of one direction, and how that is written: `delay=50ms loss=1% rate=10mbit`.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// What is done to the packets of one direction. The default is a perfect line.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Time on the way.
    pub delay: Duration,
    /// Up to so much more, evenly spread; the order is kept.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet comes twice.
    pub duplicate: f64,
    /// Probability that a packet is held back by `reorder_by`, so that later ones overtake it.
    pub reorder: f64,
    /// How long such a packet is held back.
    pub reorder_by: Duration,
    /// Bits per second, if limited.
    pub rate: Option<NonZeroU64>,
    /// Bytes that may wait in front of a link with a limited rate.
    pub queue: usize,
    /// Nothing passes.
    pub down: bool,
}

/// Why settings could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not one of the words.
    #[error("`{0}` is none of delay= jitter= loss= dup= reorder= reorder-by= rate= queue= down up clear")]
    Word(String),
    /// Not a duration.
    #[error("`{0}` is no duration; write 50ms, 1.5s or 200us")]
    Duration(String),
    /// Not a probability.
    #[error("`{0}` is no share; write 1% or 0.01")]
    Share(String),
    /// Not a rate.
    #[error("`{0}` is no rate; write 256kbit, 10mbit, 1gbit or none")]
    Rate(String),
    /// Not a size.
    #[error("`{0}` is no size in bytes; write 1500, 64k or 1m")]
    Size(String),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            rate: None,
            queue: 256 << 10,
            down: false,
        }
    }
}

impl Settings {
    /// Applies words like `delay=50ms loss=1% rate=10mbit queue=64k down up clear`; nothing changes if one is wrong.
    pub fn apply(&mut self, words: &str) -> Result<(), SettingsError> {
        let mut new = self.clone();
        for word in words.split_whitespace() {
            new.apply_word(word)?;
        }
        *self = new;
        Ok(())
    }

    fn apply_word(&mut self, word: &str) -> Result<(), SettingsError> {
        match word.split_once('=') {
            None if word == "down" => self.down = true,
            None if word == "up" => self.down = false,
            None if word == "clear" => *self = Self::default(),
            Some(("delay", value)) => self.delay = duration(value)?,
            Some(("jitter", value)) => self.jitter = duration(value)?,
            Some(("loss", value)) => self.loss = share(value)?,
            Some(("dup", value)) => self.duplicate = share(value)?,
            Some(("reorder", value)) => self.reorder = share(value)?,
            Some(("reorder-by", value)) => self.reorder_by = duration(value)?,
            Some(("rate", value)) => self.rate = rate(value)?,
            Some(("queue", value)) => self.queue = size(value)?,
            _ => return Err(SettingsError::Word(word.to_owned())),
        }
        Ok(())
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay={:?} jitter={:?} loss={} dup={} ", self.delay, self.jitter, self.loss, self.duplicate)?;
        write!(f, "reorder={} reorder-by={:?} ", self.reorder, self.reorder_by)?;
        match self.rate {
            Some(rate) => write!(f, "rate={rate}bit ")?,
            None => write!(f, "rate=none ")?,
        }
        write!(f, "queue={} {}", self.queue, if self.down { "down" } else { "up" })
    }
}

fn duration(text: &str) -> Result<Duration, SettingsError> {
    let wrong = || SettingsError::Duration(text.to_owned());
    let (number, seconds) =
        scaled(text, &[("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("s", 1.0)]).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(number * seconds).ok().filter(|d| d.as_secs() <= 3600).ok_or_else(wrong)
}

fn share(text: &str) -> Result<f64, SettingsError> {
    let (number, factor) =
        scaled(text, &[("%", 0.01), ("", 1.0)]).ok_or_else(|| SettingsError::Share(text.to_owned()))?;
    let share = number * factor;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(SettingsError::Share(text.to_owned())) }
}

fn rate(text: &str) -> Result<Option<NonZeroU64>, SettingsError> {
    if text == "none" {
        return Ok(None);
    }
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    let (number, factor) = scaled(text, &units).ok_or_else(|| SettingsError::Rate(text.to_owned()))?;
    NonZeroU64::new((number * factor) as u64).map(Some).ok_or_else(|| SettingsError::Rate(text.to_owned()))
}

fn size(text: &str) -> Result<usize, SettingsError> {
    let units = [("k", 1024.0), ("m", 1024.0 * 1024.0), ("", 1.0)];
    let (number, factor) = scaled(text, &units).ok_or_else(|| SettingsError::Size(text.to_owned()))?;
    Ok((number * factor) as usize)
}

/// A non-negative number and the factor of the unit written after it.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<(f64, f64)> {
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some((number, *factor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_what_they_name() {
        let mut settings = Settings::default();
        settings.apply("delay=50ms jitter=1.5s loss=1% dup=0.25 rate=256kbit queue=64k").unwrap();
        assert_eq!(settings.delay, Duration::from_millis(50));
        assert_eq!(settings.jitter, Duration::from_millis(1500));
        assert_eq!((settings.loss, settings.duplicate), (0.01, 0.25));
        assert_eq!(settings.rate.map(NonZeroU64::get), Some(256_000));
        assert_eq!(settings.queue, 65536);
        settings.apply("down").unwrap();
        assert!(settings.down && settings.delay == Duration::from_millis(50));
        settings.apply("clear").unwrap();
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn what_is_shown_can_be_said_again() {
        let mut settings = Settings::default();
        settings.apply("delay=50ms jitter=200us loss=1% reorder=2% rate=10mbit queue=1m down").unwrap();
        let mut again = Settings::default();
        again.apply(&settings.to_string()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn a_wrong_word_changes_nothing() {
        for wrong in [
            "delay=5",
            "delay=-1s",
            "delay=2h",
            "delay=9999s",
            "loss=101%",
            "loss=x",
            "rate=0mbit",
            "rate=9",
            "queue=many",
            "fast",
            "delay",
            "loss=NaN",
        ] {
            let mut settings = Settings::default();
            assert!(settings.apply(&format!("delay=1ms {wrong}")).is_err(), "{wrong}");
            assert_eq!(settings, Settings::default(), "{wrong}");
        }
    }
}
