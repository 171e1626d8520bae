//! People of a directory, against a real OpenLDAP server: who comes in and with which role, who does not, and what happens
//! when it is down, slow, or lies. Threat 18.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is not as it should be")]

mod liar;
mod people;
mod slapd;

use std::time::{Duration, Instant};

use linkspan_protocol::id::Secret;
use linkspan_server::access::directory::{Directory, DirectoryError, Found};
use linkspan_server::config::Nested;

use slapd::{PASSWORD, Slapd};

fn role(found: Option<&Found>) -> Option<&str> {
    found?.role.as_ref().map(|role| role.role.as_str())
}

async fn sign_in(directory: &Directory, name: &str, password: &str) -> Result<Option<Found>, DirectoryError> {
    directory.sign_in(&name.parse().unwrap(), &Secret::new(password)).await
}

#[tokio::test]
async fn groups_make_the_role_and_groups_in_groups_count_where_that_is_wanted() {
    let slapd = Slapd::start();
    for (nested, otto) in [(Nested::No, None), (Nested::Walk, Some("operator"))] {
        let directory = Directory::new(linkspan_server::config::Ldap { nested, ..slapd.settings() }).unwrap();
        directory.ping().await.unwrap();
        let anna = sign_in(&directory, "anna", PASSWORD).await.unwrap();
        assert_eq!(role(anna.as_ref()), Some("admin"));
        assert!(anna.unwrap().subject.starts_with("entryUUID:"));
        // A circle of groups ends by itself.
        let found = sign_in(&directory, "otto", PASSWORD).await.unwrap();
        assert_eq!(role(found.as_ref()), otto, "{nested:?}");
        let special = sign_in(&directory, "john", PASSWORD).await.unwrap();
        assert_eq!(role(special.as_ref()), Some("operator"), "commas, quotes and stars in a name");
        assert_eq!(sign_in(&directory, "nobody", PASSWORD).await.unwrap(), None, "in no group");
        assert_eq!(sign_in(&directory, "twin", PASSWORD).await.unwrap(), None, "two people of one name");
        for wrong in ["wrong password", " ", "*", &PASSWORD.to_uppercase()] {
            assert_eq!(sign_in(&directory, "anna", wrong).await.unwrap(), None, "{wrong}");
        }
    }
}

#[tokio::test]
async fn without_a_password_nobody_is_asked_for() {
    let mut slapd = Slapd::start();
    let directory = Directory::new(slapd.settings()).unwrap();
    // Whoever was asked would have to say that they are not there.
    slapd.kill();
    for empty in ["", "\0", "\0password", "pass\0word"] {
        assert_eq!(sign_in(&directory, "anna", empty).await, Ok(None), "{empty:?}");
    }
}

#[tokio::test]
async fn thirty_names_that_are_filters_find_nobody() {
    let slapd = Slapd::start();
    let directory = Directory::new(slapd.settings()).unwrap();
    let evil = [
        "*",
        "a*",
        "*)(uid=*",
        "anna)(uid=*",
        "*)(uid=*))(|(uid=*",
        "anna*",
        "*anna",
        "(anna)",
        "anna)",
        ")",
        "(",
        "\\",
        "\\2a",
        "anna\\2a",
        "*)(objectClass=*",
        "anna)(|(objectClass=*)",
        "anna\0",
        "\0",
        "anna)\0",
        "&",
        "|",
        "!",
        "anna)(!(uid=x)",
        "anna,ou=people,dc=example,dc=com",
        "uid=anna",
        "a=*)",
        "*)(|(member=*",
        "anna))%00",
        "ann\u{0430}",
        "../anna",
    ];
    assert_eq!(evil.len(), 30);
    for name in evil {
        assert_eq!(directory.look_up(name).await, Ok(None), "{name:?}");
    }
    assert!(directory.look_up("anna").await.unwrap().is_some());
}

#[tokio::test]
async fn a_certificate_is_looked_at_in_both_ways_of_encryption() {
    let slapd = Slapd::start();
    for (url, start_tls) in [(slapd.ldaps(), false), (slapd.start_tls(), true)] {
        let with = |ca_file| {
            let settings = linkspan_server::config::Ldap {
                urls: vec![url.clone()],
                start_tls,
                ca_file: Some(ca_file),
                ..slapd.settings()
            };
            Directory::new(settings).unwrap()
        };
        let found = sign_in(&with(slapd.ca_file()), "anna", PASSWORD).await.unwrap();
        assert_eq!(role(found.as_ref()), Some("admin"), "{url}");
        let refused = with(slapd.other_ca_file()).ping().await;
        assert!(matches!(refused, Err(DirectoryError::Silent(_))), "{url}: {refused:?}");
        let by_address = linkspan_server::config::Ldap {
            urls: vec![url.replace("localhost", "127.0.0.1")],
            start_tls,
            ca_file: Some(slapd.ca_file()),
            ..slapd.settings()
        };
        assert!(Directory::new(by_address).unwrap().ping().await.is_err(), "the certificate names another host");
    }
}

#[tokio::test]
async fn down_and_slow_are_told_within_the_deadline_and_the_next_server_is_asked() {
    let (mut slapd, other) = (Slapd::start(), Slapd::start());
    let directory = Directory::new(slapd.settings()).unwrap();
    slapd.pause();
    let begun = Instant::now();
    assert!(matches!(directory.ping().await, Err(DirectoryError::Silent(_))));
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(directory.ping().await.is_err() && begun.elapsed() < Duration::from_secs(1), "nobody waits again at once");
    slapd.go_on();
    slapd.kill();
    let urls = [slapd.settings().urls, other.settings().urls].concat();
    let both = Directory::new(linkspan_server::config::Ldap { urls, ..other.settings() }).unwrap();
    both.ping().await.unwrap();
    slapd.restart();
    Directory::new(slapd.settings()).unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_service_account_that_is_refused_is_told_so() {
    let slapd = Slapd::start();
    let settings = slapd.settings();
    std::fs::write(&settings.bind_password_file, "wrong").unwrap();
    let told = Directory::new(settings).unwrap().ping().await.unwrap_err();
    assert!(matches!(&told, DirectoryError::Refuses(why) if why.contains("service account")), "{told}");
    let settings = slapd.settings();
    std::fs::write(&settings.bind_password_file, "\n").unwrap();
    assert!(Directory::new(settings).is_err(), "an empty password is refused before anybody is asked");
}
