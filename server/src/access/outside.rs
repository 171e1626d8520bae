//! People whom somebody else knows: brought in when their source vouches for them, and out when it no longer does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, DirectoryError, Found};
use super::sign_in::Recognised;
use super::{Access, Inner, SignInError};
use crate::audit::{Action, Actor, Entry, Target};
use crate::config::GroupRole;
use crate::rights::UserId;
use crate::store::{Outside, Source, StoreError, ToAsk, UserName, Welcome};

/// A refusal is told at a multiple of this after the attempt began: then the directory's own pace tells nothing of who
/// is there.
const PACE: Duration = Duration::from_millis(250);
/// People asked for in one round.
const PER_ROUND: i64 = 500;
/// Questions of a round at once.
const AT_ONCE: usize = 4;
/// Whoever asks for something has been asked for within this time, or is asked for first.
const FRESH: Duration = Duration::from_secs(2);
/// A request waits no longer than this for the directory.
const HURRY: Duration = Duration::from_secs(1);
/// After it was not that quick, no request waits for it for so long; the rounds go on.
const REST: Duration = Duration::from_secs(30);
/// Between two looks for people of a provider.
const LOOK: Duration = Duration::from_secs(60);
/// Requests that wait at once: people who sign in come first.
const HURRIED: usize = 2;

/// Requests that wait for the directory.
pub(super) struct Hurry {
    turns: Semaphore,
    slow_since: Mutex<Option<Instant>>,
}

impl Hurry {
    /// Nobody waits yet.
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(HURRIED), slow_since: Mutex::default() }
    }

    fn rests(&self) -> bool {
        let since = *self.slow_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < REST)
    }

    fn rest(&self) {
        *self.slow_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Access {
    /// Who this is, if the directory takes the password for theirs.
    pub(super) async fn by_directory(
        &self,
        directory: &Directory,
        name: &UserName,
        password: &Secret,
    ) -> Result<Recognised, SignInError> {
        let begun = Instant::now();
        match directory.sign_in(name, password).await {
            Ok(Some(found)) => {
                let (Some(role), subject) = (&found.role, found.subject.as_str()) else {
                    return Err(SignInError::Wrong);
                };
                let user = self.welcome(Source::Ldap, subject, (name, role)).await?.ok_or(SignInError::Wrong)?;
                Ok(Recognised { user, name: name.as_str().to_owned() })
            }
            Ok(None) => {
                directory.refused_after(begun.elapsed());
                Err(SignInError::Wrong)
            }
            Err(DirectoryError::Busy) => Err(SignInError::Busy),
            Err(_) => Err(SignInError::DirectorySilent),
        }
    }

    /// Waits until a refusal may be told, where a directory has a pace of its own; while it does not answer, all that are
    /// refused are told so.
    pub(super) async fn paced<T>(&self, begun: Instant, result: Result<T, SignInError>) -> Result<T, SignInError> {
        let Some(directory) = &self.inner.directory else { return result };
        if !matches!(result, Err(SignInError::Wrong)) {
            return result;
        }
        // Who has an account here waits for a directory that did not answer the last time as everybody does.
        if directory.is_silent() || (directory.was_silent() && directory.ping().await.is_err()) {
            return Err(SignInError::DirectorySilent);
        }
        let slowest = begun.elapsed().max(directory.refuses_after());
        let steps = slowest.as_millis() / PACE.as_millis() + 1;
        let at = begun + PACE * u32::try_from(steps).unwrap_or(u32::MAX);
        tokio::time::sleep_until(at.into()).await;
        result
    }

    /// Brings in somebody for whom a source has just vouched; none if the name is taken, or the role is not there.
    pub(super) async fn welcome(
        &self,
        source: Source,
        subject: &str,
        (name, role): (&UserName, &GroupRole),
    ) -> Result<Option<UserId>, StoreError> {
        let store = &self.inner.store;
        let Some(tenant) = store.tenant_named(&role.tenant).await? else {
            tracing::error!(tenant = %role.tenant, "the configuration gives people to a tenant that is not there");
            return Ok(None);
        };
        let given = role.role.as_str();
        let Some((role, _)) = store.role_named(tenant.id, &role.role).await? else {
            tracing::error!(role = role.role, tenant = %tenant.name, "the configuration gives people a role that is not there");
            return Ok(None);
        };
        match store.welcome(Outside { source, subject, name, tenant: tenant.id, role }).await? {
            Welcome::As(user, changed) => {
                if changed {
                    let entry = Entry::new(Action::PERSON_CHANGE, Actor::system().of_tenant(tenant.id));
                    let entry = entry.on(Target::new("person", name)).with("source", source.as_str());
                    self.note(entry.with("let_in", true).with("role", given));
                }
                Ok(Some(user))
            }
            Welcome::NameTaken => {
                tracing::warn!(%name, source = source.as_str(), "somebody else has an account of this name; they may not sign in");
                Ok(None)
            }
        }
    }

    /// Asks the directory again and again for those who came from it, until the server stops.
    pub async fn watch_directory(self, stop: CancellationToken) {
        let Some(directory) = self.inner.directory.clone() else { return self.forget_all(Source::Ldap).await };
        let every = directory.settings().recheck;
        let mut ticks = tokio::time::interval((every / 2).max(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Half the time is the pace of the rounds: whoever is not due in one round is in the next.
            if let Err(error) = self.ask_again(&directory, every / 2).await {
                tracing::error!(error = error.in_full(), "people of the directory cannot be looked through");
            }
        }
    }

    /// Looks again and again for people of the provider of whom it has not said for too long that they are welcome, until
    /// the server stops. It says so when they sign in; their programs and their guests do not.
    pub async fn watch_provider(self, stop: CancellationToken) {
        let Some(provider) = &self.inner.provider else { return self.forget_all(Source::Oidc).await };
        let trust_for = provider.settings().trust_for;
        let mut ticks = tokio::time::interval((trust_for / 10).clamp(Duration::from_millis(100), LOOK));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let why = "they have not signed in at the provider for too long";
            if let Err(error) = self.forget(Source::Oidc, trust_for, why).await {
                tracing::error!(error = error.in_full(), "people of the provider cannot be looked through");
            }
        }
    }

    /// Nobody can be asked any more for those who came from a source that the configuration no longer names.
    async fn forget_all(&self, source: Source) {
        let why = "the configuration does not name their source any more";
        if let Err(error) = self.forget(source, Duration::ZERO, why).await {
            tracing::error!(error = error.in_full(), source = source.as_str(), "people of a source cannot be shut out");
        }
    }

    async fn forget(&self, source: Source, age: Duration, why: &str) -> Result<(), StoreError> {
        loop {
            let some = self.inner.store.not_vouched_for(source, age, PER_ROUND).await?;
            for who in &some {
                self.shut_out(who, source, why).await?;
            }
            if some.is_empty() {
                return Ok(());
            }
        }
    }

    async fn ask_again(&self, directory: &Directory, age: Duration) -> Result<(), StoreError> {
        let mut asking = JoinSet::new();
        for who in self.inner.store.to_ask(age, PER_ROUND).await? {
            if asking.len() >= AT_ONCE {
                asking.join_next().await;
            }
            if self.inner.store.claim_asking(who.user, age).await? {
                let (access, directory) = (self.clone(), directory.clone());
                asking.spawn(async move {
                    if let Err(error) = access.ask_for(&directory, &who).await {
                        tracing::error!(error = error.in_full(), "what the directory says cannot be written down");
                    }
                });
            }
        }
        asking.join_all().await;
        Ok(())
    }

    /// Asks the directory for somebody who shows what they were given earlier, if that is due and it is quick; whether it
    /// was asked, so that they may be somebody else by now.
    pub(super) async fn ask_first(&self, user: UserId) -> Result<bool, StoreError> {
        let Inner { store, directory, hurry, .. } = &*self.inner;
        let Some(directory) = directory else { return Ok(false) };
        let age = FRESH.min(directory.settings().recheck / 2);
        if directory.is_silent() || hurry.rests() {
            return Ok(false);
        }
        let Ok(_turn) = hurry.turns.try_acquire() else { return Ok(false) };
        let Some(who) = store.to_ask_now(user, age).await? else { return Ok(false) };
        if !store.claim_asking(user, age).await? {
            return Ok(false);
        }
        match tokio::time::timeout(HURRY, self.ask_for(directory, &who)).await {
            Ok(asked) => asked.map(|()| true),
            Err(_) => {
                hurry.rest();
                store.ask_soon(user).await.map(|()| false)
            }
        }
    }

    async fn ask_for(&self, directory: &Directory, who: &ToAsk) -> Result<(), StoreError> {
        match directory.look_up(who.name.as_str()).await {
            Ok(found) => {
                let still = found.filter(|found| found.may_come_in() && found.subject == who.subject);
                match still.as_ref().and_then(|found: &Found| found.role.as_ref()) {
                    Some(role) => {
                        if self.welcome(Source::Ldap, &who.subject, (&who.name, role)).await?.is_none() {
                            self.shut_out(who, Source::Ldap, "what it makes of them is not there").await?;
                        }
                        Ok(())
                    }
                    None => {
                        tracing::info!(name = %who.name, "the directory does not let them in any more: they are signed out");
                        self.shut_out(who, Source::Ldap, "the directory does not let them in any more").await
                    }
                }
            }
            Err(error) => {
                let age = Timestamp::now().duration_since(who.confirmed);
                if Duration::try_from(age).unwrap_or_default() < directory.settings().grace {
                    return Ok(());
                }
                tracing::warn!(name = %who.name, %error, "the directory has not answered for too long: they are signed out");
                self.shut_out(who, Source::Ldap, "the directory has not answered for too long").await
            }
        }
    }

    /// Their source does not vouch for them any more.
    async fn shut_out(&self, who: &ToAsk, source: Source, why: &str) -> Result<(), StoreError> {
        self.inner.store.block(who.user).await?;
        let entry = Entry::new(Action::PERSON_CHANGE, Actor::system().of_tenant(who.tenant));
        let entry = entry.on(Target::new("person", &who.name)).with("source", source.as_str());
        self.note(entry.with("let_in", false).with("why", why));
        Ok(())
    }

    fn note(&self, entry: Entry) {
        if let Some(audit) = &self.inner.audit {
            audit.note_later(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::oidc::Provider;
    use crate::access::{Means, Permission, Token, Vault};
    use crate::config::{self, Oidc, Site};
    use crate::rights::{Role, TenantId};
    use crate::store::tests::fresh;
    use crate::store::{NewToken, Store};

    /// Access to this store, with a provider whose word counts for so long.
    fn access(folder: &std::path::Path, store: &Store, trust_for: Duration) -> Access {
        let ca_file = folder.join("provider-ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&ca_file, rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()).unwrap();
        let settings = Oidc {
            title: "x".into(),
            issuer: "https://id.test".into(),
            ca_file: Some(ca_file),
            client_id: "linkspan".into(),
            client_secret_file: None,
            scopes: Vec::new(),
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            session_lifetime: None,
            trust_for,
            roles: Vec::new(),
        };
        let site = Site { console: "c.test".into(), zone: "z.test".into(), port: 443 };
        let provider = Some(Provider::new(settings, &site).unwrap());
        let means = Means { vault: Vault::forgetful(), directory: None, provider, audit: None };
        Access::with(store.clone(), config::Access::default(), means)
    }

    #[tokio::test]
    async fn programs_of_who_has_not_signed_in_at_the_provider_for_long_do_nothing_until_they_do() {
        let (dir, store) = fresh().await;
        let access = access(dir.path(), &store, Duration::from_millis(200));
        let name = "olga".parse().unwrap();
        let role = Role::Operator.into();
        let olga = Outside { source: Source::Oidc, subject: "1", name: &name, tenant: TenantId::DEFAULT, role };
        let Welcome::As(user, _) = store.welcome(olga).await.unwrap() else { panic!("not welcome") };
        let token = Token::for_programs();
        let expires = Timestamp::now() + Duration::from_secs(600);
        let new = NewToken { user, name: "x", hash: &token.hash(), permissions: None, expires };
        store.add_token(new).await.unwrap().unwrap();
        let may = async || {
            let who = access.by_bearer(token.expose()).await.unwrap().unwrap();
            who.may_somewhere(Permission::PageOpen)
        };
        assert!(may().await, "just vouched for");
        let stop = CancellationToken::new();
        let mut watching = JoinSet::new();
        watching.spawn(access.clone().watch_provider(stop.clone()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while may().await {
            assert!(Instant::now() < deadline, "believed for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
        watching.join_all().await;
        store.welcome(olga).await.unwrap();
        assert!(may().await, "they have signed in again");
    }
}
