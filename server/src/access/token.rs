//! Random words that open something: shown once, kept only as their hash.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use linkspan_protocol::id::Secret;
use ring::digest::{SHA256, digest};

/// Characters of 32 bytes in base64.
const TEXT_LEN: usize = 43;
/// Begins each token for programs: whoever finds one in a file knows what it is, and so do programs that look for them.
const PROGRAM: &str = "lsp_";
/// Begins the token in each link of a visit.
const VISIT: &str = "lsv_";
/// Characters of 32 bytes in base32.
const BODY_LEN: usize = 52;
/// Bytes of the checksum: what is mistyped or made up is told apart without asking the database.
const CHECK_LEN: usize = 5;

/// 256 random bits as text. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one.
    pub fn random() -> Self {
        Self(BASE64URL_NOPAD.encode(&random_bytes()))
    }

    /// Reads what somebody showed; none if it cannot be a token, so that nothing longer is ever hashed or looked up.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == TEXT_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fits.then(|| Self(text.to_owned()))
    }

    /// A new one for programs: `lsp_`, 52 characters, and 8 that check them, all of a-z and 2-7.
    pub fn for_programs() -> Self {
        Self::marked(PROGRAM)
    }

    /// A new one for the link of a visit, in the same form with `lsv_`.
    pub(crate) fn for_visit() -> Self {
        Self::marked(VISIT)
    }

    /// Reads what may be a token for programs.
    pub(crate) fn parse_for_programs(text: &str) -> Option<Self> {
        Self::parse_marked(PROGRAM, text)
    }

    /// Reads what may be the token of a visit.
    pub(crate) fn parse_for_visit(text: &str) -> Option<Self> {
        Self::parse_marked(VISIT, text)
    }

    fn marked(mark: &str) -> Self {
        let body = format!("{mark}{}", BASE32_NOPAD.encode(&random_bytes()).to_ascii_lowercase());
        Self(format!("{body}{}", check(&body)))
    }

    fn parse_marked(mark: &str, text: &str) -> Option<Self> {
        let body = text.get(..mark.len() + BODY_LEN).filter(|body| body.starts_with(mark))?;
        (text.get(body.len()..)? == check(body)).then(|| Self(text.to_owned()))
    }

    /// The text itself, to be handed out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it. Looking a hash up in the database tells nothing by its time: the hash of a guess is random.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, self.0.as_bytes()).as_ref())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn check(body: &str) -> String {
    let sum = digest(&SHA256, body.as_bytes());
    BASE32_NOPAD.encode(sum.as_ref().get(..CHECK_LEN).unwrap_or_default()).to_ascii_lowercase()
}

/// A secret for a gateway: 256 random bits in base32, which survives being read aloud and typed.
pub fn gateway_secret() -> Secret {
    Secret::new(BASE32_NOPAD.encode(&random_bytes()).to_ascii_lowercase())
}

/// A password for the first start: 100 random bits in base32.
pub fn first_password() -> Secret {
    let text = BASE32_NOPAD.encode(&random_bytes()).to_ascii_lowercase();
    Secret::new(text.get(..20).unwrap_or(&text))
}

#[expect(clippy::expect_used, reason = "a machine without randomness must not hand out secrets")]
pub(super) fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has no source of randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_are_read_back_and_never_print() {
        let token = Token::random();
        assert_ne!(token.hash(), Token::random().hash());
        assert_eq!(Token::parse(token.expose()).unwrap().hash(), token.hash());
        assert_eq!(format!("{token:?}"), "Token(…)");
        for bad in ["", "x", &"x".repeat(44), &format!("{}=", "x".repeat(42)), &"ö".repeat(43)] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_for_programs_is_known_by_its_look() {
        let token = Token::for_programs();
        let text = token.expose();
        assert!(text.starts_with("lsp_") && text.len() == 64, "{text}");
        assert!(text[4..].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')), "{text}");
        assert_eq!(Token::parse_for_programs(text).unwrap().hash(), token.hash());
        assert!(Token::parse_for_visit(text).is_none() && Token::parse(text).is_none());
        assert!(Token::parse_for_visit(Token::for_visit().expose()).is_some());
        let mut wrong = text.to_owned();
        wrong.replace_range(10..11, if &text[10..11] == "a" { "b" } else { "a" });
        for bad in [&wrong, &text[..63], &format!("{text}a"), "lsp_", "", &"ö".repeat(40), &text.to_uppercase()] {
            assert!(Token::parse_for_programs(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_long() {
        assert_eq!(gateway_secret().expose().len(), 52);
        assert_eq!(first_password().expose().len(), 20);
    }
}
