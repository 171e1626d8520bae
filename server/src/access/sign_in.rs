//! Signing in: a name and a password, then the second factor where there is one, then a session.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_protocol::id::Secret;

use super::second_factor::CodeError;
use super::{Access, Inner, PasswordError, Principal, SessionId, SessionKind, Token};
use crate::rights::UserId;
use crate::store::{LoginFound, NewSession, Source, StoreError, UserName};

/// Time between the password and the code.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(10 * 60);

/// Who is at the other end, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What the program calls itself.
    pub agent: Option<&'a str>,
}

/// An attempt to sign in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The name as typed.
    pub name: &'a str,
    /// The password as typed.
    pub password: &'a Secret,
    /// The code of the second factor, if one was given.
    pub code: Option<&'a str>,
    /// What is asked for.
    pub kind: SessionKind,
    /// Where it comes from.
    pub caller: Caller<'a>,
}

impl<'a> Attempt<'a> {
    /// With name and password alone, from nowhere in particular.
    pub fn new(name: &'a str, password: &'a Secret, kind: SessionKind) -> Self {
        Self { name, password, code: None, kind, caller: Caller::default() }
    }
}

/// What an attempt brought.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Opens the session; shown once.
    pub token: Token,
    /// When the session ends at the latest.
    pub expires: Timestamp,
    pub(super) user: UserId,
    pub(super) session: SessionId,
}

/// What a right name and password brought in a browser.
#[derive(Clone, Debug)]
pub(crate) enum FirstStep {
    /// A session.
    Done(SignedIn),
    /// The code of the second factor is needed; the token stands for what has been shown so far.
    Code(Token),
    /// A second factor is required and there is none: it has to be set up first.
    SetUp(Token),
}

/// A person whose password was right.
#[derive(Clone, Debug)]
pub(crate) struct Recognised {
    pub(crate) user: UserId,
    pub(crate) name: String,
}

/// Why an attempt brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Name or password; which of the two is not said.
    #[error("name or password is wrong")]
    Wrong,
    /// The password is right, and a code is needed too.
    #[error("the code of your second factor is needed as well")]
    CodeNeeded,
    /// The code is wrong, too old, or was used before.
    #[error("the code is wrong, or was used before")]
    WrongCode,
    /// The password is right, and the person must set up a second factor before anything else.
    #[error("a second factor is required here; sign in to the console once, and set it up there")]
    SetUpNeeded,
    /// What the first step brought is not good any more.
    #[error("this took too long, or too many codes were wrong; begin again")]
    Stale,
    /// Too many wrong ones came before it.
    #[error("too many attempts; try again in {} s", .0.as_secs().max(1))]
    Slow(Duration),
    /// Too many are signing in at once.
    #[error("too many are signing in at once; try again in a moment")]
    Busy,
    /// The directory does not answer, so that nobody can say whether it would have been right.
    #[error(
        "name or password is wrong, or your organisation's directory is needed, which does not answer now; try again in a moment"
    )]
    DirectorySilent,
    /// The password cannot be checked.
    #[error(transparent)]
    Password(PasswordError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PasswordError> for SignInError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            other => Self::Password(other),
        }
    }
}

impl From<CodeError> for SignInError {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Wrong => Self::WrongCode,
            CodeError::Slow(wait) => Self::Slow(wait),
            CodeError::Store(error) => Self::Store(error),
        }
    }
}

impl Access {
    /// Checks name, password and, where the person has a second factor, its code; then begins a session.
    pub async fn sign_in(&self, attempt: Attempt<'_>) -> Result<SignedIn, SignInError> {
        let who = self.recognise(&attempt).await?;
        match (self.has_second_factor(who.user).await?, attempt.code) {
            (true, Some(code)) => self.check_code(&who, code).await?,
            (true, None) => return Err(SignInError::CodeNeeded),
            (false, _) if self.must_have_second_factor(who.user).await? => return Err(SignInError::SetUpNeeded),
            (false, _) => {}
        }
        self.begin(who.user, attempt.kind, attempt.caller).await
    }

    /// Checks name and password, and says what is still needed.
    pub(crate) async fn first_step(&self, attempt: Attempt<'_>) -> Result<FirstStep, SignInError> {
        let who = self.recognise(&attempt).await?;
        let has = self.has_second_factor(who.user).await?;
        if !has && !self.must_have_second_factor(who.user).await? {
            return self.begin(who.user, attempt.kind, attempt.caller).await.map(FirstStep::Done);
        }
        let token = Token::random();
        self.inner.store.add_half_sign_in(who.user, &token.hash(), Timestamp::now() + HALF_LIFE).await?;
        Ok(if has { FirstStep::Code(token) } else { FirstStep::SetUp(token) })
    }

    /// Who waits with the token of the first step.
    pub(crate) async fn half_signed_in(&self, half: &Token) -> Result<Option<Recognised>, StoreError> {
        let found = self.inner.store.half_sign_in(&half.hash()).await?;
        Ok(found.map(|(user, name)| Recognised { user, name }))
    }

    /// Checks the code after the first step, and begins a session.
    pub(crate) async fn second_step(
        &self,
        half: &Token,
        code: &str,
        caller: Caller<'_>,
    ) -> Result<SignedIn, SignInError> {
        let who = self.half_signed_in(half).await?.ok_or(SignInError::Stale)?;
        if !self.has_second_factor(who.user).await? || !self.inner.store.try_half_sign_in(&half.hash()).await? {
            return Err(SignInError::Stale);
        }
        self.check_code(&who, code).await?;
        self.complete(half, &who, caller).await
    }

    /// Begins the session of a browser that has shown all that is needed, once.
    pub(crate) async fn complete(
        &self,
        half: &Token,
        who: &Recognised,
        caller: Caller<'_>,
    ) -> Result<SignedIn, SignInError> {
        if !self.inner.store.end_half_sign_in(&half.hash()).await? {
            return Err(SignInError::Stale);
        }
        self.begin(who.user, SessionKind::Console, caller).await
    }

    /// Checks name and password.
    pub(super) async fn recognise(&self, attempt: &Attempt<'_>) -> Result<Recognised, SignInError> {
        let name: Option<UserName> = attempt.name.trim().parse().ok();
        let person = name.as_ref().map_or("", UserName::as_str);
        self.admit(person, attempt.caller.address).await?;
        let begun = Instant::now();
        let recognised = self.recognise_name(name.as_ref(), attempt.password).await;
        let recognised = self.paced(begun, recognised).await?;
        self.forgive(person, attempt.caller.address).await;
        Ok(recognised)
    }

    /// An account here comes first, so that no directory can stand in its way or in its place.
    async fn recognise_name(&self, name: Option<&UserName>, password: &Secret) -> Result<Recognised, SignInError> {
        let Inner { store, passwords, directory, .. } = &*self.inner;
        let known = match name {
            Some(name) => store.user_for_login(name).await?,
            None => None,
        };
        let is_theirs = known.as_ref().is_none_or(|known| known.source == Source::Ldap);
        if let (Some(name), Some(directory), true) = (name, directory, is_theirs) {
            return self.by_directory(directory, name, password).await;
        }
        let kept = known.as_ref().filter(|known| known.source == Source::Local);
        let right = passwords.check(password, kept.and_then(|known| known.password.clone())).await?;
        match (name, known) {
            (Some(name), Some(LoginFound { user, .. })) if right => {
                Ok(Recognised { user, name: name.as_str().to_owned() })
            }
            _ => Err(SignInError::Wrong),
        }
    }

    /// Begins a session.
    pub(super) async fn begin(
        &self,
        user: UserId,
        kind: SessionKind,
        caller: Caller<'_>,
    ) -> Result<SignedIn, SignInError> {
        self.begin_for(user, kind, caller, self.inner.times.session_lifetime).await
    }

    /// Begins a session that ends after so long.
    pub(super) async fn begin_for(
        &self,
        user: UserId,
        kind: SessionKind,
        caller: Caller<'_>,
        lifetime: Duration,
    ) -> Result<SignedIn, SignInError> {
        let (token, expires) = (Token::random(), Timestamp::now() + lifetime);
        let (hash, Caller { address, agent }) = (token.hash(), caller);
        let new = NewSession { kind, token: &hash, expires, address, agent };
        let session = self.inner.store.add_session(user, new).await?;
        Ok(SignedIn { token, expires, user, session })
    }

    /// Ends the session that a browser had before it signed in anew. The same person's pages in other tabs stay signed
    /// in, under the new session; another person's do not.
    pub async fn replace(&self, before: &Principal, by: &SignedIn) -> Result<(), StoreError> {
        if before.user != by.user {
            return self.sign_out(before).await;
        }
        let Some(session) = before.session() else { return Ok(()) };
        self.inner.store.succeed_session(session, by.session).await
    }

    /// Ends a session, with the cookies that devices' hosts were given from it. What is no session does not end so.
    pub async fn sign_out(&self, who: &Principal) -> Result<(), StoreError> {
        match who.session() {
            Some(session) => self.inner.store.end_session(session).await,
            None => Ok(()),
        }
    }

    /// Counts an attempt before it is looked at. What a restart must not forgive is written down.
    pub(super) async fn admit(&self, person: &str, address: Option<IpAddr>) -> Result<(), SignInError> {
        let counted = self.inner.throttle.admit(person, address, Instant::now()).map_err(SignInError::Slow)?;
        self.keep(counted).await;
        Ok(())
    }

    pub(super) async fn forgive(&self, person: &str, address: Option<IpAddr>) {
        let kept = self.inner.throttle.forgive(person, address);
        if !kept.is_empty()
            && let Err(error) = self.inner.store.forget_failures(&kept).await
        {
            tracing::error!(error = error.in_full(), "wrong attempts to sign in are not forgotten");
        }
    }
}
