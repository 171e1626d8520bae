//! Who somebody is, and what they may do.

mod accounts;
mod cookie;
pub mod directory;
pub mod door;
pub mod oidc;
mod origin;
mod outside;
mod password;
mod password_rules;
mod place;
mod principal;
mod second_factor;
mod sign_in;
mod throttle;
mod token;
pub mod trust;
mod vault;
mod visit;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use moka::sync::Cache;

pub use crate::rights::{Permission, Role, Target};
pub use crate::store::{SessionId, SessionKind};
pub use accounts::{ChooseError, FIRST_LINK_LIFE, PASSWORD_LINK_LIFE};
pub(crate) use cookie::CONSOLE as CONSOLE_COOKIE;
pub(crate) use oidc::{Back, OidcError};
pub(crate) use origin::is_own_page;
pub use password::{PasswordError, Passwords};
pub use password_rules::{Context as PasswordContext, WeakPassword, judge as judge_password};
pub(crate) use place::{DevicePlace, device_place, relative_path};
pub use principal::{Credential, Principal};
pub(crate) use second_factor::{CodeError, Offer};
pub use sign_in::{Attempt, Caller, SignInError, SignedIn};
pub(crate) use sign_in::{FirstStep, Recognised};
pub use token::{Token, first_password, gateway_secret};
pub use vault::{Vault, VaultError};
pub(crate) use visit::permitted;

use crate::audit::Audit;
use crate::config;
use crate::rights::PermissionSet;
use crate::store::{SessionFound, Store, StoreError, TokenFound, UserKind};
use directory::Directory;
use oidc::Provider;
use throttle::Throttle;

/// Carries a bearer token on device hosts, where `Authorization` belongs to the device.
pub const DEVICE_AUTHORIZATION: HeaderName = HeaderName::from_static("linkspan-authorization");
/// How long an answer from the database is believed: a page of a hundred pictures asks once, and what another process
/// (a command line) revokes ends within this time.
const BELIEVED: Duration = Duration::from_secs(1);
/// Answers believed at once.
const BELIEVED_MAX: u64 = 10_000;

/// Where a request comes from: put into a request's extensions by whoever accepted its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What access works with besides the database.
#[derive(Clone)]
pub struct Means {
    /// Seals what must be kept readable.
    pub vault: Vault,
    /// Knows people who have no account here.
    pub directory: Option<Directory>,
    /// Knows others.
    pub provider: Option<Provider>,
    /// Where it is noted down what these decide.
    pub audit: Option<Audit>,
}

/// Knows who is signed in. Clones share what they know.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    times: config::Access,
    passwords: Passwords,
    throttle: Throttle,
    vault: Vault,
    directory: Option<Directory>,
    provider: Option<Provider>,
    audit: Option<Audit>,
    hurry: outside::Hurry,
    believed: Cache<Shown, Believed>,
}

/// Who somebody was, by the number of the last change that was known then.
#[derive(Clone)]
struct Believed {
    who: Principal,
    change: i64,
}

/// What was shown, as hash: two kinds of session, or a cookie on a device's host.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Shown {
    Console(String),
    Api(String),
    Program(String),
    Device(String, String),
}

impl Access {
    /// Reads and writes sessions in this store; what it seals is lost when it ends.
    pub fn new(store: Store, times: config::Access) -> Self {
        Self::with(store, times, Means { vault: Vault::forgetful(), directory: None, provider: None, audit: None })
    }

    /// The same, with a vault that outlives the process, and others who know people.
    pub fn with(store: Store, times: config::Access, means: Means) -> Self {
        let believed = Cache::builder().max_capacity(BELIEVED_MAX).time_to_live(BELIEVED).build();
        let (passwords, throttle) = (Passwords::default(), Throttle::new());
        let Means { vault, directory, provider, audit } = means;
        let hurry = outside::Hurry::new();
        let inner = Inner { store, times, passwords, throttle, vault, directory, provider, audit, hurry, believed };
        Self { inner: Arc::new(inner) }
    }

    /// Remembers the wrong attempts to sign in that were made before a restart.
    pub async fn restore(&self) -> Result<(), StoreError> {
        self.inner.throttle.restore(self.inner.store.failures(throttle::REMEMBERED_FOR).await?);
        Ok(())
    }

    /// Who shows this bearer token. What is not a token is nobody's.
    pub async fn by_bearer(&self, token: &str) -> Result<Option<Principal>, StoreError> {
        if let Some(token) = Token::parse_for_programs(token) {
            return self.shown(Shown::Program(token.hash())).await;
        }
        let Some(token) = Token::parse(token) else { return Ok(None) };
        self.shown(Shown::Api(token.hash())).await
    }

    /// Who shows this console cookie.
    pub async fn by_console_cookie(&self, headers: &HeaderMap) -> Result<Option<Principal>, StoreError> {
        let Some(token) = cookie::read(headers, cookie::CONSOLE) else { return Ok(None) };
        self.shown(Shown::Console(token.hash())).await
    }

    /// Whose visit this browser holds.
    pub(crate) async fn by_visit_cookie(&self, headers: &HeaderMap) -> Result<Option<Principal>, StoreError> {
        let Some(token) = cookie::read(headers, cookie::VISIT) else { return Ok(None) };
        let who = self.shown(Shown::Console(token.hash())).await?;
        Ok(who.filter(|who| who.kind == UserKind::Visit))
    }

    /// Who asks the console or the API: the bearer token if there is one, even if it is wrong, or else the cookie.
    pub async fn on_console(&self, headers: &HeaderMap) -> Result<Option<Principal>, StoreError> {
        if headers.contains_key(http::header::AUTHORIZATION) {
            return self.by_authorization(headers, &http::header::AUTHORIZATION).await;
        }
        self.by_console_cookie(headers).await
    }

    /// Who asks on a device's host: `Linkspan-Authorization: Bearer` if it is there, even if it is wrong, or else the
    /// cookie that was given for exactly this host.
    pub async fn on_device_host(&self, host: &str, headers: &HeaderMap) -> Result<Option<Principal>, StoreError> {
        if headers.contains_key(DEVICE_AUTHORIZATION) {
            return self.by_authorization(headers, &DEVICE_AUTHORIZATION).await;
        }
        let Some(token) = cookie::read(headers, cookie::DEVICE) else { return Ok(None) };
        self.shown(Shown::Device(token.hash(), host.to_owned())).await
    }

    /// May they do that with this? Decided in one place: [`Rights::decide`](crate::rights::Rights::decide).
    pub fn may(&self, who: &Principal, permission: Permission, target: &Target<'_>) -> bool {
        who.may(permission, target)
    }

    /// Who somebody is now that something has changed; none if they are nobody any more.
    pub async fn again(&self, who: &Principal) -> Result<Option<Principal>, StoreError> {
        let Inner { store, times, .. } = &*self.inner;
        let as_of = *store.changes().borrow();
        match who.credential {
            Credential::Session(session) => {
                self.session(store.session(session, times.session_idle).await?, as_of).await
            }
            Credential::Token(token) => self.program(store.token(token).await?, as_of).await,
        }
    }

    async fn by_authorization(&self, headers: &HeaderMap, name: &HeaderName) -> Result<Option<Principal>, StoreError> {
        let mut lines = headers.get_all(name).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return Ok(None) };
        let Some((scheme, token)) = line.to_str().ok().and_then(|line| line.split_once(' ')) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(None);
        }
        self.by_bearer(token.trim()).await
    }

    async fn shown(&self, shown: Shown) -> Result<Option<Principal>, StoreError> {
        let Inner { store, believed, .. } = &*self.inner;
        // The number comes first: what changes while the database is asked makes the answer old.
        let change = *store.changes().borrow();
        let known = believed.get(&shown).filter(|known| known.change == change);
        if let Some(known) = known.filter(|known| known.who.expires > Timestamp::now()) {
            return Ok(Some(known.who));
        }
        let mut who = self.look_up(&shown, change).await?;
        if let Some(found) = &who
            && self.ask_first(found.user).await?
        {
            let change = *store.changes().borrow();
            who = self.look_up(&shown, change).await?;
        }
        match &who {
            Some(who) => believed.insert(shown, Believed { who: who.clone(), change: who.as_of }),
            None => believed.invalidate(&shown),
        }
        Ok(who)
    }

    /// Who shows this, by what the database says.
    async fn look_up(&self, shown: &Shown, as_of: i64) -> Result<Option<Principal>, StoreError> {
        let Inner { store, times, .. } = &*self.inner;
        let idle = times.session_idle;
        let session = match shown {
            Shown::Console(token) => store.session_by_token(SessionKind::Console, token, idle).await?,
            Shown::Api(token) => store.session_by_token(SessionKind::Api, token, idle).await?,
            Shown::Device(token, host) => store.session_by_device_cookie(token, host, idle).await?,
            Shown::Program(token) => return self.program(store.token_by_hash(token).await?, as_of).await,
        };
        self.session(session, as_of).await
    }

    /// Whose session it is, with all that they may do.
    async fn session(&self, found: Option<SessionFound>, as_of: i64) -> Result<Option<Principal>, StoreError> {
        let Some(SessionFound { session, user, tenant, kind, name, expires, .. }) = found else { return Ok(None) };
        let rights = match kind {
            UserKind::Visit => visit::rights(&self.inner.store, tenant, user).await?,
            UserKind::Person | UserKind::Service => self.inner.store.rights(tenant, user).await?,
        };
        let (credential, rights) = (Credential::Session(session), Arc::new(rights));
        Ok(Some(Principal { user, tenant, kind, name, credential, expires, rights, as_of }))
    }

    /// Whose token it is, with what it is made for.
    async fn program(&self, found: Option<TokenFound>, as_of: i64) -> Result<Option<Principal>, StoreError> {
        let Some(TokenFound { id, user, tenant, kind, name, permissions, expires }) = found else { return Ok(None) };
        let mut rights = self.inner.store.rights(tenant, user).await?;
        rights.limit = permissions.unwrap_or(PermissionSet::ALL);
        let (credential, rights) = (Credential::Token(id), Arc::new(rights));
        Ok(Some(Principal { user, tenant, kind, name, credential, expires, rights, as_of }))
    }
}

/// The `Set-Cookie` of a person who has signed in at the console.
pub(crate) fn console_cookie(signed_in: &SignedIn) -> HeaderValue {
    let seconds = signed_in.expires.duration_since(Timestamp::now()).as_secs();
    cookie::set(cookie::CONSOLE, &signed_in.token, seconds)
}

/// The `Set-Cookie` of a guest whose visit has begun.
pub(crate) fn visit_cookie(signed_in: &SignedIn) -> HeaderValue {
    let seconds = signed_in.expires.duration_since(Timestamp::now()).as_secs();
    cookie::set(cookie::VISIT, &signed_in.token, seconds)
}

/// The `Set-Cookie` of a guest who has ended their visit.
pub(crate) fn no_visit_cookie() -> HeaderValue {
    cookie::clear(cookie::VISIT)
}

/// The `Set-Cookie` of a person who has signed out.
pub(crate) fn no_console_cookie() -> HeaderValue {
    cookie::clear(cookie::CONSOLE)
}

/// The `Set-Cookie` of somebody whose password was right and who needs the second factor as well.
pub(crate) fn half_cookie(half: &Token) -> HeaderValue {
    cookie::set(cookie::HALF, half, sign_in::HALF_LIFE.as_secs().cast_signed())
}

/// Removes it.
pub(crate) fn no_half_cookie() -> HeaderValue {
    cookie::clear(cookie::HALF)
}

/// The `Set-Cookie` of a browser on its way to the provider.
pub(crate) fn provider_cookie(browser: &Token) -> HeaderValue {
    cookie::set(cookie::PROVIDER, browser, oidc::LIFE.as_secs().cast_signed())
}

/// Removes it.
pub(crate) fn no_provider_cookie() -> HeaderValue {
    cookie::clear(cookie::PROVIDER)
}

/// What such a browser shows.
pub(crate) fn shown_at_provider(headers: &HeaderMap) -> Option<Token> {
    cookie::read(headers, cookie::PROVIDER)
}

/// What such a browser shows.
pub(crate) fn shown_half(headers: &HeaderMap) -> Option<Token> {
    cookie::read(headers, cookie::HALF)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Instant;

    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::tests::fresh;

    pub(crate) const PASSWORD: &str = "correct horse";

    /// A store with `anna`, who is an admin, and `otto`, an operator.
    pub(crate) async fn with_people() -> (tempfile::TempDir, Store, Access) {
        let (dir, store) = fresh().await;
        let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await.unwrap();
        for (name, role) in [("anna", Role::Admin), ("otto", Role::Operator)] {
            store.add_user(&name.parse().unwrap(), role, &hash).await.unwrap().unwrap();
        }
        let access = Access::new(store.clone(), config::Access::default());
        (dir, store, access)
    }

    pub(crate) async fn sign_in(access: &Access, name: &str, kind: SessionKind) -> Token {
        let password = Secret::new(PASSWORD);
        access.sign_in(Attempt::new(name, &password, kind)).await.unwrap().token
    }

    pub(crate) fn cookies(name: &str, token: &Token) -> HeaderMap {
        let line = format!("{name}={}", token.expose());
        HeaderMap::from_iter([(http::header::COOKIE, line.parse().unwrap())])
    }

    #[tokio::test]
    async fn name_and_password_belong_together() {
        let (_dir, _store, access) = with_people().await;
        for (name, password) in [("anna", "wrong horse"), ("nobody", PASSWORD), ("a b", PASSWORD), ("", "")] {
            let password = Secret::new(password);
            let attempt = Attempt::new(name, &password, SessionKind::Api);
            assert!(matches!(access.sign_in(attempt).await, Err(SignInError::Wrong)), "{name}");
        }
        let token = sign_in(&access, " Anna ", SessionKind::Api).await;
        assert_eq!(access.by_bearer(token.expose()).await.unwrap().unwrap().name, "anna");
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_own_place_only() {
        let (_dir, _store, access) = with_people().await;
        let api = sign_in(&access, "otto", SessionKind::Api).await;
        let console = sign_in(&access, "otto", SessionKind::Console).await;
        assert!(access.by_bearer(console.expose()).await.unwrap().is_none());
        assert!(access.by_console_cookie(&cookies(cookie::CONSOLE, &api)).await.unwrap().is_none());
        assert!(access.by_console_cookie(&cookies(cookie::CONSOLE, &console)).await.unwrap().is_some());
        for name in [cookie::CONSOLE, cookie::DEVICE] {
            for token in [&api, &console] {
                let found = access.on_device_host("plc1.z.test", &cookies(name, token)).await.unwrap();
                assert!(found.is_none(), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_bearer_token_works_on_both_hosts_under_its_own_header() {
        let (_dir, _store, access) = with_people().await;
        let token = sign_in(&access, "otto", SessionKind::Api).await;
        let bearer: HeaderValue = format!("Bearer {}", token.expose()).parse().unwrap();
        let mut headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer.clone())]);
        assert!(access.on_console(&headers).await.unwrap().is_some());
        assert!(access.on_device_host("plc1.z.test", &headers).await.unwrap().is_none(), "that is the device's");
        headers.insert(DEVICE_AUTHORIZATION, bearer.clone());
        assert!(access.on_device_host("plc1.z.test", &headers).await.unwrap().is_some());
        headers.append(DEVICE_AUTHORIZATION, bearer);
        assert!(access.on_device_host("plc1.z.test", &headers).await.unwrap().is_none(), "said twice");
    }

    #[tokio::test]
    async fn what_is_malformed_is_nobody() {
        let (_dir, _store, access) = with_people().await;
        let console = sign_in(&access, "otto", SessionKind::Console).await;
        for bad in ["", "Bearer", "Bearer ", "Basic b3R0bzp4", "Bearer x y", "bearer\tx"] {
            let mut headers = cookies(cookie::CONSOLE, &console);
            headers.insert(http::header::AUTHORIZATION, bad.parse().unwrap());
            assert!(access.on_console(&headers).await.unwrap().is_none(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn signing_out_ends_it_at_once_and_a_removed_person_soon() {
        let (_dir, store, access) = with_people().await;
        let token = sign_in(&access, "otto", SessionKind::Api).await;
        let who = access.by_bearer(token.expose()).await.unwrap().unwrap();
        access.sign_out(&who).await.unwrap();
        assert!(access.by_bearer(token.expose()).await.unwrap().is_none());

        let token = sign_in(&access, "otto", SessionKind::Api).await;
        assert!(access.by_bearer(token.expose()).await.unwrap().is_some());
        store.remove_user(&"otto".parse().unwrap()).await.unwrap();
        let deadline = Instant::now() + 2 * BELIEVED;
        while access.by_bearer(token.expose()).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "still believed");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_taken_away_is_gone_with_the_next_request() {
        let (_dir, store, access) = with_people().await;
        let token = sign_in(&access, "otto", SessionKind::Api).await;
        let may = async || {
            let who = access.by_bearer(token.expose()).await.unwrap().unwrap();
            who.may_here(Permission::PageOpen)
        };
        assert!(may().await);
        let otto = store.users().await.unwrap()[1].id;
        store.set_role(otto, Some(Role::Viewer.into()), "test").await.unwrap();
        assert!(!may().await);
    }

    #[tokio::test]
    async fn guessing_is_slowed_even_with_the_right_password() {
        let (_dir, _store, access) = with_people().await;
        let (wrong, right) = (Secret::new("wrong horse"), Secret::new(PASSWORD));
        let attempt = |password| Attempt::new("otto", password, SessionKind::Api);
        for _ in 0..5 {
            assert!(matches!(access.sign_in(attempt(&wrong)).await, Err(SignInError::Wrong)));
        }
        assert!(matches!(access.sign_in(attempt(&right)).await, Err(SignInError::Slow(_))));
    }
}
