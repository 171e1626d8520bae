//! Programs for gateways: a short text says which one it is (the head), and a key that never is at the server has signed it.
//!
//! Key and signature are those of signify, of OpenWrt's usign, and of minisign without its own hash (`minisign -S -l`): plain
//! Ed25519 (RFC 8032) over the file. A bundle is the signature, the head, an empty line, and the program.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::{Config, home};

/// Largest program.
pub const PROGRAM_MAX: u64 = 16 * 1024 * 1024;
/// Longest signature and head together.
pub const HEAD_MAX: usize = 4096;

/// "Ed", and the number that signify gives a pair of keys.
const MARK: usize = 10;
const KEY: usize = MARK + 32;
const SIGNATURE: usize = MARK + 64;

/// Why a program is none that may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The key is none.
    #[error("this is no public key of signify, usign or minisign")]
    Key,
    /// The signature is none, or of a kind that is not taken.
    #[error("there is no signature that can be read; make it by `signify -S`, `usign -S` or `minisign -S -l`")]
    Unsigned,
    /// Another key made it.
    #[error("it is signed with another key (its number is {signed}, expected is {expected})")]
    OtherKey {
        /// The number in the signature.
        signed: String,
        /// That of the key.
        expected: String,
    },
    /// The signature does not fit.
    #[error("the signature does not fit: the file was changed, or was not signed as it is")]
    Forged,
    /// It is signed, and makes no sense.
    #[error("the head cannot be read: {0}")]
    Head(String),
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseKey([u8; KEY]);

impl FromStr for ReleaseKey {
    type Err = ReleaseError;

    /// From the file as those programs write it, or from its second line alone.
    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let line = text.lines().rfind(|line| !line.trim().is_empty()).ok_or(ReleaseError::Key)?;
        decode(line).map(Self).ok_or(ReleaseError::Key)
    }
}

impl fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({self})")
    }
}

/// A version: three numbers, and perhaps a word behind them that makes it an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    numbers: [u32; 3],
    before: String,
}

impl FromStr for Version {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let wrong = || ReleaseError::Head(format!("`{}` is no version such as 1.2.3", text.escape_debug()));
        let (plain, before) = text.split_once('-').unwrap_or((text, ""));
        let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') && word.len() <= 20;
        let numbers: Vec<u32> = plain.split('.').map_while(|number| number.parse().ok()).collect();
        let numbers = numbers.try_into().map_err(|_| wrong())?;
        let version = Self { numbers, before: before.to_owned() };
        if is_word(before) && version.to_string() == text { Ok(version) } else { Err(wrong()) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.before.is_empty() { Ok(()) } else { write!(f, "-{}", self.before) }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.numbers, version.before.is_empty());
        key(self).cmp(&key(other)).then_with(|| self.before.cmp(&other.before))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is signed: which program it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its version.
    pub version: Version,
    /// What it was built for, as Rust calls it.
    pub target: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// A gateway of a later version may become it too.
    pub older: bool,
}

impl Head {
    /// The text that is to be signed.
    pub fn text(&self) -> String {
        let Self { version, target, size, sha256, older } = self;
        let sha256 = HEXLOWER_PERMISSIVE.encode(sha256);
        let mut text = format!("linkspan-gateway {version}\ntarget {target}\nsize {size}\nsha256 {sha256}\n");
        if *older {
            // Writing into a String does not fail.
            let _ = writeln!(text, "older yes");
        }
        text
    }

    /// Whether a gateway would understand it.
    pub fn check(&self) -> Result<(), ReleaseError> {
        Self::parse(&self.text()).map(drop)
    }

    fn parse(text: &str) -> Result<Self, ReleaseError> {
        let wrong = |what: &str| ReleaseError::Head(what.to_owned());
        let (mut version, mut target, mut size, mut sha256, mut older) = (None, None, None, None, false);
        for line in text.lines() {
            let (key, value) = line.split_once(' ').ok_or_else(|| wrong("a line has no value"))?;
            match key {
                "linkspan-gateway" => version = Some(value.parse()?),
                "target" if is_target(value) => target = Some(value.to_owned()),
                "size" => size = value.parse().ok().filter(|size| (1..=PROGRAM_MAX).contains(size)),
                "sha256" => {
                    sha256 = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok().and_then(|all| all.try_into().ok())
                }
                "older" => older = value == "yes",
                // What is meant by it cannot be done by a program that does not know it.
                _ => return Err(ReleaseError::Head(format!("what is `{}`?", key.escape_debug()))),
            }
        }
        Ok(Self {
            version: version.ok_or_else(|| wrong("it has no `linkspan-gateway VERSION`"))?,
            target: target.ok_or_else(|| wrong("it has no `target`"))?,
            size: size.ok_or_else(|| wrong("it has no `size` up to 16 MiB"))?,
            sha256: sha256.ok_or_else(|| wrong("it has no `sha256`"))?,
            older,
        })
    }
}

fn is_target(text: &str) -> bool {
    (1..=60).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Reads a signature with the head behind it, which counts only if this key has signed it.
pub fn open(text: &str, key: &ReleaseKey) -> Result<Head, ReleaseError> {
    let (signature, head) = signature(text).ok_or(ReleaseError::Unsigned)?;
    if signature[..MARK] != key.0[..MARK] {
        let number = |bytes: &[u8]| HEXLOWER_PERMISSIVE.encode(&bytes[2..MARK]);
        return Err(ReleaseError::OtherKey { signed: number(&signature), expected: number(&key.0) });
    }
    let public = UnparsedPublicKey::new(&ED25519, &key.0[MARK..]);
    public.verify(head.as_bytes(), &signature[MARK..]).map_err(|_| ReleaseError::Forged)?;
    Head::parse(head)
}

/// Where the key lies that a gateway with this configuration was given when it was enrolled.
pub fn key_file(config: &Path) -> PathBuf {
    home(config).with_extension("update.pub")
}

/// The key by which programs for this gateway are signed; if there is none, why no program is taken.
pub fn key(config: &Config) -> Result<ReleaseKey, String> {
    if let Some(key) = &config.policy.update_key {
        return Ok(key.clone());
    }
    let file = key_file(&config.file);
    match std::fs::read_to_string(&file) {
        Ok(text) => text.parse().map_err(|e| format!("{}: {e}", file.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("there is no key to check programs with: {}, or [policy] update_key", file.display()))
        }
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}

/// Reads a signature with the head behind it that was checked before.
pub fn unchecked(text: &str) -> Option<Head> {
    Head::parse(signature(text)?.1).ok()
}

/// Where in a bundle the signature with the head ends, and where the program begins; from its first [`HEAD_MAX`] bytes.
pub fn split(bundle: &[u8]) -> Option<(&str, usize)> {
    let begin = bundle.get(..HEAD_MAX.min(bundle.len()))?;
    let end = begin.windows(2).position(|two| two == b"\n\n")? + 1;
    Some((std::str::from_utf8(begin.get(..end)?).ok()?, end + 1))
}

/// A signature's bytes, and what it is about. Of minisign's four lines, the later two are about a comment.
fn signature(text: &str) -> Option<([u8; SIGNATURE], &str)> {
    let rest = text.strip_prefix("untrusted comment:")?.split_once('\n')?.1;
    let (line, rest) = rest.split_once('\n')?;
    let rest = match rest.strip_prefix("trusted comment:") {
        Some(comment) => comment.splitn(3, '\n').nth(2)?,
        None => rest,
    };
    Some((decode(line)?, rest))
}

fn decode<const N: usize>(line: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = BASE64.decode(line.trim().as_bytes()).ok()?.try_into().ok()?;
    bytes.starts_with(b"Ed").then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by `signify-openbsd -G -n`, `signify-openbsd -S -m head`, and `minisign -S -l -m head`.
    const KEY: &str = include_str!("release/signify.pub");
    const SIGNED: &str = include_str!("release/signify.head");
    const MINISIGN_KEY: &str = include_str!("release/minisign.pub");
    const MINISIGNED: &str = include_str!("release/minisign.head");

    fn head() -> Head {
        let version = "0.2.0".parse().unwrap();
        let sha256 = *b"0123456789abcdef0123456789abcdef";
        Head { version, target: "mipsel-unknown-linux-musl".into(), size: 2_240_000, sha256, older: false }
    }

    #[test]
    fn what_signify_and_minisign_sign_is_read() {
        for (key, signed) in [(KEY, SIGNED), (MINISIGN_KEY, MINISIGNED)] {
            let key: ReleaseKey = key.parse().unwrap();
            assert_eq!(open(signed, &key), Ok(head()));
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        let other = open(SIGNED, &MINISIGN_KEY.parse().unwrap()).unwrap_err();
        assert!(matches!(other, ReleaseError::OtherKey { .. }), "{other}");
    }

    #[test]
    fn each_changed_byte_is_noticed() {
        let key = KEY.parse().unwrap();
        let begin = SIGNED.find('\n').unwrap() + 1;
        for at in begin..SIGNED.len() {
            let mut bytes = SIGNED.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(open(std::str::from_utf8(&bytes).unwrap(), &key).is_err(), "byte {at}");
        }
        for cut in 0..SIGNED.len() {
            assert!(open(&SIGNED[..cut], &key).is_err(), "cut at {cut}");
        }
        assert_eq!(open(&format!("{SIGNED}older yes\n"), &key), Err(ReleaseError::Forged));
    }

    #[test]
    fn a_bundle_is_signature_head_and_program() {
        let bundle = [SIGNED.as_bytes(), b"\n\x7fELF\n\nmore"].concat();
        let (text, program) = split(&bundle).unwrap();
        assert_eq!((text, &bundle[program..]), (SIGNED, &b"\x7fELF\n\nmore"[..]));
        assert_eq!(split(b"\x7fELF"), None);
        assert_eq!(split(&[b'x'; 10_000]), None);
    }

    #[test]
    fn a_head_says_all_and_nothing_strange() {
        assert_eq!(Head::parse(&head().text()), Ok(head()));
        let older = Head { older: true, ..head() };
        assert_eq!(Head::parse(&older.text()), Ok(older));
        let text = head().text();
        for (from, to) in [
            ("0.2.0", "2"),
            ("0.2.0", "0.2.0-a b"),
            ("size 2240000", "size 0"),
            ("size 2240000", "size 99999999999"),
            ("sha256 3", "sha256 "),
            ("target m", "target /"),
            ("target", "goal"),
        ] {
            assert!(Head::parse(&text.replace(from, to)).is_err(), "{to}");
        }
        assert!(Head::parse(&text[..text.len() / 2]).is_err());
    }

    #[test]
    fn versions_are_in_order() {
        let sorted = ["0.1.9", "0.2.0-alpha", "0.2.0-rc1", "0.2.0", "0.2.10", "1.0.0"];
        let sorted: Vec<Version> = sorted.iter().map(|text| text.parse().unwrap()).collect();
        assert!(sorted.is_sorted() && sorted[1] < sorted[3], "{sorted:?}");
        for bad in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3-", "1.2.3-a_b", "+1.2.3"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
