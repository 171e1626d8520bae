//! The API as its description says, asked by a program that knows nothing but that description (schemathesis): whatever
//! it sends, the server neither breaks nor answers what is not described.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CONSOLE: &str = "linkspan.localhost";
const PASSWORD: &str = "correct horse battery";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn short() {
    fuzz(&["--max-time", "40", "--max-examples", "6", "--generation-deterministic"]);
}

#[test]
#[ignore = "takes as long as LINKSPAN_FUZZ_SECONDS says, ten minutes by default: make fuzz-api"]
fn long() {
    let seconds = std::env::var("LINKSPAN_FUZZ_SECONDS").unwrap_or_else(|_| "600".to_owned());
    fuzz(&["--max-time", &seconds, "--max-examples", "200"]);
}

fn fuzz(amount: &[&str]) {
    let python = installed();
    let dir = tempfile::tempdir().unwrap();
    let (file, port) = configuration(dir.path());
    let file = file.to_str().unwrap();
    let server = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan-server"));
        command.args(args).args(["--config", file]).stderr(Stdio::piped()).stdout(Stdio::null());
        command
    };
    let args = ["user", "add", "fuzz", "--role", "system-admin", "--password-stdin"];
    let mut add = server(&args).stdin(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(add.wait().unwrap().success());
    assert!(server(&["gateway", "add", "site12", "--secret"]).status().unwrap().success());
    let mut running = Running(server(&["run"]).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")), "the server does not start");
    // What it says from now on is read, so that it is never held up, and kept.
    let log = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());

    let ca = dir.path().join("state/ca.pem");
    let token = token(port, &ca);
    check_description(&python, port, &ca);
    let output = Command::new(&python)
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(sources().join("schemathesis.toml"))
        .args(["run", &format!("https://{CONSOLE}:{port}/api/v1/openapi.json"), "--tls-verify"])
        .arg(&ca)
        .args(["-H", &format!("Authorization: Bearer {token}")])
        // The one has no end, the other ends the session that everything is asked with.
        .args(["--exclude-path", "/api/v1/events", "--exclude-operation-id", "delete_session"])
        .args(["--continue-on-failure", "--no-color", "--request-timeout", "20"])
        .args(amount)
        .env("NO_PROXY", "*")
        .env("SCHEMATHESIS_HOOKS", "linkspan_hooks")
        .env("PYTHONPATH", sources())
        .current_dir(dir.path())
        .output()
        .unwrap();
    drop(running);
    let (said, log) = (String::from_utf8_lossy(&output.stdout), log.join().unwrap());
    assert!(output.status.success(), "{said}\n{}\nthe server said: {log:#?}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Tested: "), "{said}");
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
}

/// The description itself follows the standard of descriptions.
fn check_description(python: &Path, port: u16, ca: &Path) {
    let description = ca.with_file_name("openapi.json");
    let fetched = curl(port, ca).arg(format!("https://{CONSOLE}:{port}/api/v1/openapi.json")).output().unwrap();
    std::fs::write(&description, fetched.stdout).unwrap();
    let said = Command::new(python).args(["-m", "openapi_spec_validator"]).arg(&description).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
}

/// The Python that has the program, in a place of its own below `target`, with every package at the version that is written
/// down. The program itself would not be found once that place is moved: its first line names it.
fn installed() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let wanted = std::fs::read_to_string(sources().join("requirements.txt")).unwrap();
    let stamp = place.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return place.join("bin/python");
    }
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place));
    let pip = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"];
    run(Command::new(place.join("bin/python")).args(["-m", "pip"]).args(pip).arg(sources().join("requirements.txt")));
    std::fs::write(stamp, wanted).unwrap();
    place.join("bin/python")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/schemathesis")
}

/// A server's file, on a port that is free, without a limit of requests.
fn configuration(dir: &Path) -> (PathBuf, u16) {
    // Both are held until both are known; below, the server takes them at once.
    let (https, http) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [port, plain] = [https, http].map(|listener| listener.local_addr().unwrap().port());
    let text = format!(
        "state_dir = \"state\"\n[listen]\nhttps = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{plain}\"\n[site]\n\
         console = \"{CONSOLE}\"\nzone = \"devices.localhost\"\n[tls]\nself_signed = true\n[limits]\napi_requests = 0\n"
    );
    let file = dir.join("server.toml");
    std::fs::write(&file, text).unwrap();
    (file, port)
}

fn curl(port: u16, ca: &Path) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--noproxy", "*", "--resolve", &format!("{CONSOLE}:{port}:127.0.0.1")]);
    command.arg("--cacert").arg(ca);
    command
}

fn token(port: u16, ca: &Path) -> String {
    let output = curl(port, ca)
        .args(["-H", "Content-Type: application/json", "-d"])
        .arg(format!(r#"{{"name":"fuzz","password":"{PASSWORD}"}}"#))
        .arg(format!("https://{CONSOLE}:{port}/api/v1/session"))
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}
