//! Moments as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment (RFC 3339) on this computer's clock, to the minute; a text that is not one is given back, made safe.
pub(crate) fn local(text: &str) -> String {
    in_zone(text, TimeZone::system())
}

fn in_zone(text: &str, zone: TimeZone) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => crate::text::plain(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_the_zone_of_the_reader() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(in_zone("2026-11-23T23:09:29.123456Z", zone.clone()), "2026-11-24 01:09");
        assert_eq!(in_zone("soon\x1b", zone), "soon\\u{1b}");
    }
}
