//! A directory that lies: it says yes to every bind, and answers every search with whomever it likes.

use std::time::Duration;

use linkspan_server::access::directory::{Directory, DirectoryError};
use linkspan_server::config::{GroupRole, Ldap};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::sign_in;
use crate::slapd::{PASSWORD, Slapd};

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;

/// Answers with these entries, by their names.
async fn lie(listener: TcpListener, entries: Vec<&'static str>) {
    let mut all = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let entries = entries.clone();
        all.spawn(async move { drop(talk(stream, &entries).await) });
    }
}

async fn talk(mut stream: TcpStream, entries: &[&str]) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let got = stream.read(&mut buffer).await?;
        if got == 0 {
            return Ok(());
        }
        // A message of less than 128 bytes: 30 LENGTH 02 01 ID OPERATION; a longer one has one or two more of length.
        let skip = if buffer[1] < 0x80 { 2 } else { 2 + usize::from(buffer[1] & 0x7f) };
        let (id, operation) = (buffer[skip + 2], buffer[skip + 3]);
        let message = |operation: u8, body: &[u8]| {
            let inner = [&[2, 1, id, operation, u8::try_from(body.len()).unwrap()], body].concat();
            [&[0x30, u8::try_from(inner.len()).unwrap()], inner.as_slice()].concat()
        };
        let success = [0x0a, 1, 0, 4, 0, 4, 0];
        match operation {
            BIND => stream.write_all(&message(0x61, &success)).await?,
            SEARCH => {
                for name in entries {
                    let body = [&[4, u8::try_from(name.len()).unwrap()], name.as_bytes(), &[0x30, 0]].concat();
                    stream.write_all(&message(0x64, &body)).await?;
                }
                stream.write_all(&message(0x65, &success)).await?;
            }
            _ => return Ok(()),
        }
    }
}

async fn liar(entries: &[&'static str]) -> (JoinSet<()>, Directory, Slapd) {
    let slapd = Slapd::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = vec![format!("ldap://{}", listener.local_addr().unwrap())];
    let mut tasks = JoinSet::new();
    tasks.spawn(lie(listener, entries.to_vec()));
    let everybody = GroupRole { group: "*".into(), role: "admin".into(), tenant: "default".parse().unwrap() };
    let directory = Directory::new(Ldap { urls, roles: vec![everybody], ..slapd.settings() }).unwrap();
    (tasks, directory, slapd)
}

#[tokio::test]
async fn yes_to_everything_lets_nobody_in_without_a_password() {
    let (_tasks, directory, _slapd) = liar(&["uid=anna,ou=people,dc=example,dc=com"]).await;
    assert_eq!(sign_in(&directory, "anna", "").await, Ok(None));
    assert!(sign_in(&directory, "anna", "x").await.unwrap().is_some(), "this is whom the configuration trusts");
}

#[tokio::test]
async fn two_entries_none_and_those_from_elsewhere_let_nobody_in() {
    let anna = "uid=anna,ou=people,dc=example,dc=com";
    for entries in
        [&[anna, "uid=otto,ou=people,dc=example,dc=com"][..], &[], &["uid=anna,dc=evil"], &[""], &[anna, anna, anna]]
    {
        let (_tasks, directory, _slapd) = liar(entries).await;
        assert_eq!(sign_in(&directory, "anna", "x").await, Ok(None), "{entries:?}");
    }
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = vec![format!("ldap://{}", listener.local_addr().unwrap())];
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    let slapd = Slapd::start();
    let directory = Directory::new(Ldap { urls, ..slapd.settings() }).unwrap();
    assert!(directory.ping().await.is_err());
}

/// Referrals: a directory that sends us on to another does not make us talk to that one, let alone with passwords.
#[tokio::test]
async fn a_referral_leads_nowhere() {
    let slapd = Slapd::start();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ldap://{}/ou=people,dc=example,dc=com", elsewhere.local_addr().unwrap());
    // Whoever searches all that is below the base gets it as a continuation, and whoever binds below it as the answer.
    slapd.change(&format!(
        "dn: ou=elsewhere,dc=example,dc=com\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\n\
         ou: elsewhere\nref: {url}\n"
    ));
    let directory = Directory::new(slapd.settings()).unwrap();
    assert!(sign_in(&directory, "anna", PASSWORD).await.unwrap().is_some(), "who is here comes in");
    assert_eq!(sign_in(&directory, "eve", PASSWORD).await, Ok(None), "who is said to be there does not");
    let below = Ldap { base: "ou=elsewhere,dc=example,dc=com".to_owned(), ..slapd.settings() };
    let refused = sign_in(&Directory::new(below).unwrap(), "anna", PASSWORD).await.unwrap_err();
    assert!(matches!(&refused, DirectoryError::Refuses(text) if text.contains("10")), "{refused:?}");
    let came = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
    assert!(came.is_err(), "somebody called the other directory");
}
