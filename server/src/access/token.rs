//! Random words that open something: shown once, kept only as their hash.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use linkspan_protocol::id::Secret;
use ring::digest::{SHA256, digest};

/// Characters of 32 bytes in base64.
const TEXT_LEN: usize = 43;

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
    fn secrets_are_long() {
        assert_eq!(gateway_secret().expose().len(), 52);
        assert_eq!(first_password().expose().len(), 20);
    }
}
