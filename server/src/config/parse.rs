//! From the text of server.toml to [`Config`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use linkspan_protocol::limits::MEMORY_MIN;

use super::audit::audit;
use super::ldap::ldap;
use super::oidc::oidc;
use super::reader::{Problem, Problems, Section, parse_table};
use super::site::host_name;
use super::{Access, Config, Gateways, Limits, Listen, SecondFactor, Site, Store, Tls, Traffic, sqlite_in};

pub(super) fn parse(source: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::of(source);
    let table = parse_table(source, &mut problems);
    let keys = [
        "state_dir",
        "listen",
        "site",
        "tls",
        "store",
        "access",
        "ldap",
        "oidc",
        "traffic",
        "gateways",
        "audit",
        "limits",
    ];
    let root = Section::root(&table, &keys, &mut problems);
    let state_dir = root
        .text("state_dir", &mut problems, |text| path_from(base, text))
        .unwrap_or_else(|| PathBuf::from("/var/lib/linkspan"));
    let listen = listen(&root, &mut problems);
    let site = site(&root, &listen, &mut problems);
    let tls = tls(&root, base, &mut problems);
    let store = store(&root, base, &state_dir, &mut problems);
    let access = access(&root, &mut problems);
    let traffic = traffic(&root, &mut problems);
    let gateways = gateways(&root, &mut problems);
    let audit = audit(&root, base, &mut problems);
    let limits = limits(&root, &mut problems);
    let ldap = ldap(&root, base, &mut problems);
    let oidc = oidc(&root, base, &mut problems);
    match (site, tls, problems.into_sorted()) {
        (Some(site), Some(tls), none) if none.is_empty() => {
            Ok(Config { state_dir, listen, site, tls, store, access, ldap, oidc, traffic, gateways, audit, limits })
        }
        (_, _, problems) => Err(problems),
    }
}

fn listen(root: &Section<'_>, problems: &mut Problems<'_>) -> Listen {
    let section = root.section("listen", &["https", "http"], problems);
    let any = |port| vec![SocketAddr::from(([0, 0, 0, 0], port))];
    Listen {
        https: section.texts("https", problems, address).unwrap_or_else(|| any(443)),
        http: section.texts("http", problems, address).unwrap_or_else(|| any(80)),
    }
}

fn site(root: &Section<'_>, listen: &Listen, problems: &mut Problems<'_>) -> Option<Site> {
    let section = root.section("site", &["console", "zone", "port"], problems);
    let console = section.text("console", problems, host_name);
    let zone = section.text("zone", problems, host_name);
    let port = section.number("port", 1..65_536, problems).and_then(|port| u16::try_from(port).ok());
    for (key, example) in [("console", "remote.example.com"), ("zone", "devices.example.net")] {
        if section.at_key(key).is_none() {
            problems.add(section.at(), format!("[site] needs `{key}`, like `{key} = \"{example}\"`"));
        }
    }
    let (console, zone) = (console?, zone?);
    let at = section.at_key("console").unwrap_or_default();
    if console == zone || console.ends_with(&format!(".{zone}")) {
        problems.add(at, format!("the console may not lie in the device zone `{zone}`: its name would be a device's"));
    }
    let port = port.or_else(|| listen.https.first().map(SocketAddr::port).filter(|port| *port != 0)).unwrap_or(443);
    Some(Site { console, zone, port })
}

fn tls(root: &Section<'_>, base: &Path, problems: &mut Problems<'_>) -> Option<Tls> {
    let section = root.section("tls", &["certificate_file", "key_file", "self_signed", "acme"], problems);
    let certificate_file = section.text("certificate_file", problems, |text| path_from(base, text));
    let key_file = section.text("key_file", problems, |text| path_from(base, text));
    let self_signed = section.flag("self_signed", problems);
    if let Some(at) = section.at_key("acme") {
        problems.add(
            at,
            "`acme` is not available in this version; write `certificate_file` and `key_file`, \
             kept fresh by an ACME client of your choice",
        );
        return None;
    }
    match (certificate_file, key_file, self_signed) {
        (Some(certificate_file), Some(key_file), None | Some(false)) => Some(Tls::Files { certificate_file, key_file }),
        (None, None, Some(true)) => Some(Tls::SelfSigned),
        (None, None, _) if section.at_key("certificate_file").is_some() => None,
        (None, None, _) => {
            let wish = "[tls] needs `certificate_file` and `key_file`, or `self_signed = true`";
            problems.add(section.at(), wish);
            None
        }
        (_, _, Some(true)) => {
            let at = section.at_key("self_signed").unwrap_or_default();
            problems.add(at, "write either `self_signed = true` or the two files, not both");
            None
        }
        (Some(_), None, _) if section.at_key("key_file").is_none() => {
            problems.add(section.at(), "`certificate_file` needs its `key_file`");
            None
        }
        (None, Some(_), _) if section.at_key("certificate_file").is_none() => {
            problems.add(section.at(), "`key_file` needs its `certificate_file`");
            None
        }
        _ => None,
    }
}

fn store(root: &Section<'_>, base: &Path, state_dir: &Path, problems: &mut Problems<'_>) -> Store {
    let section = root.section("store", &["url"], problems);
    let url = section.text("url", problems, |url| {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Err("PostgreSQL is not available in this version; write `sqlite:/path/linkspan.db`".to_owned());
        }
        let Some(file) = url.strip_prefix("sqlite:") else {
            return Err(format!("`{url}` is not a database; write `sqlite:/path/linkspan.db`"));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.contains(['?', '#']) {
            return Err("write the path alone after `sqlite:`, without `?` or `#`".to_owned());
        }
        Ok(format!("sqlite:{}", path_from(base, file)?.display()))
    });
    Store { url: url.unwrap_or_else(|| sqlite_in(state_dir)) }
}

fn access(root: &Section<'_>, problems: &mut Problems<'_>) -> Access {
    let section = root.section("access", &["session_lifetime", "session_idle", "second_factor"], problems);
    let fallback = Access::default();
    let access = Access {
        session_lifetime: section.text("session_lifetime", problems, duration).unwrap_or(fallback.session_lifetime),
        session_idle: section.text("session_idle", problems, duration).unwrap_or(fallback.session_idle),
        second_factor: second_factor(&section, problems),
    };
    if let Some(at) = section.at_key("session_idle").filter(|_| access.session_idle > access.session_lifetime) {
        problems.add(at, "`session_idle` may not be longer than `session_lifetime`");
    }
    access
}

fn traffic(root: &Section<'_>, problems: &mut Problems<'_>) -> Traffic {
    let section = root.section("traffic", &["zone", "keep_months"], problems);
    let fallback = Traffic::default();
    let zone = section.text("zone", problems, |name| {
        TimeZone::get(name)
            .map_err(|_| format!("`{name}` is not a time zone of this system; write one like `Europe/Berlin`"))
    });
    let keep_months = section.number("keep_months", 1..1201, problems).and_then(|number| u32::try_from(number).ok());
    Traffic { zone: zone.unwrap_or(fallback.zone), keep_months: keep_months.unwrap_or(fallback.keep_months) }
}

fn second_factor(section: &Section<'_>, problems: &mut Problems<'_>) -> SecondFactor {
    let is_role =
        |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    let words = section.texts("second_factor", problems, |text| {
        let fits = is_role(text).then(|| text.to_owned());
        fits.ok_or_else(|| format!("`{text}` is not a role; write `optional`, `required`, or a list of roles"))
    });
    match words.unwrap_or_default() {
        words if words.is_empty() || words == ["optional"] => SecondFactor::Nobody,
        words if words == ["required"] => SecondFactor::Everybody,
        words => SecondFactor::Roles(words),
    }
}

fn gateways(root: &Section<'_>, problems: &mut Problems<'_>) -> Gateways {
    let section = root.section("gateways", &["certificate_lifetime", "certificate_grace", "keepalive_max"], problems);
    let fallback = Gateways::default();
    let mut time = |key, fallback| section.text(key, problems, duration).unwrap_or(fallback);
    let (certificate_lifetime, certificate_grace) = (
        time("certificate_lifetime", fallback.certificate_lifetime),
        time("certificate_grace", fallback.certificate_grace),
    );
    Gateways {
        certificate_lifetime,
        certificate_grace,
        keepalive_max: section.text("keepalive_max", problems, silence).unwrap_or(fallback.keepalive_max),
    }
}

fn limits(root: &Section<'_>, problems: &mut Problems<'_>) -> Limits {
    let keys = ["max_connections", "api_requests", "drain", "resume", "link_memory"];
    let section = root.section("limits", &keys, problems);
    let fallback = Limits::default();
    let api_requests = section.number("api_requests", 0..1_000_001, problems).and_then(|n| u32::try_from(n).ok());
    Limits {
        api_requests: api_requests.unwrap_or(fallback.api_requests),
        drain: section.text("drain", problems, duration).unwrap_or(fallback.drain),
        resume: section.text("resume", problems, duration_or_none).unwrap_or(fallback.resume),
        link_memory: section.text("link_memory", problems, memory).unwrap_or(fallback.link_memory),
        max_connections: section
            .number("max_connections", 16..10_000_001, problems)
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(fallback.max_connections),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an address and port; write `0.0.0.0:443`, or `[::]:443` for IPv6"))
}

pub(super) fn path_from(base: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path may not be empty; leave the key out instead".to_owned());
    }
    Ok(base.join(text))
}

/// The longest time that may be written: beyond a year something else is meant.
const LONGEST: Duration = Duration::from_hours(24 * 366);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    match time.filter(|time| !time.is_zero()) {
        Some(time) if time <= LONGEST => Ok(time),
        Some(_) => Err(format!("`{text}` is too long; the longest time is a year, `8784h`")),
        None => Err(format!("`{text}` is not a time; write `30s`, `5m` or `12h`")),
    }
}

/// What a link may be silent for; gateways take nothing else.
const SILENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(15)..=Duration::from_hours(1);

fn silence(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if SILENCE.contains(&time) {
        Ok(time)
    } else {
        Err(format!("`{text}` is not from 15 seconds to an hour, `15s` to `1h`"))
    }
}

/// The longest time for which connections may outlive their link.
const RESUME_LONGEST: Duration = Duration::from_hours(1);

fn duration_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0s" => Ok(Duration::ZERO),
        text => match duration(text)? {
            time if time <= RESUME_LONGEST => Ok(time),
            _ => Err(format!("`{text}` is too long; the longest time is an hour, `1h`")),
        },
    }
}

/// What `link_memory` may be, in bytes.
const MEMORY: std::ops::RangeInclusive<usize> = MEMORY_MIN..=1_000_000_000;

fn memory(text: &str) -> Result<usize, String> {
    let bytes = [("kB", 1000), ("MB", 1_000_000)].into_iter().find_map(|(unit, bytes)| {
        let number = text.strip_suffix(unit)?.trim_end();
        number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<usize>().ok()?.checked_mul(bytes)).flatten()
    });
    match bytes.filter(|bytes| MEMORY.contains(bytes)) {
        Some(bytes) => Ok(bytes),
        None => Err(format!("`{text}` is not an amount of memory from 500 kB to 1000 MB; write `32 MB`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[site]\nconsole = \"c.test\"\nzone = \"z.test\"\n[tls]\nself_signed = true\n";

    fn problems(source: &str) -> Vec<String> {
        parse(source, Path::new("/etc/linkspan")).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_smallest_file_has_sensible_defaults() {
        let config = parse(SMALL, Path::new("/etc/linkspan")).unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/linkspan"));
        assert_eq!(config.store.url, "sqlite:/var/lib/linkspan/linkspan.db");
        assert_eq!(config.site.port, 443);
        assert_eq!(config.listen.http, ["0.0.0.0:80".parse().unwrap()]);
        assert_eq!(config.limits, Limits::default());
    }

    /// Every key of every section.
    const KEYS: &[&str] = &[
        "state_dir",
        "https",
        "http",
        "console",
        "zone",
        "port",
        "certificate_file",
        "key_file",
        "url",
        "certificate_lifetime",
        "certificate_grace",
        "keepalive_max",
        "self_signed",
        "session_lifetime",
        "session_idle",
        "second_factor",
        "trust_for",
        "keep_days",
        "syslog",
        "webhook",
        "webhook_secret_file",
        "ca_file",
        "start_tls",
        "ca_file",
        "bind_dn",
        "bind_password_file",
        "base",
        "user_filter",
        "group_base",
        "nested",
        "recheck",
        "grace",
        "group",
        "role",
        "tenant",
        "title",
        "issuer",
        "client_id",
        "client_secret_file",
        "scopes",
        "name_claim",
        "groups_claim",
        "max_connections",
        "api_requests",
        "drain",
        "resume",
        "link_memory",
    ];

    #[test]
    fn the_example_documents_every_key_and_means_the_defaults() {
        let example = include_str!("../../server.example.toml");
        let shown = parse(example, Path::new("/etc/linkspan")).unwrap();
        assert_eq!(shown.limits, Limits::default());
        assert_eq!(shown.access, Access::default());
        assert_eq!(shown.gateways, Gateways::default());
        assert_eq!(shown.audit, crate::config::Audit::default());
        for key in KEYS {
            let shown = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} ="));
            assert!(example.lines().any(shown), "{key} is not in the example");
        }
        // What is commented out is right as well.
        let mut all = String::new();
        for line in example.lines() {
            let is_key = |rest: &&str| rest.starts_with('[') || (rest.contains(" = ") && !rest.starts_with(' '));
            let bare = line.strip_prefix('#').filter(is_key);
            all.push_str(bare.unwrap_or(line));
            all.push('\n');
        }
        let found = parse(&all, Path::new("/etc/linkspan")).unwrap_err();
        assert_eq!(found.len(), 1, "only self_signed stands against the files: {found:?}");
    }

    #[test]
    fn who_must_have_a_second_factor_is_said_in_a_word_or_by_roles() {
        let with = |value: &str| parse(&format!("{SMALL}[access]\nsecond_factor = {value}\n"), Path::new("/"));
        let said = |value: &str| with(value).unwrap().access.second_factor;
        assert_eq!(said("\"optional\""), SecondFactor::Nobody);
        assert_eq!(said("\"required\""), SecondFactor::Everybody);
        assert_eq!(said("[\"admin\", \"technician\"]"), SecondFactor::Roles(vec!["admin".into(), "technician".into()]));
        let told = with("[\"ad min\"]").unwrap_err()[0].to_string();
        assert!(told.contains("`ad min` is not a role"), "{told}");
        assert!(with("true").is_err());
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!(duration("8784h"), Ok(LONGEST));
        assert_eq!(duration("8785h").unwrap_err(), "`8785h` is too long; the longest time is a year, `8784h`");
        for not in ["", "0s", "-5s", "5", "soon", "99999999999999999999h"] {
            assert_eq!(duration(not).unwrap_err(), format!("`{not}` is not a time; write `30s`, `5m` or `12h`"));
        }
    }

    #[test]
    fn links_have_bounds() {
        assert_eq!(duration_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_none("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration_or_none("2h").unwrap_err(), "`2h` is too long; the longest time is an hour, `1h`");
        assert_eq!(memory("32MB"), Ok(32_000_000));
        assert_eq!(memory("500 kB"), Ok(500_000));
        for not in ["", "MB", "32", "+1MB", "499 kB", "1001 MB", "1GB", "99999999999999999999MB"] {
            let told = memory(not).unwrap_err();
            assert_eq!(told, format!("`{not}` is not an amount of memory from 500 kB to 1000 MB; write `32 MB`"));
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let source = "state_dri = \"/x\"\n[listen]\nhttps = \"443\"\nhttp = [\"0.0.0.0:80\", 81]\n[site]\n\
            console = \"https://c.test/\"\nzone = \"*.z.test\"\nport = \"443\"\n[tls]\nacme = true\n[store]\n\
            url = \"postgres://db/x\"\n[limits]\ndrain = \"soon\"\nmax_connections = 1\n[ldpa]\nurl = \"x\"\n";
        let expected = [
            "line 1, column 1: unknown key `state_dri`; did you mean `state_dir`?",
            "line 3, column 9: `443` is not an address and port; write `0.0.0.0:443`, or `[::]:443` for IPv6",
            "line 4, column 23: `http` is a list of texts: write `http = [\"…\"]`",
            "line 6, column 11: `https://c.test/` is a URL; write the host name alone, like `remote.example.com`",
            "line 7, column 8: write `z.test`; that names below it are meant goes without saying",
            "line 8, column 8: `port` is a whole number from 1 to 65535, without quotes; not a text",
            "line 10, column 8: `acme` is not available in this version; write `certificate_file` and `key_file`, \
             kept fresh by an ACME client of your choice",
            "line 12, column 7: PostgreSQL is not available in this version; write `sqlite:/path/linkspan.db`",
            "line 14, column 9: `soon` is not a time; write `30s`, `5m` or `12h`",
            "line 15, column 19: `max_connections` is a whole number from 16 to 10000000, without quotes",
            "line 16, column 2: unknown key `ldpa`; did you mean `ldap`?",
        ];
        assert_eq!(problems(source), expected);
    }

    #[test]
    fn what_is_missing_is_asked_for() {
        assert_eq!(
            problems(""),
            [
                "line 1, column 1: [site] needs `console`, like `console = \"remote.example.com\"`",
                "line 1, column 1: [site] needs `zone`, like `zone = \"devices.example.net\"`",
                "line 1, column 1: [tls] needs `certificate_file` and `key_file`, or `self_signed = true`",
            ]
        );
        let half = SMALL.replace("self_signed = true", "certificate_file = \"c.pem\"");
        assert_eq!(problems(&half), ["line 4, column 1: `certificate_file` needs its `key_file`"]);
    }

    #[test]
    fn the_console_is_not_a_device() {
        let source = SMALL.replace("c.test", "console.z.test");
        let told = problems(&source);
        assert!(told[0].starts_with("line 2, column 11: the console may not lie in the device zone"), "{told:?}");
    }

    #[test]
    fn broken_toml_is_told_with_its_place() {
        let told = problems("[site\nconsole = \"c.test\"\n= 3\n");
        assert!(told.iter().any(|line| line.contains("not TOML")), "{told:?}");
    }

    #[test]
    fn relative_paths_count_from_the_file() {
        let source = "state_dir = \"state\"\n[site]\nconsole = \"c.test\"\nzone = \"z.test\"\n[tls]\n\
            certificate_file = \"tls/c.pem\"\nkey_file = \"/k.pem\"\n[store]\nurl = \"sqlite:x.db\"\n";
        let config = parse(source, Path::new("/etc/linkspan")).unwrap();
        assert_eq!(config.state_dir, Path::new("/etc/linkspan/state"));
        assert_eq!(config.store.url, "sqlite:/etc/linkspan/x.db");
        let files = Tls::Files { certificate_file: "/etc/linkspan/tls/c.pem".into(), key_file: "/k.pem".into() };
        assert_eq!(config.tls, files);
    }
}
