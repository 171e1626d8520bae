//! Configurations good and bad, as an owner would write them.

use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::pem::PemObject;

use super::*;

const EXAMPLE: &str = include_str!("../../gateway/gateway.example.toml");
pub(super) const GOOD: &str =
    "[server]\nurl = \"https://remote.example.com\"\n[identity]\nname = \"site12\"\nsecret_file = \"secret\"\n";

pub(super) struct Dir(pub(super) tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        dir.write("secret", "hunter2\n");
        dir.write("gateway.secret", "hunter2\n");
        let ca = rcgen::generate_simple_self_signed(["plc1".to_owned()]).unwrap();
        dir.write("plc-ca.pem", &format!("{}{}", ca.signing_key.serialize_pem(), ca.cert.pem()));
        dir.write("ca.pem", &ca.cert.pem());
        dir
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn load(&self, content: &str) -> Result<Config, Problems> {
        load(&self.write("gateway.toml", content))
    }

    /// The problems of a configuration, without the directory in front.
    fn problems(&self, content: &str) -> String {
        let text = self.load(content).map(|config| config.warnings).unwrap_or_else(|problems| problems.0);
        Problems(text).to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn the_example_is_accepted_as_it_is() {
    let dir = Dir::new();
    let config = dir.load(EXAMPLE).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.server.at.to_string(), "remote.example.com:443");
    assert_eq!(config.limits, Limits::default(), "the example shows the defaults");
    assert_eq!(config.status_socket, dir.0.path().join("gateway.sock"));
    let ports: Vec<_> = config.devices.iter().flat_map(|d| &d.services).map(|s| s.port).collect();
    assert_eq!(ports, [443, 8443, 102, 80, 22]);
    let Verify::Ca { pem, server_name } = &config.devices[0].services[1].verify else { panic!("a CA") };
    assert_eq!(server_name.as_deref(), Some("plc1.factory.lan"));
    assert!(
        pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains("PRIVATE KEY"),
        "only certificates travel"
    );
    assert_eq!(CertificateDer::pem_slice_iter(pem.as_bytes()).count(), 1);
    assert_eq!(dir.load(EXAMPLE).unwrap(), config, "the same file reads the same");
}

#[test]
fn the_example_documents_every_key() {
    let dir = Dir::new();
    let all = EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line));
    let all: Vec<_> = all.collect();
    // A gateway has one of the two ways to prove its name; the other one's files are not there.
    let all: Vec<_> =
        all.into_iter().filter(|l| !l.starts_with("certificate_file") && !l.starts_with("key_file")).collect();
    let config = dir.load(&all.join("\n")).unwrap();
    // Not every kernel has bbr.
    let warnings: Vec<_> = config.warnings.iter().filter(|warning| !warning.what.contains("congestion")).collect();
    assert_eq!(warnings.len(), 1, "ca_file beside fingerprint: {warnings:?}");
    assert_eq!(config.server.proxy.unwrap().credentials.unwrap().expose(), "user:password");
    // Whatever the parser knows is told when a word is unknown: so each list of keys is seen here.
    let unknown = "[server]\nzzzzzzzzz=1\n[identity]\nzzzzzzzzz=1\n[status]\nzzzzzzzzz=1\n[log]\nzzzzzzzzz=1\n[limits]\n\
                   zzzzzzzzz=1\n[policy]\nzzzzzzzzz=1\n[[device]]\nzzzzzzzzz=1\n[[device.service]]\nzzzzzzzzz=1\n";
    let problems = dir.problems(unknown);
    let lists: Vec<_> = problems.lines().filter_map(|line| line.split_once(" are ")).collect();
    assert_eq!(lists.len(), 8, "{problems}");
    for key in lists.iter().flat_map(|(_, keys)| keys.split(", ")) {
        let documented = EXAMPLE.contains(&format!("{key} = ")) || EXAMPLE.contains(&format!("[[device.{key}]]"));
        assert!(documented, "`{key}` is not in gateway.example.toml");
    }
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place() {
    let text = "[server]\nurl = \"http://remote.example.com\"\nca_fil = \"x\"\n[identity]\nname = \"Site12\"\n\
                [limits]\nmax_streams = 0\nconnect_timeout = 10\n[[device]]\nname = \"PLC1\"\nhost = \"192.168.1.10:80\"\n\
                [[device.service]]\nname = \"web\"\nkind = \"htpp\"\nport = 70000\n[[device]]\nname = \"b\"\nhost = \"b\"\n\
                [[device.service]]\nname = \"s\"\nkind = \"serial\"\n[[device]]\nname = \"b\"\nhost = \"c\"\n\
                [[device.service]]\nname = \"x\"\nkind = \"tcp\"\n[[device.service]]\nname = \"x\"\nkind = \"ssh\"\n";
    let expected = "\
gateway.toml:2:7: the server's url must begin with https://; write \"https://remote.example.com\", with \":port\" if it is not 443
gateway.toml:3:1: unknown key `ca_fil` in [server]; did you mean `ca_file`?
gateway.toml:4:1: `secret_file` is missing in [identity]; write secret_file = \"gateway.secret\", the file that holds the shared secret (or enrol: `linkspan-gateway enroll URL CODE`)
gateway.toml:5:8: a name is written without capital letters; write \"site12\"
gateway.toml:7:15: `max_streams` is out of range; write a number from 1 to 1024
gateway.toml:8:19: `connect_timeout` is of the wrong type (integer); write a text in quotes
gateway.toml:10:8: a name is written without capital letters; write \"plc1\"
gateway.toml:11:8: this is neither an address nor a name; write the host alone; the port goes into [[device.service]] as port = …
gateway.toml:14:8: this kind of service is not known; did you mean \"http\"?
gateway.toml:15:8: `port` is out of range; write a number from 1 to 65535
gateway.toml:21:8: services of kind \"serial\" are not carried by this version; write one of \"http\", \"https\", \"ssh\", \"vnc\", \"rdp\", \"tcp\"
gateway.toml:23:8: the name \"b\" is taken already, in line 17; give each its own name
gateway.toml:25:1: `port` is missing; write port = 102, the device's TCP port
gateway.toml:29:8: the name \"x\" is taken already, in line 26; give each its own name";
    assert_eq!(Dir::new().problems(text), expected);
}

#[test]
fn what_is_not_toml_is_told_with_the_rest() {
    let dir = Dir::new();
    let problems = dir.problems(&format!("{GOOD}[log\nlevel = \"loud\"\nlevel = \"info\"\n[log]\nlevel = \"loud\"\n"));
    assert!(problems.contains("gateway.toml:6:5: this is not TOML"), "{problems}");
    assert!(dir.problems("").contains("`url` is missing in [server]"));
    assert!(dir.problems("server = 1\n").contains("gateway.toml:1:10: `server` is of the wrong type (integer)"));
    assert!(dir.problems("[[server]]\n").contains("wrong type (array)"));
    assert!(dir.problems("device = [1]\n").contains("wrong type (integer)"));
    let nested = format!("x = {}", "[".repeat(10_000));
    assert!(dir.problems(&nested).contains("this is not TOML"));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = Dir::new();
    let told = |path: &Path| load(path).unwrap_err().to_string();
    let missing = told(&dir.0.path().join("none.toml"));
    assert!(missing.contains("none.toml cannot be read: No such file"), "{missing}");
    assert!(told(dir.0.path()).contains("is not a regular file"));
    let fifo = dir.0.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(told(&fifo).contains("is not a regular file"));
    let large = dir.write("large.toml", &"# long\n".repeat(160_000));
    assert!(told(&large).contains("is larger than 1048576 bytes"));
    std::fs::write(&large, b"# \xc3\xbc\nname = \"gr\xfc\xdfe\"").unwrap();
    assert!(told(&large).contains("large.toml:2:11: this is not UTF-8 text"), "{}", told(&large));
}

#[test]
fn paths_count_from_the_file_and_what_they_name_is_checked() {
    let dir = Dir::new();
    std::fs::create_dir(dir.0.path().join("sub")).unwrap();
    let config = dir.write("sub/gateway.toml", &GOOD.replace("\"secret\"", "\"../secret\""));
    assert_eq!(load(&config).unwrap().identity.credential, Credential::Secret(Secret::new("hunter2")));
    for (content, told) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("two words", "holds more than one word"),
        (&*"x".repeat(257), "holds more than 256 characters"),
        (&*"x".repeat(5000), "is larger than 1024 bytes"),
    ] {
        dir.write("secret", content);
        let problems = dir.problems(GOOD);
        assert!(problems.contains("gateway.toml:5:15: ") && problems.contains(told), "{problems}");
    }
    std::fs::remove_file(dir.0.path().join("secret")).unwrap();
    assert!(dir.problems(GOOD).contains("secret cannot be read: No such file"));
    let ca = |name: &str| dir.problems(&GOOD.replace("[identity]", &format!("ca_file = \"{name}\"\n[identity]")));
    dir.write("empty.pem", "nothing here");
    assert!(ca("empty.pem").contains("holds no certificate"));
    dir.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    assert!(ca("broken.pem").contains("is not proper PEM"));
    dir.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(ca("junk.pem").contains("is no CA certificate"), "{}", ca("junk.pem"));
}

#[test]
fn secrets_that_others_can_read_are_told_and_never_shown() {
    let dir = Dir::new();
    std::fs::set_permissions(dir.0.path().join("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = GOOD.replace("[identity]", "proxy = \"http://me:hunter2@proxy:3128\"\n[identity]");
    let file = dir.write("gateway.toml", &text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = load(&file).unwrap();
    let told: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(":1:1: warning: other users can read this file"), "{told:?}");
    assert!(told[1].contains(":6:15: warning: other users can read the secret in"), "{told:?}");
    assert!(!format!("{config:?}{told:?}").contains("hunter2"));
    for bad in ["http://me:hunter2@proxy", "socks5://me:hunter2@proxy:1", "http://me:hunter2", "hunter2"] {
        let text = GOOD.replace("[identity]", &format!("proxy = \"{bad}\"\n[identity]"));
        assert!(!dir.problems(&text).contains("hunter2"), "{bad}");
        let unclosed = GOOD.replace("[identity]", &format!("proxy = \"{bad}\n[identity]"));
        assert!(!dir.problems(&unclosed).contains("hunter2"), "{bad}");
    }
}

#[test]
fn a_certificate_that_is_not_there_is_told() {
    let text = GOOD.replace("secret_file = \"secret\"", "certificate_file = \"a\"\nkey_file = \"b\"");
    let problems = Dir::new().problems(&text);
    assert_eq!(problems.lines().count(), 1, "{problems}");
    assert!(problems.contains(":5:20: a cannot be read"), "{problems}");
}

#[test]
fn the_keys_of_a_service_belong_to_its_kind() {
    let dir = Dir::new();
    let service = |keys: &str| {
        let text = format!("{GOOD}[[device]]\nname = \"d\"\nhost = \"h\"\n[[device.service]]\nname = \"s\"\n{keys}\n");
        dir.problems(&text)
    };
    let pin = "ab".repeat(32);
    assert_eq!(service("kind = \"https\""), "");
    assert_eq!(service("kind = \"http\"\nhost_header = \"plc:8080\""), "");
    for (keys, told) in [
        ("kind = \"http\"\nverify = \"off\"", "`verify` has no meaning here: it belongs to kind = \"https\""),
        ("kind = \"ssh\"\nhost_header = \"x\"", "`host_header` belongs to services of kind http and https"),
        ("kind = \"https\"\nverify = \"pinned\"", "needs a `fingerprint`"),
        ("kind = \"https\"\nverify = \"ca\"", "needs a `ca_file`"),
        ("kind = \"https\"\nverify = \"on\"", "write \"off\", \"pinned\" or \"ca\""),
        (&*format!("kind = \"https\"\nfingerprint = \"{pin}\""), "belongs to verify = \"pinned\" or \"ca\""),
        (
            &*format!("kind = \"https\"\nverify=\"ca\"\nca_file=\"ca.pem\"\nfingerprint=\"{pin}\""),
            "belongs to verify = \"pinned\"",
        ),
        ("kind = \"http\"\nhost_header = \"a\\r\\nX: b\"", "this is not a host"),
        ("kind = \"http\"\nport = \"80\"", "wrong type (string)"),
        ("kind = \"http\"\nport = 1.5", "wrong type (float)"),
        ("kind = \"udp\"\nport = 1", "not carried by this version"),
    ] {
        let problems = service(keys);
        assert!(problems.contains(told), "{keys}: {problems}");
        assert!(!problems.is_empty() && problems.lines().count() == 1, "{problems}");
    }
    let bare = format!("{GOOD}[[device]]\nname = \"d\"\nhost = \"h\"\n");
    assert!(dir.problems(&bare).contains("warning: this device has no service"));
}

#[test]
fn the_status_socket_is_found_even_in_a_broken_file() {
    let dir = Dir::new();
    let file = dir.write("gateway.toml", "[status]\nsocket = \"run/s\"\n[server]\nurl = 5\n[[[");
    assert_eq!(status_socket(&file), dir.0.path().join("run/s"));
    assert_eq!(status_socket(Path::new("/nowhere/gw.toml")), Path::new("/nowhere/gw.sock"));
    assert_eq!(status_socket(Path::new(DEFAULT_FILE)), Path::new("/run/linkspan/gateway.sock"));
    let long = format!("{GOOD}[status]\nsocket = \"/{}\"\n", "x".repeat(110));
    assert!(dir.problems(&long).contains("longer than 103 bytes"));
}

#[test]
fn a_list_too_long_for_one_message_is_refused() {
    let host = vec!["x".repeat(63); 4].join(".");
    let mut text = format!("{GOOD}[[device]]\nname = \"d\"\nhost = \"{}\"\n", &host[..253]);
    for n in 0..4000 {
        text += &format!("[[device.service]]\nname = \"s{n}\"\nkind = \"ssh\"\n");
    }
    assert!(text.len() < 1024 * 1024);
    assert!(Dir::new().problems(&text).contains("at most 1048576 can be sent"));
}

#[test]
fn a_file_full_of_mistakes_costs_neither_time_nor_pages() {
    let text = "[[device]]\nname = 1\nhost = 2\nx = 3\n".repeat(25_000);
    assert_eq!(Dir::new().problems(&text).lines().count(), 100);
}

#[test]
fn several_servers_are_a_list_and_each_is_checked() {
    let dir = Dir::new();
    let with = |url: &str| GOOD.replace("\"https://remote.example.com\"", url);
    let config = dir.load(&with("[\"https://a.example\", \"https://b.example:8443\"]")).unwrap();
    let all: Vec<_> = config.server.all().map(ToString::to_string).collect();
    assert_eq!(all, ["a.example:443", "b.example:8443"]);
    for (url, told) in [
        ("[]", "`url` lists 0 servers"),
        ("[\"https://a\", \"https://A:443/\"]", "this url is in the list already"),
        ("[\"https://a\", 7]", "`url` is of the wrong type (integer)"),
        ("[\"https://a\", \"http://b\"]", "must begin with https://"),
        ("7", "`url` is of the wrong type (integer)"),
        (
            &format!("[{}]", (0..9).map(|n| format!("\"https://s{n}\"")).collect::<Vec<_>>().join(", ")),
            "lists 9 servers",
        ),
    ] {
        let problems = dir.problems(&with(url));
        assert!(problems.contains(told), "{url}: {problems}");
    }
}

#[test]
fn what_the_kernel_lacks_is_a_warning_and_what_is_no_name_an_error() {
    let dir = Dir::new();
    let with = |more: &str| GOOD.replace("[identity]", &format!("{more}\n[identity]"));
    let config = dir.load(&with("congestion = \"reno\"\nkeepalive_file = \"k\"")).unwrap();
    assert_eq!((config.server.congestion.as_deref(), config.warnings.len()), (Some("reno"), 0));
    assert!(config.keepalive_file().ends_with("k") && config.keepalive_file().is_absolute());
    assert!(dir.load(GOOD).unwrap().keepalive_file().ends_with("gateway.keepalive"));
    let config = dir.load(&with("congestion = \"warp\"")).unwrap();
    assert!(
        config.warnings[0].to_string().contains("the kernel has no congestion control warp"),
        "{:?}",
        config.warnings
    );
    assert!(dir.problems(&with("congestion = \"../x\"")).contains("not the name of a congestion control"));
}

#[test]
fn what_the_owner_forbids_is_refused_with_its_place_whoever_writes_it() {
    let dir = Dir::new();
    let policy =
        "[policy]\nnetworks = [\"10.0.0.0/8\"]\nports = [\"80\", \"5900-5999\"]\nnever = [\"plc9\", \"kind:vnc\"]\n";
    let devices = "[[device]]\nname = \"plc1\"\nhost = \"192.168.1.1\"\n[[device.service]]\nname = \"ssh\"\nkind = \"ssh\"\n\
        [[device]]\nname = \"plc9\"\nhost = \"10.0.0.1\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\n\
        [[device]]\nname = \"plc2\"\nhost = \"plc2.lan\"\n[[device.service]]\nname = \"screen\"\nkind = \"vnc\"\n";
    let told = dir.problems(&format!("{GOOD}{policy}{devices}"));
    for part in [
        "gateway.toml:12:8: the router's owner does not allow 192.168.1.1 ([policy] networks = 10.0.0.0/8)",
        "does not allow port 22 ([policy] ports)",
        "never publishes plc9:web ([policy] never)",
        "never publishes plc2:screen ([policy] never)",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let own = dir.load(&format!("{GOOD}{policy}")).unwrap();
    let pushed = central::parse(&own.file, devices, &own.policy).unwrap_err();
    assert_eq!(pushed.0.len(), 4, "{pushed}");
    assert!(pushed.to_string().contains(":3:8: the router's owner does not allow 192.168.1.1"), "{pushed}");
}

#[test]
fn what_the_server_sends_leaves_the_router_itself_as_it_is() {
    let dir = Dir::new();
    let own = "[server]\nurl = \"https://a.example\"\nproxy = \"http://me:hunter2@proxy:3128\"\nkeepalive_file = \"k\"\n\
        [identity]\nname = \"site12\"\nsecret_file = \"secret\"\n[traffic]\nfile = \"t\"\ncap = \"1 GB\"\n";
    let own = dir.load(own).unwrap();
    let with = |text: &str| own.with(central::parse(&own.file, text, &own.policy).unwrap());
    let bare = with("");
    assert_eq!((&bare.server, &bare.identity, &bare.traffic.file), (&own.server, &own.identity, &own.traffic.file));
    assert_eq!(bare.traffic.cap, DataCap::default());
    let moved = with(
        "[server]\nurl = \"https://b.example\"\nproxy = \"http://proxy:3128\"\n[traffic]\nfile = \"/etc/passwd\"\n",
    );
    assert_eq!(moved.server.at.to_string(), "b.example:443");
    assert_eq!(moved.server.proxy, own.server.proxy, "with the password that only the router knows");
    assert_eq!(moved.server.keepalive_file, own.server.keepalive_file);
    assert_eq!(moved.traffic.file, own.traffic.file);
    assert_eq!(moved.warnings.len(), 1, "{:?}", moved.warnings);
    let other = with("[server]\nurl = \"https://b.example\"\nproxy = \"http://elsewhere:3128\"\n");
    assert_eq!(other.server.proxy.unwrap().credentials, None, "another proxy does not get the password");
}
