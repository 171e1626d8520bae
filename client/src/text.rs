//! Text from devices and servers, made safe for a terminal.

use std::fmt::Write as _;

/// The text with everything that could steer a terminal or hide itself written out as an escape.
pub(crate) fn plain(text: &str) -> String {
    escape(text, steers, |out, c| {
        let _ = write!(out, "{}", c.escape_default());
    })
}

/// A JSON text with the same characters as JSON escapes: the values stay equal. JSON's own white space is left alone.
pub(crate) fn plain_json(json: &str) -> String {
    escape(
        json,
        |c| steers(c) && !matches!(c, '\n' | '\r' | '\t'),
        |out, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

fn escape(text: &str, unsafe_char: impl Fn(char) -> bool, write: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if unsafe_char(c) { write(&mut out, c) } else { out.push(c) }
    }
    out
}

/// Control characters, and the invisible ones that change the order or the look of what is around them.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(plain("Pumpe 3, Halle Süd"), "Pumpe 3, Halle Süd");
        assert_eq!(plain("\x1b]0;owned\x07a\nb"), "\\u{1b}]0;owned\\u{7}a\\nb");
        assert_eq!(plain("\u{9b}31m\u{202e}txt"), "\\u{9b}31m\\u{202e}txt");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "{\n\t\"a\": \"x\u{9b}\u{7f}\u{e0041}\u{202e}é\"}\n";
        let safe = plain_json(json);
        assert_eq!(safe, "{\n\t\"a\": \"x\\u009b\\u007f\\udb40\\udc41\\u202eé\"}\n");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(json), value(&safe));
    }
}
