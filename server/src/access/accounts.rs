//! Accounts: choosing and changing passwords, links for one use, and a person's sessions.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::id::Secret;

use super::password_rules::{Context, WeakPassword, judge};
use super::{Access, Attempt, Inner, PasswordError, Principal, SessionId, SessionKind, SignInError, Token};
use crate::rights::{Given, Permission, Target, UserId};
use crate::store::{LinkFor, LinkedPerson, MadeBy, SessionListed, Source, StoreError, User, UserName};

/// How long the link for the first account is good: the start of the server is read at once, or never.
pub const FIRST_LINK_LIFE: Duration = Duration::from_hours(1);
/// How long a link to choose a password is good: it has to find its reader.
pub const PASSWORD_LINK_LIFE: Duration = Duration::from_hours(24);

/// Why a password was not chosen or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// It is too easy to guess, or too long.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// The link was used, has expired, or never was.
    #[error("this link has been used or has expired; ask for a new one")]
    LinkUsed,
    /// Somebody else keeps this person's password.
    #[error("this password is not kept here: change it where it is")]
    NotHere,
    /// The present password or code is not right, or there were too many attempts.
    #[error(transparent)]
    NotYou(#[from] SignInError),
}

impl From<StoreError> for ChooseError {
    fn from(error: StoreError) -> Self {
        Self::NotYou(error.into())
    }
}

impl From<PasswordError> for ChooseError {
    fn from(error: PasswordError) -> Self {
        Self::NotYou(error.into())
    }
}

impl Access {
    /// A link to choose a password, for somebody whose password is kept here; earlier ones are void. None if it is not.
    /// Who makes it is nobody in particular for the command line.
    pub async fn password_link(
        &self,
        user: &User,
        made_by: Option<UserId>,
    ) -> Result<Option<(Token, Timestamp)>, StoreError> {
        if user.source != Source::Local {
            return Ok(None);
        }
        let (token, until) = (Token::random(), Timestamp::now() + PASSWORD_LINK_LIFE);
        self.inner.store.add_password_link(user.id, (&token.hash(), until), made_by).await?;
        Ok(Some((token, until)))
    }

    /// What a link is for, if it is still good. Looking does not use it up: programs that look at links before people do
    /// would.
    pub(crate) async fn link(&self, token: &Token) -> Result<Option<LinkFor>, StoreError> {
        let link = self.inner.store.link(&token.hash()).await?;
        match link {
            Some(LinkFor::Password(person)) if !self.may_reset(&person).await? => Ok(None),
            link => Ok(link),
        }
    }

    /// Whether who made a link may still make it: since then they may have lost the right, or the person may have become
    /// more than they are.
    async fn may_reset(&self, person: &LinkedPerson) -> Result<bool, StoreError> {
        let LinkedPerson { user, tenant, made_by, .. } = person;
        let (from, by) = match made_by {
            MadeBy::CommandLine => return Ok(true),
            MadeBy::Person(_, by) if by == user => return Ok(true),
            MadeBy::Person(from, by) => (*from, *by),
            MadeBy::Nobody => return Ok(false),
        };
        let (store, now) = (&self.inner.store, Timestamp::now());
        let (maker, theirs) = (store.rights(from, by).await?, store.rights(*tenant, *user).await?);
        let gives = |given: &Given| maker.may_give(*tenant, (given.permissions, &given.scope, &given.when), now);
        Ok(maker.may(Permission::PeopleEdit, &Target::Tenant(*tenant), now) && theirs.given.iter().all(gives))
    }

    /// Makes the first account, an admin's, with the link that the start of the server has shown.
    pub(crate) async fn make_first_account(
        &self,
        token: &Token,
        name: &UserName,
        password: &Secret,
        site: &str,
    ) -> Result<(), ChooseError> {
        let Inner { store, passwords, .. } = &*self.inner;
        judge(password, &Context { name: name.as_str(), site })?;
        if store.link(&token.hash()).await? != Some(LinkFor::FirstAccount) {
            return Err(ChooseError::LinkUsed);
        }
        let hash = passwords.hash(password).await?;
        store.make_first_account(&token.hash(), name, &hash).await?.map(|_| ()).ok_or(ChooseError::LinkUsed)
    }

    /// Chooses a password with a link; all sessions of the person end.
    pub(crate) async fn choose_password(
        &self,
        token: &Token,
        password: &Secret,
        site: &str,
    ) -> Result<(), ChooseError> {
        let Inner { store, passwords, .. } = &*self.inner;
        let Some(LinkFor::Password(person)) = self.link(token).await? else { return Err(ChooseError::LinkUsed) };
        judge(password, &Context { name: &person.name, site })?;
        let hash = passwords.hash(password).await?;
        // Hashing takes its time.
        if !self.may_reset(&person).await? {
            return Err(ChooseError::LinkUsed);
        }
        store.choose_password(&token.hash(), &hash).await?.ok_or(ChooseError::LinkUsed)?;
        Ok(())
    }

    /// Changes a person's password; all their sessions but this one end.
    pub(crate) async fn change_password(
        &self,
        who: &Principal,
        present: &Secret,
        new: &Secret,
        site: &str,
    ) -> Result<(), ChooseError> {
        let kept = match who.name.parse() {
            Ok(name) => self.inner.store.user_for_login(&name).await?,
            Err(_) => None,
        };
        if kept.is_none_or(|kept| kept.source != Source::Local) {
            return Err(ChooseError::NotHere);
        }
        self.check_own_password(who, present).await?;
        judge(new, &Context { name: &who.name, site })?;
        let hash = self.inner.passwords.hash(new).await?;
        if !self.inner.store.put_password(who.user, &hash, who.session()).await? {
            return Err(ChooseError::NotHere);
        }
        Ok(())
    }

    /// Whether this is the password of the person who is signed in: asked again before what a lost session must not do.
    pub(crate) async fn check_own_password(&self, who: &Principal, password: &Secret) -> Result<(), ChooseError> {
        let attempt = Attempt::new(&who.name, password, SessionKind::Console);
        match self.recognise(&attempt).await {
            Ok(recognised) if recognised.user == who.user => Ok(()),
            Ok(_) => Err(SignInError::Wrong.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// A person's sessions, the one used last first.
    pub async fn sessions(&self, user: UserId) -> Result<Vec<SessionListed>, StoreError> {
        self.inner.store.sessions(user, self.inner.times.session_idle).await
    }

    /// Ends one session of a person; false if they have none of that name.
    pub async fn end_session(&self, user: UserId, session: SessionId) -> Result<bool, StoreError> {
        self.inner.store.end_session_of(user, session).await
    }

    /// Ends all sessions of a person but one; how many there were.
    pub async fn end_sessions(&self, user: UserId, but: Option<SessionId>) -> Result<u64, StoreError> {
        self.inner.store.end_sessions_of(user, but).await
    }

    /// How many recovery codes a person has left.
    pub(crate) async fn recovery_codes_left(&self, user: UserId) -> Result<i64, StoreError> {
        self.inner.store.recovery_codes_left(user).await
    }

    /// The person themselves gives the second factor up; sessions elsewhere end.
    pub(crate) async fn give_up_second_factor(&self, who: &Principal) -> Result<(), StoreError> {
        self.inner.store.remove_second_factor(who.user).await?;
        self.end_sessions(who.user, who.session()).await.map(|_| ())
    }

    /// Takes the second factor from somebody who has lost it; their sessions end.
    pub async fn remove_second_factor(&self, user: UserId) -> Result<bool, StoreError> {
        let removed = self.inner.store.remove_second_factor(user).await?;
        self.end_sessions(user, None).await?;
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::access::tests::{PASSWORD, sign_in, with_people};

    const NEW: &str = "a much better horse";

    async fn otto(access: &Access) -> (Token, Principal) {
        let token = sign_in(access, "otto", SessionKind::Api).await;
        let who = access.by_bearer(token.expose()).await.unwrap().unwrap();
        (token, who)
    }

    #[tokio::test]
    async fn a_change_of_password_ends_all_other_sessions() {
        let (_dir, _store, access) = with_people().await;
        let (other, _) = otto(&access).await;
        let (mine, who) = otto(&access).await;
        let (old, new) = (Secret::new(PASSWORD), Secret::new(NEW));
        let wrong = access.change_password(&who, &new, &new, "c.test").await;
        assert!(matches!(wrong, Err(ChooseError::NotYou(SignInError::Wrong))), "{wrong:?}");
        let weak = access.change_password(&who, &old, &Secret::new("password1"), "c.test").await;
        assert!(matches!(weak, Err(ChooseError::Weak(_))), "{weak:?}");
        access.change_password(&who, &old, &new, "c.test").await.unwrap();
        assert!(access.by_bearer(other.expose()).await.unwrap().is_none());
        assert!(access.by_bearer(mine.expose()).await.unwrap().is_some());
        assert!(matches!(access.sign_in(Attempt::new("otto", &old, SessionKind::Api)).await, Err(SignInError::Wrong)));
        access.sign_in(Attempt::new("otto", &new, SessionKind::Api)).await.unwrap();
    }

    #[tokio::test]
    async fn a_link_is_looked_at_often_and_used_once() {
        let (_dir, store, access) = with_people().await;
        let (session, _) = otto(&access).await;
        let user = store.person(&"otto".parse().unwrap()).await.unwrap().unwrap();
        let (token, _) = access.password_link(&user, None).await.unwrap().unwrap();
        for _ in 0..3 {
            assert!(
                matches!(access.link(&token).await.unwrap(), Some(LinkFor::Password(person)) if person.name == "otto")
            );
        }
        assert!(access.by_bearer(session.expose()).await.unwrap().is_some(), "nothing has happened yet");
        let weak = access.choose_password(&token, &Secret::new("otto-1234"), "c.test").await;
        assert!(matches!(weak, Err(ChooseError::Weak(_))), "{weak:?}");
        access.choose_password(&token, &Secret::new(NEW), "c.test").await.unwrap();
        assert!(access.by_bearer(session.expose()).await.unwrap().is_none(), "all sessions have ended");
        let again = access.choose_password(&token, &Secret::new(NEW), "c.test").await;
        assert!(matches!(again, Err(ChooseError::LinkUsed)), "{again:?}");
    }

    #[tokio::test]
    async fn a_link_is_good_as_long_as_its_maker_may_make_it() {
        let (_dir, store, access) = with_people().await;
        let [anna, otto] = ["anna", "otto"].map(|name| name.parse().unwrap());
        let anna = store.person(&anna).await.unwrap().unwrap();
        let person = store.person(&otto).await.unwrap().unwrap();
        // The last ones keep what they have.
        for (name, role) in [("boss", Role::Admin), ("root", Role::SystemAdmin)] {
            store.add_user(&name.parse().unwrap(), role, "h").await.unwrap().unwrap();
        }
        let role = |of: UserId, role: Role| store.set_role(of, Some(role.into()), "test");
        let (token, _) = access.password_link(&person, Some(anna.id)).await.unwrap().unwrap();
        assert!(access.link(&token).await.unwrap().is_some());
        role(person.id, Role::SystemAdmin).await.unwrap();
        assert_eq!(access.link(&token).await.unwrap(), None, "above the maker by now");
        let chosen = access.choose_password(&token, &Secret::new(NEW), "c.test").await;
        assert!(matches!(chosen, Err(ChooseError::LinkUsed)), "{chosen:?}");
        role(person.id, Role::Operator).await.unwrap();
        assert!(access.link(&token).await.unwrap().is_some());
        role(anna.id, Role::Technician).await.unwrap();
        assert_eq!(access.link(&token).await.unwrap(), None, "the maker looks after nobody any more");
        store.remove_user(&"anna".parse().unwrap()).await.unwrap();
        assert_eq!(access.link(&token).await.unwrap(), None, "the maker is gone");
    }

    #[tokio::test]
    async fn sessions_are_seen_and_ended_by_their_owner_alone() {
        let (_dir, _store, access) = with_people().await;
        let (token, who) = otto(&access).await;
        let anna = sign_in(&access, "anna", SessionKind::Api).await;
        let anna = access.by_bearer(anna.expose()).await.unwrap().unwrap();
        assert_eq!(access.sessions(who.user).await.unwrap().len(), 1);
        assert!(!access.end_session(anna.user, who.session().unwrap()).await.unwrap());
        assert!(access.end_session(who.user, who.session().unwrap()).await.unwrap());
        assert!(access.by_bearer(token.expose()).await.unwrap().is_none());
    }
}
