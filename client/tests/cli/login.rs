//! Signing in and out: what is sent, what is kept, what is said.

use std::os::unix::fs::PermissionsExt as _;

use crate::command::Home;
use crate::server::{Answer, Server, json, problem};

const SESSION: &str = r#"{"token":"canary-token","expires":"2030-05-06T07:08:09Z"}"#;

fn sign_in(home: &Home, server: &Server) -> crate::command::Ended {
    let ca = server.ca_file();
    let args = ["login", &server.url(), "--name", "anna", "--password-stdin", "--ca-file", ca.to_str().unwrap()];
    home.run_with_input(&args, "canary-password\n")
}

#[test]
fn a_sign_in_is_kept_privately_and_used_afterwards() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "POST /api/v1/session HTTP/1.1" => json("200 OK", SESSION),
        "GET /api/v1/devices HTTP/1.1" => json("200 OK", r#"{"devices":[]}"#),
        "DELETE /api/v1/session HTTP/1.1" => Answer::Http("204 No Content", String::new(), String::new()),
        _ => problem("404 Not Found", "no such thing"),
    });
    let home = Home::new();
    let ended = sign_in(&home, &server);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.err, format!("Signed in to {} as anna until 2030-05-06 07:08.\n", server.url()));
    let sent: serde_json::Value = serde_json::from_str(&server.asked()[0].body).unwrap();
    assert_eq!(sent, serde_json::json!({ "name": "anna", "password": "canary-password" }));
    assert!(!server.asked()[0].head.to_ascii_lowercase().contains("authorization"));

    let file = home.credentials();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("canary-token") && kept.contains("ca.pem") && !kept.contains("canary-password"), "{kept}");

    let listed = home.run(&["devices"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(server.asked()[1].head.contains("authorization: Bearer canary-token\r\n"), "{:?}", server.asked());

    let out = home.run(&["logout"]);
    assert_eq!((out.code, out.err), (Some(0), format!("Signed out of {}.\n", server.url())));
    assert_eq!(server.asked()[2].line, "DELETE /api/v1/session HTTP/1.1");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("canary-token"));
    let again = home.run(&["devices"]);
    assert_eq!(again.code, Some(77), "{again:?}");
    assert!(again.err.contains("linkspan login"), "{again:?}");
}

#[test]
fn several_servers_are_kept_and_the_last_is_the_default() {
    let one = Server::start(|_| json("200 OK", SESSION));
    let two = Server::start(|_| json("200 OK", SESSION));
    let home = Home::new();
    assert_eq!((sign_in(&home, &one).code, sign_in(&home, &two).code), (Some(0), Some(0)));
    home.run(&["devices"]);
    assert_eq!((one.asked().len(), two.asked().len()), (1, 2));
    home.run(&["devices", "--server", &one.url()]);
    assert_eq!((one.asked().len(), two.asked().len()), (2, 2));
    let mut command = home.linkspan(&["devices"]);
    command.env("LINKSPAN_SERVER", one.url()).env("LINKSPAN_TOKEN", "other-token\n");
    crate::command::finish(command.spawn().unwrap());
    assert!(one.asked()[2].head.contains("Bearer other-token\r\n"), "{:?}", one.asked());
}

#[test]
fn a_sign_in_that_fails_says_why_and_keeps_nothing() {
    for (answer, code, words) in [
        (problem("401 Unauthorized", "wrong"), 77, "does not know this name with this password"),
        (
            Answer::Http(
                "429 Too Many Requests",
                "content-type: application/problem+json\r\nretry-after: 7\r\n".into(),
                r#"{"detail":"slow down"}"#.into(),
            ),
            69,
            "try again in 7 seconds",
        ),
        (Answer::Http("404 Not Found", "content-type: text/html\r\n".into(), "<h1>nginx".into()), 69, "not a Linkspan"),
        (Answer::Http("200 OK", "content-type: text/html\r\n".into(), "<h1>hi".into()), 69, "not a Linkspan"),
        (Answer::Http("302 Found", "location: https://evil.example/\r\n".into(), String::new()), 69, "not a Linkspan"),
        (problem("503 Service Unavailable", "the store \u{1b}[2J is away"), 69, "the store \\u{1b}[2J is away"),
    ] {
        let server = Server::start(move |_| answer.clone());
        let home = Home::new();
        let ended = sign_in(&home, &server);
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.err.starts_with("linkspan: ") && ended.err.contains(words), "{ended:?}");
        assert!(!ended.err.contains("canary") && !home.credentials().exists());
        assert_eq!(server.asked().len(), 1, "no redirect is followed with a password");
    }
}

#[test]
fn wrong_addresses_are_refused_before_anything_is_sent() {
    let home = Home::new();
    for (url, code, words) in [
        ("http://remote.example.com", 64, "https://remote.example.com"),
        ("https://anna:pw@remote.example.com", 64, "leave the name and password out"),
        ("https://127.0.0.1:1", 69, "cannot reach 127.0.0.1:1"),
        ("https://nowhere.invalid", 69, "cannot look up nowhere.invalid"),
    ] {
        let ended = home.run_with_input(&["login", url, "--name", "anna", "--password-stdin"], "pw\n");
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains(words), "{ended:?}");
    }
    let nameless = home.run(&["login", "https://remote.example.com", "--password-stdin"]);
    assert_eq!(nameless.code, Some(64), "{nameless:?}");
    let empty = home.run_with_input(&["login", "https://remote.localhost", "--name", "a", "--password-stdin"], "\n");
    assert_eq!((empty.code, empty.err.as_str()), (Some(64), "linkspan: the password is empty\n"));
}

#[test]
fn a_token_is_deleted_even_when_the_server_is_away_or_not_trusted_any_more() {
    let home = Home::new();
    let server = Server::start(|_| json("200 OK", SESSION));
    let (ca, moved) = (server.ca_file(), server.ca_file().with_extension("old"));
    for (untrusted, code) in [(true, 78), (false, 69)] {
        assert_eq!(sign_in(&home, &server).code, Some(0));
        match untrusted {
            true => std::fs::rename(&ca, &moved).unwrap(),
            false => server.stop(),
        }
        let ended = home.run(&["logout"]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains("deleted here"), "{ended:?}");
        assert!(!std::fs::read_to_string(home.credentials()).unwrap().contains("canary-token"), "{ended:?}");
        if untrusted {
            std::fs::rename(&moved, &ca).unwrap();
        }
    }
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let home = Home::new();
    std::fs::write(home.path().join("config"), "a file where a directory should be").unwrap();
    let server = Server::start(|_| json("200 OK", SESSION));
    let ended = sign_in(&home, &server);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.err.contains("config/linkspan"), "{ended:?}");
}
