//! The list of devices, for people and for programs; and the words of the program itself.

use std::process::Stdio;

use crate::command::{Home, finish};
use crate::server::{Answer, Server, json, problem};

const LIST: &str = r#"{"devices":[
 {"name":"plc1","description":"Pump \u001b[31m house","tags":["a"],"gateway":"site12","online":true,
  "since":"2026-11-23T03:00:00Z","services":[{"name":"web","kind":"http","url":"https://plc1.x/"},
  {"name":"ssh","kind":"ssh"}],"later":{"unknown":1}},
 {"name":"camera-2","description":"","tags":[],"gateway":"s1","online":false,"since":"2026-01-02T03:04:05.5Z",
  "services":[]}]}"#;

fn devices(server: &Server, home: &Home, args: &[&str]) -> std::process::Command {
    let mut command = home.linkspan(args);
    command.env("LINKSPAN_SERVER", server.url()).env("LINKSPAN_TOKEN", "canary-token");
    command.env("LINKSPAN_CA_FILE", server.ca_file());
    command
}

#[test]
fn a_table_for_people_and_json_for_programs() {
    let server = Server::start(|_| json("200 OK", LIST));
    let home = Home::new();
    let table = finish(devices(&server, &home, &["devices"]).spawn().unwrap());
    let expected = "\
NAME      STATE                           GATEWAY  SERVICES         DESCRIPTION
plc1      online                          site12   web (http), ssh  Pump \\u{1b}[31m house
camera-2  offline since 2026-01-02 03:04  s1
";
    assert_eq!((table.code, table.out.as_str(), table.err.as_str()), (Some(0), expected, ""));

    let listed = finish(devices(&server, &home, &["devices", "--json"]).spawn().unwrap());
    assert_eq!((listed.code, listed.out), (Some(0), format!("{LIST}\n")));
}

#[test]
fn a_home_is_not_needed_when_the_environment_says_all() {
    let server = Server::start(|_| json("200 OK", LIST));
    let home = Home::new();
    let mut command = devices(&server, &home, &["devices"]);
    command.env_remove("XDG_CONFIG_HOME").env("HOME", "/nonexistent");
    assert_eq!(finish(command.spawn().unwrap()).code, Some(0));
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let server = Server::start(|_| json("200 OK", LIST));
    let home = Home::new();
    let mut child = devices(&server, &home, &["devices"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = finish(child);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new();
    for (answer, code, words) in [
        (problem("401 Unauthorized", "no"), 77, "does not accept the token in LINKSPAN_TOKEN"),
        (problem("403 Forbidden", "not for you"), 77, "not for you"),
        (problem("503 Service Unavailable", "come back"), 69, "come back"),
        (Answer::Http("502 Bad Gateway", String::new(), "<html>".into()), 69, "answered 502 Bad Gateway"),
        (json("200 OK", "[1,2"), 69, "not a Linkspan server"),
    ] {
        let server = Server::start(move |_| answer.clone());
        let ended = finish(devices(&server, &home, &["devices"]).spawn().unwrap());
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.err.contains(words) && !ended.err.contains("canary"), "{ended:?}");
    }
}

#[test]
fn the_program_explains_itself() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for word in ["EXAMPLES", "ProxyCommand", "LINKSPAN_TOKEN", "EXIT STATUS", "credentials.toml", "connect"] {
        assert!(help.out.contains(word), "{word} is not in the help");
    }
    assert_eq!(home.run(&["--version"]).out, format!("linkspan {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completion", shell]);
        assert!(script.code == Some(0) && script.out.contains("password-stdin"), "{shell}");
    }
    for wrong in [&["vnc", "plc1"][..], &["devices", "--token", "x"], &["connect"], &["connect", "PLC 1"], &[]] {
        let ended = home.run(wrong);
        assert_eq!((ended.code, ended.out.as_str()), (Some(64), ""), "{wrong:?}");
    }
}
