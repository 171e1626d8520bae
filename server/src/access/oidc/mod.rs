//! People of an OpenID provider: sent there with a question that only this browser and this server can answer, taken back
//! with a code, and believed when the provider's own signature says who they are.

mod claims;
mod http;
mod jws;
mod provider;

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};

pub use provider::{Provider, ProviderConfigError};

use self::claims::Expected;
use super::sign_in::{Caller, SignedIn};
use super::{Access, SessionKind, SignInError, Token};
use crate::store::{OidcSignIn, Source, StoreError, UserName};

/// From the way there to the way back: people look for their phones in between.
pub(super) const LIFE: Duration = Duration::from_mins(15);

/// Why nobody is signed in through the provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    /// The provider cannot be reached, or answers something else than it must.
    #[error("the provider cannot be used: {0}")]
    Provider(String),
    /// The way back does not fit the way there: too late, twice, another browser, or forged.
    #[error("this sign-in took too long, was used already, or was begun in another browser")]
    Stale,
    /// The provider says no, in its own words.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// What the provider says of the person cannot be believed.
    #[error("what the provider says cannot be believed: {0}")]
    Unbelievable(&'static str),
    /// The person is known there, and may not come in here.
    #[error("you are signed in there, but have no access here; ask whoever looks after this server")]
    NotWelcome,
    /// The session cannot be begun.
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

impl From<StoreError> for OidcError {
    fn from(error: StoreError) -> Self {
        Self::SignIn(error.into())
    }
}

/// The way to the provider.
pub(crate) struct Away {
    /// Where the browser goes.
    pub(crate) location: String,
    /// What it keeps, to be known again.
    pub(crate) browser: Token,
}

/// What the provider sends the browser back with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back<'a> {
    pub(crate) state: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) error: Option<&'a str>,
    /// The provider's name, where it sends one (RFC 9207).
    pub(crate) issuer: Option<&'a str>,
}

impl Access {
    /// The provider, where there is one.
    pub(crate) fn provider(&self) -> Option<&Provider> {
        self.inner.provider.as_ref()
    }

    /// Begins a sign-in at the provider; `next` is where the person goes on to.
    pub(crate) async fn go_to_provider(&self, provider: &Provider, next: &str) -> Result<Away, OidcError> {
        let metadata = provider.metadata().await?;
        let [state, browser, nonce, verifier] = std::array::from_fn(|_| Token::random());
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.expose().as_bytes()).as_ref());
        let location = provider.authorization(
            &metadata,
            &[
                ("state", state.expose()),
                ("nonce", nonce.expose()),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ],
        )?;
        let (state_hash, browser_hash) = (state.hash(), browser.hash());
        let kept = OidcSignIn {
            browser: browser_hash,
            nonce: nonce.expose().to_owned(),
            verifier: self.inner.vault.seal(verifier.expose().as_bytes(), &state_hash),
            next: next.to_owned(),
        };
        self.inner.store.add_oidc_sign_in(&state_hash, &kept, Timestamp::now() + LIFE).await?;
        Ok(Away { location, browser })
    }

    /// Ends a sign-in at the provider: once, in the browser that began it. Says where the person goes on to.
    pub(crate) async fn back_from_provider(
        &self,
        provider: &Provider,
        (back, browser): (Back<'_>, Option<Token>),
        caller: Caller<'_>,
    ) -> Result<(SignedIn, UserName, String), OidcError> {
        let (state, browser) = (Token::parse(back.state).ok_or(OidcError::Stale)?, browser.ok_or(OidcError::Stale)?);
        let kept = self.inner.store.take_oidc_sign_in(&state.hash(), &browser.hash()).await?.ok_or(OidcError::Stale)?;
        if back.issuer.is_some_and(|issuer| issuer != provider.issuer()) {
            return Err(OidcError::Unbelievable("it comes from another provider"));
        }
        let Some(code) = back.code else {
            return Err(OidcError::Refused(plain(back.error.unwrap_or("no reason is given"))));
        };
        let verifier = self.inner.vault.open_sealed(&kept.verifier, &state.hash()).ok_or(OidcError::Stale)?;
        let verifier = String::from_utf8(verifier).map_err(|_| OidcError::Stale)?;
        let expected = Expected { nonce: &kept.nonce, now: Timestamp::now().as_second() };
        let person = provider.redeem(code, &verifier, expected).await?;
        let (Ok(name), Some(role)) = (person.name.parse::<UserName>(), provider.role(&person.groups)) else {
            tracing::info!(
                name = plain(&person.name),
                "somebody of the provider has no role here, or no name that can be one"
            );
            return Err(OidcError::NotWelcome);
        };
        let subject = format!("{} {}", provider.issuer(), person.subject);
        let user = self.welcome(Source::Oidc, &subject, (&name, role)).await?.ok_or(OidcError::NotWelcome)?;
        let lifetime = provider.settings().session_lifetime.unwrap_or(self.inner.times.session_lifetime);
        let signed_in = self.begin_for(user, SessionKind::Console, caller, lifetime).await?;
        Ok((signed_in, name, kept.next))
    }
}

/// A stranger's words, short and harmless.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect()
}
