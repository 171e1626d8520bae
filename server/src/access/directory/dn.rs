//! Names in a directory (RFC 4514), brought to one form so that they can be compared (pure).

/// The name in one form: without case, spaces around signs, or several ways to escape.
pub(super) fn normal(dn: &str) -> String {
    let mut parts = Vec::new();
    let mut part: Vec<u8> = Vec::new();
    let bytes = dn.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        at += 1;
        match byte {
            b'\\' => {
                let hex = bytes.get(at..at + 2).and_then(|two| std::str::from_utf8(two).ok());
                if let Some(escaped) = hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                    push_escaped(&mut part, escaped);
                    at += 2;
                } else if let Some(escaped) = bytes.get(at).copied() {
                    push_escaped(&mut part, escaped);
                    at += 1;
                }
            }
            b',' | b';' => parts.push(tidied(&std::mem::take(&mut part))),
            other => part.push(other),
        }
    }
    parts.push(tidied(&part));
    parts.join(",")
}

/// Whether one name lies below another, or is it.
pub(super) fn is_below(dn: &str, base: &str) -> bool {
    let (dn, base) = (normal(dn), normal(base));
    dn == base || dn.ends_with(&format!(",{base}")) || base.is_empty()
}

/// What is special stays escaped, in one way.
fn push_escaped(part: &mut Vec<u8>, byte: u8) {
    if matches!(byte, b',' | b';' | b'+' | b'=' | b'"' | b'<' | b'>' | b'#' | b'\\') || byte < b' ' {
        part.extend(format!("\\{byte:02x}").bytes());
    } else {
        part.push(byte);
    }
}

fn tidied(part: &[u8]) -> String {
    let text = String::from_utf8_lossy(part).to_lowercase();
    let (kind, value) = text.split_once('=').unwrap_or((&text, ""));
    let value = value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    format!("{}={value}", kind.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_form() {
        let expected = normal("cn=Smith\\, John,ou=People,dc=example,dc=com");
        for same in [
            "CN=smith\\2c john, OU=people , DC = Example,dc=com",
            "cn=Smith\\2C  John;ou=People;dc=example;dc=com",
            "cn=Smith\\, John,ou=People,dc=example,dc=com",
        ] {
            assert_eq!(normal(same), expected, "{same}");
        }
        for other in [
            "cn=Smith,ou=John,ou=People,dc=example,dc=com",
            "cn=Smith\\, John,dc=example,dc=com",
            "",
            "\\",
            ",,,",
            "=\\f",
        ] {
            assert_ne!(normal(other), expected, "{other}");
        }
        assert_eq!(normal("cn=M\\c3\\bcller,dc=x"), normal("CN=Müller,DC=X"));
    }

    #[test]
    fn below_is_whole_parts() {
        assert!(is_below("uid=a,ou=people,dc=x", "DC=X"));
        assert!(is_below("dc=x", "dc=x"));
        assert!(!is_below("uid=a,dc=xdc=x", "dc=x"));
        assert!(!is_below("uid=a\\,dc=x", "dc=x"), "the comma belongs to the value");
        assert!(!is_below("uid=a,dc=y", "dc=x"));
    }
}
