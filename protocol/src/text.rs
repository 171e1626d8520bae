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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_one_bounded_line() {
        assert_eq!(tame(" so\r\nINFO all is well\u{1b}[2J\u{7}"), "so  INFO all is well [2J");
        assert_eq!(tame(&"ö".repeat(LONGEST)), "ö".repeat(LONGEST));
        assert_eq!(tame(&"ö".repeat(LONGEST + 1)), "ö".repeat(LONGEST) + "…");
    }
}
