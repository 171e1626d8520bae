//! People of a directory in the server: signing in, being disabled, and an admin of our own whom it never stands in the way
//! of.

use std::time::{Duration, Instant};

use linkspan_protocol::id::Secret;
use linkspan_server::access::directory::Directory;
use linkspan_server::access::{Access, Attempt, Means, Passwords, Permission, Role, SessionKind, SignInError, Vault};
use linkspan_server::audit::{Audit, Row};
use linkspan_server::config::{self, Ldap};
use linkspan_server::store::{AuditSearch, Source, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::slapd::{PASSWORD, Slapd};

const OWN: &str = "the admin's own password";

struct House {
    store: Store,
    access: Access,
    directory: Directory,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

async fn house(settings: Ldap) -> House {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
    let hash = Passwords::default().hash(&Secret::new(OWN)).await.unwrap();
    store.add_user(&"admin".parse().unwrap(), Role::SystemAdmin, &hash).await.unwrap().unwrap();
    let audit = Audit::start(store.clone());
    let directory = Directory::new(settings).unwrap();
    let means =
        Means { vault: Vault::forgetful(), directory: Some(directory.clone()), provider: None, audit: Some(audit) };
    let access = Access::with(store.clone(), config::Access::default(), means);
    let mut tasks = JoinSet::new();
    tasks.spawn(access.clone().watch_directory(CancellationToken::new()));
    House { store, access, directory, _tasks: tasks, _dir: dir }
}

async fn sign_in(house: &House, name: &str, password: &str) -> Result<String, SignInError> {
    let password = Secret::new(password);
    let signed_in = house.access.sign_in(Attempt::new(name, &password, SessionKind::Api)).await?;
    Ok(signed_in.token.expose().to_owned())
}

async fn until_out(house: &House, token: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while house.access.by_bearer(token).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "still signed in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the directory decides about somebody stands in the audit.
async fn until_noted(house: &House, name: &str, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let search = AuditSearch { action: Some("person.change".into()), ..AuditSearch::default() };
    loop {
        let rows = house.store.audit_after(&search, 0, 100).await.unwrap();
        let fits = |row: &Row| row.record.target.as_deref() == Some(name) && row.record.details.contains(text);
        if rows.iter().any(fits) {
            return;
        }
        assert!(Instant::now() < deadline, "{name}, {text}: not noted down: {rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_is_disabled_or_leaves_is_out_and_a_new_role_counts() {
    let slapd = Slapd::start();
    let house = house(slapd.settings()).await;
    let anna = sign_in(&house, "anna", PASSWORD).await.unwrap();
    let john = sign_in(&house, "john", PASSWORD).await.unwrap();
    let who = house.access.by_bearer(&anna).await.unwrap().unwrap();
    assert!(who.may_here(Permission::PeopleEdit));
    let kept = house.store.person(&"anna".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((kept.source, kept.role.as_deref()), (Source::Ldap, Some("admin")));

    slapd.change(
        "dn: uid=anna,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: pwdAccountLockedTime\n\
         pwdAccountLockedTime: 000001010000Z\n",
    );
    until_out(&house, &anna).await;
    until_noted(&house, "anna", "let_in\":false").await;
    assert!(matches!(sign_in(&house, "anna", PASSWORD).await, Err(SignInError::Wrong)));
    assert!(house.access.by_bearer(&john).await.unwrap().is_some(), "the others stay");

    slapd.change(
        "dn: cn=admins,ou=groups,dc=example,dc=com\nchangetype: modify\nadd: member\n\
         member: cn=Smith\\2C John \\2B \\22Jack\\22 (night) *,ou=people,dc=example,dc=com\n",
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while !house.access.by_bearer(&john).await.unwrap().unwrap().may_here(Permission::PeopleEdit) {
        assert!(Instant::now() < deadline, "the new group does not count");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_noted(&house, "john", "role\":\"admin").await;
    slapd.change("dn: cn=Smith\\2C John \\2B \\22Jack\\22 (night) *,ou=people,dc=example,dc=com\nchangetype: delete\n");
    until_out(&house, &john).await;

    slapd.change("dn: uid=anna,ou=people,dc=example,dc=com\nchangetype: modify\ndelete: pwdAccountLockedTime\n");
    sign_in(&house, "anna", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn the_admin_here_comes_in_whatever_the_directory_does() {
    let mut slapd = Slapd::start();
    let house = house(slapd.settings()).await;
    let anna = sign_in(&house, "anna", PASSWORD).await.unwrap();
    assert!(sign_in(&house, "admin", PASSWORD).await.is_err(), "nor does the directory's password open this account");
    slapd.pause();
    let begun = Instant::now();
    sign_in(&house, "admin", OWN).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "not slowed: {:?}", begun.elapsed());
    let told = sign_in(&house, "otto", PASSWORD).await.unwrap_err();
    assert!(matches!(told, SignInError::DirectorySilent), "{told}");
    let told = sign_in(&house, "admin", "wrong").await.unwrap_err();
    assert!(matches!(told, SignInError::DirectorySilent), "who has an account here is not told by this");
    slapd.go_on();
    slapd.kill();
    sign_in(&house, "admin", OWN).await.unwrap();
    assert!(house.access.by_bearer(&anna).await.unwrap().is_some(), "for a while people stay signed in");
}

#[tokio::test]
async fn when_it_is_gone_for_too_long_its_people_are_out() {
    let mut slapd = Slapd::start();
    let house = house(Ldap { grace: Duration::from_millis(600), ..slapd.settings() }).await;
    let anna = sign_in(&house, "anna", PASSWORD).await.unwrap();
    slapd.kill();
    until_out(&house, &anna).await;
    let own = sign_in(&house, "admin", OWN).await.unwrap();
    assert!(house.access.by_bearer(&own).await.unwrap().is_some());
}

/// Also where it is hardly ever asked by itself: whoever shows up and has not been asked for just now is asked for first.
#[tokio::test]
async fn who_was_disabled_gets_nothing_new_however_seldom_the_directory_is_looked_through() {
    let slapd = Slapd::start();
    let house = house(Ldap { recheck: Duration::from_hours(1), ..slapd.settings() }).await;
    let anna = sign_in(&house, "anna", PASSWORD).await.unwrap();
    slapd.change(
        "dn: uid=anna,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: pwdAccountLockedTime\n\
         pwdAccountLockedTime: 000001010000Z\n",
    );
    until_out(&house, &anna).await;
}

/// What nobody can be asked about does not count: programs of people whose directory is gone may do nothing.
#[tokio::test]
async fn without_a_directory_its_people_are_out() {
    let slapd = Slapd::start();
    let house = house(slapd.settings()).await;
    let anna = sign_in(&house, "anna", PASSWORD).await.unwrap();
    let without = Access::new(house.store.clone(), config::Access::default());
    assert!(without.by_bearer(&anna).await.unwrap().is_some());
    without.clone().watch_directory(CancellationToken::new()).await;
    assert!(without.by_bearer(&anna).await.unwrap().is_none());
    sign_in(&house, "anna", PASSWORD).await.unwrap();
}

/// While nobody knows whether the directory would have said yes, a wrong password of an account here is answered like one of
/// the directory's, also after the time in which it is taken for silent.
#[tokio::test]
async fn a_directory_that_is_down_tells_nobody_who_has_an_account_here() {
    let mut slapd = Slapd::start();
    let house = house(slapd.settings()).await;
    slapd.kill();
    assert!(matches!(sign_in(&house, "otto", PASSWORD).await, Err(SignInError::DirectorySilent)));
    let told = sign_in(&house, "admin", "wrong").await.unwrap_err();
    assert!(matches!(told, SignInError::DirectorySilent), "{told}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while house.directory.is_silent() {
        assert!(Instant::now() < deadline, "silent for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = sign_in(&house, "admin", "wrong").await.unwrap_err();
    assert!(matches!(told, SignInError::DirectorySilent), "{told}");
    sign_in(&house, "admin", OWN).await.unwrap();
}

#[tokio::test]
async fn nobody_learns_by_the_clock_who_is_in_the_directory() {
    let slapd = Slapd::start();
    let house = house(slapd.settings()).await;
    for name in ["anna", "unknown", "nobody", "admin"] {
        let begun = Instant::now();
        assert!(matches!(sign_in(&house, name, "wrong password").await, Err(SignInError::Wrong)), "{name}");
        assert!(begun.elapsed() >= Duration::from_millis(250), "{name}: told at once");
    }
}
