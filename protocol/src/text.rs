//! The other end's words on their way into a log or onto a page (pure).

/// Longest text that is passed on, in characters.
const LONGEST: usize = 200;

/// A stranger's text for logs and terminals: one line, bounded, without control characters.
pub fn tame(text: &str) -> String {
    let mut tamed: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        tamed.push('…');
    }
    tamed.trim().to_owned()
}

/// Bytes as carriers and people write them: decimal, with one digit behind the point.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10)),
        None => format!("{bytes} B"),
    }
}

/// Bytes as people write them: "500 MB", "1.5 GB", "256 MiB"; none if it is not that.
pub fn size_of(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] = [
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    amount(text, &UNITS)
}

/// A decimal number with at most three digits behind the point, a space or none, and a unit.
pub fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), factor)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 15) || !digits(part, 3) {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let amount = u128::from(whole * 1000 + thousandths) * u128::from(*factor) / 1000;
    u64::try_from(amount).ok().filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_one_bounded_line() {
        assert_eq!(tame(" so\r\nINFO all is well\u{1b}[2J\u{7}"), "so  INFO all is well [2J");
        assert_eq!(tame(&"ö".repeat(LONGEST)), "ö".repeat(LONGEST));
        assert_eq!(tame(&"ö".repeat(LONGEST + 1)), "ö".repeat(LONGEST) + "…");
    }

    #[test]
    fn sizes_are_decimal() {
        let sizes = [0, 999, 1000, 1_499_999, 500_000_000, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.4 MB", "500.0 MB", "18446744.0 TB"]);
    }
}
