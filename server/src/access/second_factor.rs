//! The second factor: codes that change every half minute (RFC 6238), and recovery codes for when the phone is gone.

use std::time::{Duration, Instant};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest::{SHA256, digest};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::sign_in::Recognised;
use super::token::random_bytes;
use super::{Access, Inner};
use crate::config::SecondFactor as Required;
use crate::rights::UserId;
use crate::store::{Failed, StoreError};

/// Seconds that a code is shown for.
const STEP: i64 = 30;
/// Steps before and after the present one that are taken too: clocks differ, and people type slowly.
const DRIFT: i64 = 1;
/// Bytes of a secret: what SHA-1 can use.
const SECRET_LEN: usize = 20;
/// Recovery codes that are given out together.
const RECOVERY_CODES: usize = 10;
/// Letters of a recovery code without its dashes: 80 random bits.
const RECOVERY_LEN: usize = 16;

/// A second factor that does not count yet: to be shown once, to be typed or photographed.
#[derive(Clone)]
pub(crate) struct Offer {
    /// The secret, in base32.
    pub(crate) secret: String,
    /// The same for a camera: `otpauth://…`.
    pub(crate) url: String,
}

/// Why a code was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// Wrong, too old, or used before.
    #[error("the code is wrong, or was used before")]
    Wrong,
    /// Too many wrong ones came before it.
    #[error("too many attempts; try again in {} s", .0.as_secs().max(1))]
    Slow(Duration),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Access {
    /// Whether this person must have a second factor.
    pub(crate) async fn must_have_second_factor(&self, user: UserId) -> Result<bool, StoreError> {
        if self.inner.times.second_factor == Required::Everybody || self.inner.store.tenant_requires(user).await? {
            return Ok(true);
        }
        let Required::Roles(roles) = &self.inner.times.second_factor else { return Ok(false) };
        Ok(self.inner.store.roles_of(user).await?.iter().any(|role| roles.contains(role)))
    }

    /// Whether somebody signs in with a second factor.
    pub(crate) async fn has_second_factor(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.inner.store.second_factor(user).await?.is_some_and(|kept| kept.proven))
    }

    /// Takes a code of the second factor, or a recovery code, in their place; each once.
    pub(crate) async fn check_code(&self, who: &Recognised, typed: &str) -> Result<(), CodeError> {
        let Inner { store, throttle, .. } = &*self.inner;
        self.keep(throttle.admit_code(&who.name, Instant::now()).map_err(CodeError::Slow)?).await;
        let right = match recovery_hash(typed) {
            Some(hash) => store.use_recovery_code(who.user, &hash).await?,
            None => self.takes_step(who.user, typed, None).await?,
        };
        if !right {
            return Err(CodeError::Wrong);
        }
        let kept = throttle.forgive_code(&who.name);
        if !kept.is_empty() {
            store.forget_failures(&kept).await?;
        }
        Ok(())
    }

    /// A new secret for somebody who has no second factor; none if they have.
    pub(crate) async fn offer_second_factor(&self, who: &Recognised, site: &str) -> Result<Option<Offer>, StoreError> {
        let Inner { store, vault, .. } = &*self.inner;
        // The page may be loaded again before the code is typed: then it shows the same secret.
        let kept = store.second_factor(who.user).await?;
        if let Some(secret) = kept.filter(|kept| !kept.proven).and_then(|kept| self.opened(who.user, &kept.sealed)) {
            return Ok(Some(offer(&secret, &who.name, site)));
        }
        let (secret, place) = (random_bytes().split_at(SECRET_LEN).0.to_vec(), place(who.user));
        let kept = store.offer_second_factor(who.user, &vault.seal(&secret, &place)).await?;
        Ok(kept.then(|| offer(&secret, &who.name, site)))
    }

    /// A code shows that the person has the secret: the second factor counts from now on. Returns the recovery codes.
    pub(crate) async fn prove_second_factor(&self, who: &Recognised, typed: &str) -> Result<Vec<String>, CodeError> {
        let Inner { store, throttle, .. } = &*self.inner;
        self.keep(throttle.admit_code(&who.name, Instant::now()).map_err(CodeError::Slow)?).await;
        let (codes, hashes) = recovery_codes();
        if self.has_second_factor(who.user).await? || !self.takes_step(who.user, typed, Some(&hashes)).await? {
            return Err(CodeError::Wrong);
        }
        let kept = throttle.forgive_code(&who.name);
        if !kept.is_empty() {
            store.forget_failures(&kept).await?;
        }
        Ok(codes)
    }

    /// New recovery codes in place of the old ones.
    pub(crate) async fn new_recovery_codes(&self, user: UserId) -> Result<Vec<String>, StoreError> {
        let (codes, hashes) = recovery_codes();
        self.inner.store.replace_recovery_codes(user, &hashes).await?;
        Ok(codes)
    }

    /// Whether a code is that of the present step or one beside it, and no later one was used.
    async fn takes_step(&self, user: UserId, typed: &str, codes: Option<&[String]>) -> Result<bool, StoreError> {
        let store = &self.inner.store;
        let Some(kept) = store.second_factor(user).await? else { return Ok(false) };
        let Some(secret) = self.opened(user, &kept.sealed) else { return Ok(false) };
        let Some(step) = step_of(&secret, typed, Timestamp::now().as_second()) else { return Ok(false) };
        store.use_step(user, step, codes).await
    }

    fn opened(&self, user: UserId, sealed: &str) -> Option<Vec<u8>> {
        let opened = self.inner.vault.open_sealed(sealed, &place(user));
        if opened.is_none() {
            tracing::error!(
                "a second factor cannot be opened: the key in the state directory is not the one it was sealed with"
            );
        }
        opened
    }

    /// Writes down what a restart must not forgive.
    pub(super) async fn keep(&self, counted: Vec<Failed>) {
        if !counted.is_empty()
            && let Err(error) = self.inner.store.keep_failures(&counted).await
        {
            tracing::error!(error = error.in_full(), "wrong attempts to sign in are not written down");
        }
    }
}

fn place(user: UserId) -> String {
    format!("second factor {}", user.0)
}

fn offer(secret: &[u8], name: &str, site: &str) -> Offer {
    let secret = BASE32_NOPAD.encode(secret);
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let url = format!("otpauth://totp/{0}:{1}?secret={secret}&issuer={0}", escaped(site), escaped(name));
    Offer { secret, url }
}

/// The step around `now` whose code was typed. All are computed, whichever it is.
fn step_of(secret: &[u8], typed: &str, now: i64) -> Option<i64> {
    let typed: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    let present = now / STEP;
    let mut found = None;
    for step in present - DRIFT..=present + DRIFT {
        let code = format!("{:06}", code(secret, step));
        if bool::from(code.as_bytes().ct_eq(typed.as_bytes())) {
            found = Some(step);
        }
    }
    found
}

/// The code of a step (RFC 4226): six digits.
fn code(secret: &[u8], step: i64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let offset = usize::from(bytes.last().copied().unwrap_or(0) & 0x0f);
    let four = bytes.get(offset..offset + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).unwrap_or_default();
    (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000
}

/// Fresh recovery codes, and what is kept of them.
fn recovery_codes() -> (Vec<String>, Vec<String>) {
    let one = || {
        let text = BASE32_NOPAD.encode(random_bytes().split_at(RECOVERY_LEN * 5 / 8).0).to_ascii_lowercase();
        text.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned()).collect::<Vec<_>>().join("-")
    };
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| one()).collect();
    let hashes = codes.iter().filter_map(|code| recovery_hash(code)).collect();
    (codes, hashes)
}

/// The hash of a recovery code, if the text can be one.
fn recovery_hash(typed: &str) -> Option<String> {
    let plain: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let plain = plain.to_ascii_lowercase();
    let fits = plain.len() == RECOVERY_LEN && plain.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
    fits.then(|| HEXLOWER.encode(digest(&SHA256, plain.as_bytes()).as_ref()))
}

/// What a phone would show now for a secret in base32.
#[cfg(test)]
pub(crate) fn shown(secret: &str, ahead: i64) -> String {
    let secret = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
    format!("{:06}", code(&secret, Timestamp::now().as_second() / STEP + ahead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::with_people;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = b"12345678901234567890";
        for (second, expected) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code(secret, second / STEP), expected, "{second}");
        }
        assert_eq!(step_of(secret, "081 804", 1_111_111_109), Some(37_037_036));
        assert_eq!(step_of(secret, "081804", 1_111_111_109 + STEP), Some(37_037_036));
        assert_eq!(step_of(secret, "081804", 1_111_111_109 + 2 * STEP), None, "too old");
        for bad in ["", "81804", "0081804", "0818040", "abcdef", "０８１８０４"] {
            assert_eq!(step_of(secret, bad, 1_111_111_109), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_code_is_taken_once_and_a_recovery_code_stands_in_for_it_once() {
        let (_dir, store, access) = with_people().await;
        let user = store.person(&"otto".parse().unwrap()).await.unwrap().unwrap().id;
        let who = Recognised { user, name: "otto".into() };
        let offered = access.offer_second_factor(&who, "c.test").await.unwrap().unwrap();
        assert!(offered.url.starts_with("otpauth://totp/c%2Etest:otto?secret="), "{}", offered.url);
        let again = access.offer_second_factor(&who, "c.test").await.unwrap().unwrap();
        assert_eq!(again.secret, offered.secret, "loading the page again changes nothing");
        assert!(!store.second_factor(user).await.unwrap().unwrap().sealed.contains(&offered.secret));
        assert!(!access.has_second_factor(user).await.unwrap(), "it has shown nothing yet");
        let now = shown(&offered.secret, 0);
        let codes = access.prove_second_factor(&who, &now).await.unwrap();
        assert!(matches!(access.check_code(&who, &now).await, Err(CodeError::Wrong)), "used before");
        assert!(matches!(access.check_code(&who, &shown(&offered.secret, -1)).await, Err(CodeError::Wrong)), "older");
        access.check_code(&who, &shown(&offered.secret, 1)).await.unwrap();
        assert_eq!(codes.len(), RECOVERY_CODES);
        access.check_code(&who, &codes[0].to_ascii_uppercase()).await.unwrap();
        assert!(matches!(access.check_code(&who, &codes[0]).await, Err(CodeError::Wrong)), "once");
        assert!(access.offer_second_factor(&who, "c.test").await.unwrap().is_none(), "not behind the person's back");
        let fresh = access.new_recovery_codes(user).await.unwrap();
        assert!(matches!(access.check_code(&who, &codes[1]).await, Err(CodeError::Wrong)), "replaced");
        access.check_code(&who, &fresh[1].replace('-', " ")).await.unwrap();
    }

    #[tokio::test]
    async fn guessing_codes_is_slowed() {
        let (_dir, store, access) = with_people().await;
        let user = store.person(&"otto".parse().unwrap()).await.unwrap().unwrap().id;
        let who = Recognised { user, name: "otto".into() };
        let mut wrong = 0;
        while let Err(CodeError::Wrong) = access.check_code(&who, "000000").await {
            wrong += 1;
        }
        assert_eq!(wrong, 5);
    }
}
