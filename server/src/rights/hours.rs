//! When a grant counts: from and until a moment, and within weekly hours of a time zone (pure).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// Rules in one text.
const RULES_MAX: usize = 14;
/// Longest text of weekly hours, in bytes.
const TEXT_MAX: usize = 400;

/// When a grant counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Not before this moment.
    pub from: Option<Timestamp>,
    /// Not from this moment on.
    pub until: Option<Timestamp>,
    /// Only within these hours.
    pub weekly: Option<Weekly>,
}

/// Hours that come back each week, in the time of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Weekly {
    zone: TimeZone,
    name: String,
    rules: Vec<Rule>,
}

/// Hours of some days. An end that is not after the beginning is on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// A bit for each day, Monday first.
    days: u8,
    begin: Time,
    /// Absent: to the end of the day.
    end: Option<Time>,
}

/// A text that says no hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// The hours cannot be read.
    #[error("`{0}` are no weekly hours; write them like `Mon-Fri 07:00-17:30, Sat 08:00-12:00`")]
    Hours(String),
    /// The time zone is not known.
    #[error("`{0}` is not a time zone; write one like `Europe/Berlin` or `UTC`")]
    Zone(String),
}

impl When {
    /// Whether it counts at that moment.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| now >= from)
            && self.until.is_none_or(|until| now < until)
            && self.weekly.as_ref().is_none_or(|weekly| weekly.count(now))
    }

    /// Whether it counts at all times.
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it counts at no moment at which `other` does not: what is granted onwards may not outlast it.
    pub fn is_within(&self, other: &Self) -> bool {
        let begins = other.from.is_none_or(|outer| self.from.is_some_and(|from| from >= outer));
        let ends = other.until.is_none_or(|outer| self.until.is_some_and(|until| until <= outer));
        begins && ends && (other.weekly.is_none() || other.weekly == self.weekly)
    }
}

impl Weekly {
    /// Hours like `Mon-Fri 07:00-17:30, Sat 08:00-12:00` in a zone like `Europe/Berlin`.
    pub fn parse(hours: &str, zone: &str) -> Result<Self, HoursError> {
        let wrong = || HoursError::Hours(hours.chars().take(80).collect());
        let unknown = || HoursError::Zone(zone.chars().take(80).collect());
        if hours.len() > TEXT_MAX {
            return Err(wrong());
        }
        let rules: Option<Vec<Rule>> = hours.split(',').map(|text| rule(text.trim())).collect();
        let rules = rules.filter(|rules| rules.len() <= RULES_MAX).ok_or_else(wrong)?;
        // The library takes more than names: nothing that depends on this machine is wanted here.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
        if zone.is_empty() || zone.len() > 64 || !zone.bytes().all(plain) {
            return Err(unknown());
        }
        let found = TimeZone::get(zone).map_err(|_| unknown())?;
        Ok(Self { zone: found, name: zone.to_owned(), rules })
    }

    /// The zone's name.
    pub fn zone(&self) -> &str {
        &self.name
    }

    /// The hours as text, without the zone.
    pub fn hours(&self) -> String {
        self.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn count(&self, now: Timestamp) -> bool {
        let here = self.zone.to_datetime(now);
        let (day, time) = (here.weekday().to_monday_zero_offset(), here.time());
        self.rules.iter().any(|rule| rule.counts(day, time))
    }
}

impl Rule {
    fn counts(self, day: i8, time: Time) -> bool {
        let on = |day: i8| self.days & (1 << day.rem_euclid(7)) != 0;
        match self.end {
            None => on(day) && time >= self.begin,
            Some(end) if end > self.begin => on(day) && time >= self.begin && time < end,
            Some(end) => (on(day) && time >= self.begin) || (on(day - 1) && time < end),
        }
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

/// `Mon-Fri 07:00-17:30`, `Sun 22:00-06:00`, `Sat`.
fn rule(text: &str) -> Option<Rule> {
    let (days, hours) = text.split_once(' ').map_or((text, None), |(days, hours)| (days, Some(hours.trim())));
    let days = match days.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (day(first)?, day(last)?);
            let count = (last - first).rem_euclid(7) + 1;
            (0..count).fold(0, |days, n| days | 1 << (first + n).rem_euclid(7))
        }
        None => 1 << day(days)?,
    };
    let Some(hours) = hours else { return Some(Rule { days, begin: Time::midnight(), end: None }) };
    let (begin, end) = hours.split_once('-')?;
    let (begin, end) = (time(begin)?, if end == "24:00" { None } else { Some(time(end)?) });
    Some(Rule { days, begin, end })
}

fn day(text: &str) -> Option<i8> {
    let found = DAYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text))?;
    Some(found.1.to_monday_zero_offset())
}

/// `HH:MM`, and nothing else.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<usize> = (0..7).filter(|day| self.days & (1 << day) != 0).collect();
        let follow = |first: usize| (0..on.len()).all(|n| on.contains(&((first + n) % 7)));
        let first = on.iter().copied().find(|first| follow(*first)).unwrap_or_default();
        let name = |day: usize| DAYS.get(day % 7).map_or("", |(name, _)| name);
        if on.len() == 1 {
            f.write_str(name(first))?;
        } else {
            write!(f, "{}-{}", name(first), name(first + on.len() - 1))?;
        }
        let end = self.end.map_or_else(|| "24:00".to_owned(), |end| end.strftime("%H:%M").to_string());
        write!(f, " {}-{end}", self.begin.strftime("%H:%M"))
    }
}

impl FromStr for Weekly {
    type Err = HoursError;

    /// Hours and zone in one text: `Mon-Fri 07:00-17:30 Europe/Berlin`.
    fn from_str(text: &str) -> Result<Self, HoursError> {
        let (hours, zone) = text.trim().rsplit_once(' ').ok_or_else(|| HoursError::Zone(String::new()))?;
        Self::parse(hours.trim(), zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn weekly(text: &str) -> When {
        When { weekly: Some(text.parse().unwrap()), ..When::default() }
    }

    #[test]
    fn hours_are_those_of_the_place_in_summer_and_in_winter() {
        let when = weekly("Mon-Fri 07:00-17:30, Sat 08:00-12:00 Europe/Berlin");
        for (moment, counts) in [
            ("2026-01-05T06:00:00Z", true),  // Monday, 07:00 in winter
            ("2026-01-05T05:59:59Z", false), //
            ("2026-07-06T05:00:00Z", true),  // Monday, 07:00 in summer
            ("2026-07-06T15:29:59Z", true),  //
            ("2026-07-06T15:30:00Z", false), //
            ("2026-07-04T09:59:00Z", true),  // Saturday
            ("2026-07-04T10:00:00Z", false), //
            ("2026-07-05T08:00:00Z", false), // Sunday
        ] {
            assert_eq!(when.counts(at(moment)), counts, "{moment}");
        }
    }

    #[test]
    fn a_night_shift_ends_on_the_next_day() {
        let when = weekly("Sun-Thu 22:00-06:00 UTC");
        for (moment, counts) in [
            ("2026-07-05T22:00:00Z", true),  // Sunday
            ("2026-07-06T05:59:00Z", true),  // Monday morning
            ("2026-07-06T06:00:00Z", false), //
            ("2026-07-10T05:00:00Z", true),  // Friday morning, from Thursday
            ("2026-07-10T23:00:00Z", false), // Friday night
            ("2026-07-05T05:00:00Z", false), // Sunday morning
        ] {
            assert_eq!(when.counts(at(moment)), counts, "{moment}");
        }
        let all_day = weekly("Sat-Sun 00:00-24:00 UTC");
        assert!(all_day.counts(at("2026-07-05T23:59:59Z")) && !all_day.counts(at("2026-07-06T00:00:00Z")));
    }

    #[test]
    fn hours_are_written_as_they_are_read() {
        for text in ["Mon-Fri 07:00-17:30, Sat 08:00-12:00", "Fri-Mon 22:00-06:00", "Sun 00:00-24:00"] {
            assert_eq!(Weekly::parse(text, "UTC").unwrap().hours(), text);
        }
        assert_eq!(Weekly::parse("sat", "UTC").unwrap().hours(), "Sat 00:00-24:00");
        let text = format!("Mon{}", ",Mon".repeat(RULES_MAX));
        for bad in ["", "Mon 7:00-8:00", "Mon 07:00", "Mon-Foo 07:00-08:00", "Mon 07:00-25:00", "07:00-08:00", &text] {
            assert!(matches!(Weekly::parse(bad, "UTC"), Err(HoursError::Hours(_))), "{bad}");
        }
        for bad in ["", "Mars/Base", "../../etc/passwd", "Europe/Berlin\n"] {
            assert!(matches!(Weekly::parse("Mon", bad), Err(HoursError::Zone(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_granted_onwards_lies_within() {
        let until = |text| When { until: Some(at(text)), ..When::default() };
        let (soon, late) = (until("2026-01-01T00:00:00Z"), until("2027-01-01T00:00:00Z"));
        assert!(soon.is_within(&late) && soon.is_within(&soon) && !late.is_within(&soon));
        assert!(soon.is_within(&When::default()) && !When::default().is_within(&soon));
        let (office, night) = (weekly("Mon-Fri 08:00-16:00 UTC"), weekly("Mon-Fri 22:00-06:00 UTC"));
        assert!(office.is_within(&office) && !night.is_within(&office) && !When::default().is_within(&office));
    }
}
