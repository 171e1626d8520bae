//! The real binary: what it prints where, which exit codes it ends in, and how it takes signals.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn server(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan-server"));
    command.args(args).env_remove("LINKSPAN_LOG").stdin(Stdio::null());
    command
}

fn ask(args: &[&str]) -> Output {
    server(args).output().unwrap()
}

fn ask_with(args: &[&str], input: &str) -> Output {
    let mut command = server(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
}

#[test]
fn wrong_use_is_64_and_help_is_0() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    for args in [
        &["walk"][..],
        &[],
        &["run", "--no-such-thing"],
        &["user", "add", "anna", "--role", "king", "--password-stdin", "--dev", dev],
        &["user", "add", "an na", "--role", "admin", "--password-stdin", "--dev", dev],
        &["user", "add", "anna", "--role", "admin", "--dev", dev],
        &["gateway", "add", "Site12", "--secret", "--dev", dev],
        &["check", "--dev", dev, "--config", "x"],
        &["check", "--dev", dev, "--log", "=="],
    ] {
        let output = ask(args);
        assert_code(&output, 64);
        assert_eq!(stdout(&output), "", "{args:?}");
        assert_ne!(stderr(&output), "", "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let output = ask(args);
        assert_code(&output, 0);
        assert_ne!(stdout(&output), "");
    }
}

#[test]
fn a_claim_code_is_alone_on_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let output = ask(&["gateway", "add", "site12", "--dev", dir.path().to_str().unwrap()]);
    assert_code(&output, 0);
    let code = stdout(&output);
    assert_eq!(code.lines().count(), 1, "{code}");
    assert!(stderr(&output).contains(&format!("enroll https://linkspan.localhost:8443 {code}")), "{}", stderr(&output));
}

#[test]
fn a_wrong_configuration_is_78_with_every_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.toml");
    std::fs::write(&file, "[site]\nconsole = \"c.test\"\nzoen = \"z.test\"\n[tls]\nacme = true\n").unwrap();
    let path = file.to_str().unwrap();
    for args in [["check", "--config", path], ["run", "--config", path]] {
        let output = ask(&args);
        assert_code(&output, 78);
        for told in [
            format!("{path}:1:1: [site] needs `zone`"),
            format!("{path}:3:1: unknown key `zoen` in [site]; did you mean `zone`?"),
            format!("{path}:5:8: `acme` is not available in this version"),
        ] {
            assert!(stderr(&output).contains(&told), "{told} is not in {}", stderr(&output));
        }
    }
    let output = ask(&["check", "--config", "/nowhere/server.toml"]);
    assert_code(&output, 78);
    assert!(stderr(&output).contains("/nowhere/server.toml"), "{}", stderr(&output));
}

#[test]
fn check_says_what_is_unwise_and_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.toml");
    let text = "state_dir = \"state\"\n[site]\nconsole = \"c.example.com\"\nzone = \"z.example.com\"\n[tls]\n";
    std::fs::write(&file, format!("{text}self_signed = true\n")).unwrap();
    let output = ask(&["check", "--config", file.to_str().unwrap()]);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("WARN") && stderr(&output).contains("share the domain"), "{}", stderr(&output));
    assert!(!stderr(&output).contains('\u{1b}'), "no colours in a file");
    std::fs::write(&file, format!("{text}certificate_file = \"c.pem\"\nkey_file = \"k.pem\"\n")).unwrap();
    let output = ask(&["check", "--config", file.to_str().unwrap()]);
    assert_code(&output, 78);
    assert!(stderr(&output).contains("c.pem"), "{}", stderr(&output));
    for name in ["c.pem", "k.pem"] {
        std::fs::write(dir.path().join(name), "not a certificate").unwrap();
    }
    for command in ["check", "run"] {
        let output = ask(&[command, "--config", file.to_str().unwrap()]);
        assert_code(&output, 78);
        assert!(stderr(&output).contains("BEGIN CERTIFICATE"), "{}", stderr(&output));
    }
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    assert_code(&ask(&["check", "--config", file.to_str().unwrap()]), 78);
    assert!(!dir.path().join("state").exists(), "check changes nothing");
}

#[test]
fn people_are_added_listed_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().join("state");
    let dev = dev.to_str().unwrap();
    let add = ["user", "add", "Anna", "--role", "admin", "--password-stdin", "--dev", dev];
    let output = ask_with(&add, "correct horse\n");
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "");
    assert_code(&ask_with(&add, "correct horse\n"), 65);
    let short = ask_with(&["user", "add", "bob", "--role", "operator", "--password-stdin", "--dev", dev], "short\n");
    assert_code(&short, 65);
    assert!(stderr(&short).contains("at least 8"), "{}", stderr(&short));

    let output = ask(&["user", "list", "--json", "--dev", dev]);
    let users: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(users[0]["name"], "anna");
    assert_eq!(users[0]["role"], "admin");
    assert!(stdout(&ask(&["user", "list", "--dev", dev])).contains("anna"));

    assert_code(&ask_with(&["user", "passwd", "anna", "--password-stdin", "--dev", dev], "other horse\n"), 0);
    assert_code(&ask_with(&["user", "passwd", "bob", "--password-stdin", "--dev", dev], "other horse\n"), 67);
    let last = ask(&["user", "remove", "anna", "--dev", dev]);
    assert_code(&last, 65);
    assert!(stderr(&last).contains("first add another admin"), "{}", stderr(&last));
    assert_code(&ask(&["user", "role", "anna", "viewer", "--dev", dev]), 65);
    let other = ["user", "add", "otto", "--role", "admin", "--password-stdin", "--dev", dev];
    assert_code(&ask_with(&other, "correct horse\n"), 0);
    assert_code(&ask(&["user", "remove", "anna", "--dev", dev]), 0);
    assert_code(&ask(&["user", "remove", "anna", "--dev", dev]), 67);
    let mode = std::fs::metadata(dev).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn roles_are_changed_organisations_look_otherwise_and_visits_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    let run = |words: &[&str]| ask(&[words, &["--dev", dev]].concat());
    assert_code(&run(&["role", "add", "shell only", "--permissions", "shell.open"]), 0);
    assert_code(&run(&["role", "change", "shell only", "--permissions", "page.view,device.see"]), 0);
    assert!(stdout(&run(&["role", "list"])).contains("page.view"));
    assert_code(&run(&["role", "change", "admin", "--permissions", "page.view"]), 64);
    assert_code(&run(&["role", "change", "nothing", "--permissions", "page.view"]), 67);
    assert_code(&run(&["role", "change", "shell only", "--permissions", "tenant.edit"]), 64);
    assert_code(&run(&["tenant", "add", "acme"]), 0);
    assert_code(&run(&["tenant", "brand", "acme", "--title", "Acme Works", "--colour", "#8a1538"]), 0);
    assert_code(&run(&["tenant", "brand", "acme", "--colour", "#ffffff"]), 65);
    let listed: serde_json::Value = serde_json::from_str(stdout(&run(&["tenant", "list", "--json"]))).unwrap();
    assert_eq!((&listed[0]["title"], &listed[0]["colour"]), (&"Acme Works".into(), &"#8a1538".into()));
    let above = ask_with(
        &["user", "add", "eve", "--role", "system-admin", "--tenant", "acme", "--password-stdin", "--dev", dev],
        "correct horse\n",
    );
    assert_code(&above, 64);
    assert!(stderr(&above).contains("`default`"), "{}", stderr(&above));
    assert_eq!(stdout(&run(&["visit", "list", "--json"])).trim(), "[]");
    assert_code(&run(&["visit", "revoke", "0123456789abcdef"]), 67);
    assert!(stdout(&run(&["audit", "list"])).contains("role.change"));
}

#[test]
fn a_gateways_secret_is_alone_on_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    let output = ask(&["gateway", "add", "site12", "--secret", "--dev", dev]);
    assert_code(&output, 0);
    let secret = stdout(&output).strip_suffix('\n').unwrap();
    assert_eq!(secret.len(), 52);
    assert!(secret.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{secret}");
    assert_code(&ask(&["gateway", "add", "site12", "--secret", "--dev", dev]), 65);
    let output = ask(&["gateway", "list", "--json", "--dev", dev]);
    assert!(stdout(&output).contains("\"name\":\"site12\"") && !stdout(&output).contains(secret));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret is on disk");
    }
    assert_code(&ask(&["gateway", "remove", "site12", "--dev", dev]), 0);
    assert_code(&ask(&["gateway", "remove", "site12", "--dev", dev]), 67);
}

#[test]
fn a_database_that_cannot_be_used_is_69() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("linkspan.db"), vec![0x55; 8192]).unwrap();
    for command in ["run", "user"] {
        let mut args = vec![command, "--dev", dir.path().to_str().unwrap()];
        if command == "user" {
            args.insert(1, "list");
        }
        let output = ask(&args);
        assert_code(&output, 69);
        assert!(stderr(&output).contains("database"), "{}", stderr(&output));
    }
}

#[test]
fn a_completion_script_is_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = ask(&["completion", shell]);
        assert_code(&output, 0);
        assert!(stdout(&output).contains("linkspan-server"));
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_dev(dir: &Path) -> Running {
    let loopback = "127.0.0.1:0";
    let args = ["run", "--dev", dir.to_str().unwrap(), "--listen-https", loopback, "--listen-http", loopback];
    let child = server(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Running(child)
}

/// Reads what the server says until a line has this in it.
fn wait_for(running: &mut Running, text: &str) -> String {
    let mut said = String::new();
    let mut lines = BufReader::new(running.0.stderr.as_mut().unwrap());
    while !said.contains(text) {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "`{text}` is not in {said}");
    }
    said
}

#[test]
fn the_first_start_makes_an_admin_and_a_signal_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().join("state");
    let mut running = run_dev(&dev);
    let said = wait_for(&mut running, "ready");
    let file = dev.join("admin-password");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    let password = std::fs::read_to_string(&file).unwrap();
    assert!(!said.contains(password.trim()), "the password is not for the log");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let added = ask(&["gateway", "add", "site12", "--secret", "--dev", dev.to_str().unwrap()]);
    assert_code(&added, 0);

    let killed = Command::new("kill").arg(running.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "SIGTERM does not end the server");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0), "{status}");
    let mut out = String::new();
    running.0.stdout.as_mut().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "", "nothing was asked for");

    let mut again = run_dev(&dev);
    let said = wait_for(&mut again, "ready");
    assert!(!said.contains("first start"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), password);
}

/// Threat 37, 38: processes that write at once keep one chain, and one that is killed in the middle breaks nothing.
#[test]
fn the_audit_is_whole_however_its_writers_end() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().join("state");
    let place = dev.to_str().unwrap();
    let mut running = run_dev(&dev);
    wait_for(&mut running, "ready");
    let names: Vec<String> = (0..24_u64).map(|n| format!("site{n}")).collect();
    let add = |name: &String| server(&["gateway", "add", name, "--secret", "--dev", place]).output().unwrap();
    std::thread::scope(|scope| {
        let all: Vec<_> = names.iter().take(6).map(|name| scope.spawn(move || add(name).status.code())).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == Some(0)), "several at once");
    });
    for (n, name) in names.iter().enumerate().skip(6) {
        let mut child = server(&["gateway", "add", name, "--secret", "--dev", place]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Not a wait for something: each is killed at another place of its way.
        std::thread::sleep(Duration::from_millis(5 * n as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let head = ask(&["audit", "head", "--dev", place]);
    let whole = ask(&["audit", "verify", "--anchor", stdout(&head).trim(), "--dev", place]);
    assert_code(&whole, 0);
    assert_eq!(stdout(&whole), stdout(&head));
    let list = ask(&["audit", "list", "--action", "gateway.add", "--json", "--limit", "1000", "--dev", place]);
    let noted = stdout(&list).lines().filter(|line| line.contains("\"actor_kind\":\"shell\"")).count();
    let added = ask(&["gateway", "list", "--dev", place]);
    let added = stdout(&added).lines().count();
    assert!((6..=added).contains(&noted), "{noted} noted, {added} added");
}

#[test]
fn the_audit_is_searched_and_taken_away_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    assert_code(&ask(&["gateway", "add", "site12", "--secret", "--dev", place]), 0);
    assert_code(&ask(&["gateway", "remove", "site99", "--dev", place]), 67);
    let list = ask(&["audit", "list", "--dev", place]);
    assert!(stdout(&list).contains("ok     gateway.add") && stdout(&list).contains("there is no gateway site99"));
    let failed = ask(&["audit", "list", "--result", "failed", "--action", "gateway", "--dev", place]);
    assert_eq!(stdout(&failed).lines().count(), 1, "{}", stdout(&failed));
    let file = ask(&["audit", "export", "--format", "csv", "--dev", place]);
    let lines: Vec<&str> = stdout(&file).lines().collect();
    assert_eq!(lines.len(), 4, "a head, two commands and the export itself: {lines:?}");
    let anchor = format!("2:{}", "0".repeat(64));
    let broken = ask(&["audit", "verify", "--anchor", &anchor, "--dev", place]);
    assert_code(&broken, 65);
    assert!(stderr(&broken).contains("row 2 is not the one of the anchor"), "{}", stderr(&broken));
}

#[test]
fn roles_groups_grants_tokens_and_organisations_from_a_script() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    let run = |words: &str| {
        let mut words: Vec<&str> = words.split('|').collect();
        words.extend(["--dev", dev]);
        ask(&words)
    };
    let fine = |words: &str| {
        let output = run(words);
        assert_code(&output, 0);
        stdout(&output).to_owned()
    };
    fine("tenant|add|acme|--title|Acme Works");
    fine("service-account|add|robot|--role|none|--tenant|acme");
    fine("role|add|shell only|--permissions|device.see,shell.open|--tenant|acme");
    fine("group|add|fitters|--tenant|acme");
    fine("group|join|fitters|robot|--tenant|acme");
    let id =
        fine("grant|add|--group|fitters|--role|shell only|--device|plc1|--hours|Mon-Fri 07:00-17:00 UTC|--tenant|acme");
    let id = id.trim();
    assert_eq!(id.len(), 16, "the identity alone: {id}");
    let line = fine("grant|list|--tenant|acme");
    assert!(line.contains("@fitters") && line.contains("on device plc1 in Mon-Fri 07:00-17:00 UTC"), "{line}");
    assert_eq!(fine("grant|list|--json"), "[]\n", "another organisation has none");
    assert_code(&run(&format!("grant|remove|{id}")), 67);
    let token = fine("token|add|robot|line 3|--permissions|device.see|--tenant|acme");
    assert!(token.starts_with("lsp_") && token.len() == 65, "{token}");
    let listed = fine("token|list|--tenant|acme");
    assert!(listed.contains("robot") && !listed.contains("lsp_"), "{listed}");
    for (words, code) in [
        ("role|add|admin|--permissions|device.see", 64),
        ("role|add|x|--permissions|tenant.edit", 64),
        ("role|add|x|--permissions|everything", 64),
        ("role|remove|shell only|--tenant|acme", 65),
        ("group|remove|fitters|--tenant|acme", 65),
        ("grant|add|--role|viewer", 64),
        ("grant|add|--user|robot|--role|viewer", 67),
        ("grant|add|--group|fitters|--role|king|--tenant|acme", 64),
        ("token|add|robot|x", 67),
        ("token|add|robot|x|--days|1000|--tenant|acme", 64),
        ("tenant|remove|acme", 65),
        ("tenant|list|--tenant|x", 64),
    ] {
        assert_code(&run(words), code);
    }
    fine(&format!("token|revoke|{}|--tenant|acme", &listed[..16]));
    fine(&format!("grant|remove|{id}|--tenant|acme"));
    fine("group|leave|fitters|robot|--tenant|acme");
    for words in ["group|remove|fitters", "role|remove|shell only", "service-account|remove|robot"] {
        fine(&format!("{words}|--tenant|acme"));
    }
    fine("tenant|remove|acme");
    let audit = fine("audit|list|--json");
    assert!(audit.contains("grant.add") && !audit.contains(token.trim()), "{audit}");
    // The people of the organisation read what was done in it, also of what is gone by now.
    let done = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let done: Vec<_> = done.filter(|entry| entry["result"] == "ok" && entry["target_kind"] != "tenant").collect();
    assert!(done.len() >= 11 && done.iter().all(|entry| entry["tenant"].is_string()), "{done:?}");
}

#[test]
fn templates_are_written_shown_and_refused_with_the_place_of_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    let config = |words: &[&str], input: &str| {
        let words: Vec<&str> = ["config"].iter().chain(words).copied().chain(["--dev", dev]).collect();
        ask_with(&words, input)
    };
    assert_code(&ask(&["gateway", "add", "site12", "--dev", dev]), 0);
    assert_code(&config(&["own", "tags", "site12", "--add", "pump,wet"], ""), 0);
    let good = "[log]\nlevel = \"{{ level }}\"\n";
    let untagged = config(&["template", "set", "pumps", "-"], good);
    assert_code(&untagged, 65);
    let set = config(&["template", "set", "pumps", "-", "--tags", "pump"], good);
    assert_code(&set, 0);
    assert_eq!(stdout(&set), "1\n");
    let bad = config(&["template", "set", "pumps", "-"], "[log]\nlevel = \"{{ level\"\n");
    assert_code(&bad, 65);
    assert!(stderr(&bad).contains("template pumps:2:10: a variable is not closed"), "{}", stderr(&bad));
    let late = config(&["template", "set", "pumps", "-", "--after", "0"], good);
    assert_code(&late, 65);

    let shown = config(&["template", "preview", "pumps"], "");
    assert_code(&shown, 0);
    let told = "template pumps for site12:2:10: site12 has no value for `level`; give it one: linkspan-server config own values \
                site12 --set level=…";
    assert!(stdout(&shown).contains(told), "{}", stdout(&shown));
    let refused = config(&["template", "apply", "pumps"], "");
    assert_code(&refused, 65);
    assert!(stderr(&refused).contains(told), "{}", stderr(&refused));
    let value = config(&["own", "values", "site12", "--set", "level=debug"], "");
    assert_code(&value, 0);
    assert!(stderr(&value).contains("site12 follows the template pumps"), "{}", stderr(&value));
    assert!(stdout(&config(&["template", "preview", "pumps"], "")).contains("+level = \"debug\"\n"));
    let applied = config(&["template", "apply", "pumps"], "");
    assert_code(&applied, 0);
    assert_eq!(stdout(&applied).trim().len(), 16, "the rollout alone");
    assert_eq!(stdout(&config(&["get", "site12"], "")), "[log]\nlevel = \"debug\"\n");
    let own = config(&["own", "show", "site12"], "");
    assert!(stdout(&own).contains("tags: pump, wet\nlevel = \"debug\"\n"), "{}", stdout(&own));
    let status = config(&["template", "status", "pumps"], "");
    assert!(stdout(&status).contains("followed by 1 gateways") && stdout(&status).contains("site12"));
    assert_code(&config(&["template", "get", "valves"], ""), 67);
    assert_code(&config(&["template", "remove", "pumps"], ""), 0);
    let audit = ask(&["audit", "list", "--action", "template", "--json", "--dev", dev]);
    assert_eq!(stdout(&audit).matches("template.edit").count(), 4, "{}", stdout(&audit));
}

#[test]
fn what_was_found_is_decided_about_from_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let dev = dir.path().to_str().unwrap();
    assert_code(&ask(&["gateway", "add", "site12", "--dev", dev]), 0);
    let nothing = ask(&["discovered", "list", "--json", "--dev", dev]);
    assert_eq!(stdout(&nothing), "[]\n");
    for args in [["discovered", "ignore", "7", "--dev", dev], ["discovered", "reset", "7", "--dev", dev]] {
        let output = ask(&args);
        assert_code(&output, 67);
        assert!(stderr(&output).contains("nothing of the number 7"), "{}", stderr(&output));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let id = runtime.block_on(async {
        let url = format!("sqlite:{}", dir.path().join("linkspan.db").display());
        let store = linkspan_server::store::Store::open(&url).await.unwrap();
        let gateway = store.gateway(&"site12".parse().unwrap()).await.unwrap().unwrap();
        let machine = serde_json::json!({"key": "mac:02:00:00:00:00:07", "names": ["hmi\u{1b}[2J"], "addresses": ["10.0.0.7"],
            "present": true, "services": [{"kind": "_http._tcp", "port": 80}]});
        let device = serde_json::from_value(machine).unwrap();
        let told = linkspan_server::store::Telling { devices: vec![(device, "hmi".into())], ..Default::default() };
        store.take_found(gateway.id, &told, jiff::Timestamp::now()).await.unwrap();
        let document = "# site 12\n".to_owned();
        let report = linkspan_server::store::ConfigReport {
            revision: None,
            sha256: linkspan_server::fleet::sha256(&document),
            document: Some(document),
            edited: false,
            own_only: false,
            at: jiff::Timestamp::now(),
        };
        store.keep_config_report(gateway.id, &report).await.unwrap();
        let (found, _) = store.found(gateway.tenant, &Default::default(), -1).await.unwrap();
        store.close().await;
        found[0].id.to_string()
    });
    let listed = ask(&["discovered", "list", "--dev", dev]);
    assert!(stdout(&listed).contains("new: hmi") && !stdout(&listed).contains('\u{1b}'), "{}", stdout(&listed));
    assert_code(&ask(&["discovered", "ignore", &id, "--dev", dev]), 0);
    assert_eq!(stdout(&ask(&["discovered", "list", "--state", "new", "--dev", dev])), "");
    let approved = ask(&["discovered", "approve", &id, "hmi7", "--tags", "hall-2", "--dev", dev]);
    assert_code(&approved, 0);
    assert_eq!(stdout(&approved), "1\n");
    let document = ask(&["config", "get", "site12", "--dev", dev]);
    for line in
        ["# site 12\n", "name = \"hmi7\"\n", "host = \"mac:02:00:00:00:00:07\"\n", "kind = \"http\"\nport = 80\n"]
    {
        assert!(stdout(&document).contains(line), "{line}: {}", stdout(&document));
    }
    assert_code(&ask(&["discovered", "merge", &id, &id, "--dev", dev]), 65);
    let audit = ask(&["audit", "list", "--action", "discovered", "--gateway", "site12", "--json", "--dev", dev]);
    assert_eq!(stdout(&audit).matches("discovered.").count(), 3, "{}", stdout(&audit));
}
