//! The part of a configuration that may come from the server, and what a router's own file shows of itself.

use std::path::Path;
use std::sync::Arc;

use log::LevelFilter;
use toml::de::{DeTable, DeValue};

use super::policy::Policy;
use super::problem::{Problem, Problems, Severity};
use super::reader::{Place, Reader, Section};
use super::{Config, DataCap, Device, Limits, Server};
use super::{check_size, device, limits, log_level, server, traffic};

/// Largest document that the server sends, in bytes: as a control message it may become twice as long.
pub const DOCUMENT_MAX: usize = 400 * 1024;

/// The tables that belong to the router alone. They are never sent, in neither direction.
pub const LOCAL_ONLY: [&str; 4] = ["discovery", "identity", "policy", "status"];

/// What a document of the server's says.
#[derive(Clone, Debug, PartialEq)]
pub struct Central {
    /// Which server; the router's own file says it, if absent.
    pub server: Option<Server>,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// Bounds.
    pub limits: Limits,
    /// How much data may be used in a month.
    pub cap: DataCap,
    /// What can be reached.
    pub devices: Vec<Device>,
    /// What should be looked at, although the document can be used.
    pub warnings: Vec<Problem>,
}

/// Reads a document for a router elsewhere: the files that it names are not looked at.
pub fn check(text: &str) -> Result<Central, Problems> {
    central(&Reader::central(Path::new("document"), text, Place::Elsewhere), text, &Policy::default())
}

/// Reads a document for this router, whose owner has a say in it. Relative paths count from the directory of `file`.
pub fn parse(file: &Path, text: &str, policy: &Policy) -> Result<Central, Problems> {
    central(&Reader::central(file, text, Place::Here), text, policy)
}

fn central(reader: &Reader<'_>, text: &str, policy: &Policy) -> Result<Central, Problems> {
    if text.len() > DOCUMENT_MAX {
        let what = format!("the document has {} bytes, and at most {DOCUMENT_MAX} can be sent", text.len());
        reader.error(&(0..0), what, "list fewer devices, or shorten comments");
        return Err(Problems(reader.problems()));
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    reader.not_toml(&errors);
    let mut root = Section::new(reader, "the document", table.get_ref(), 0..0);
    for name in LOCAL_ONLY {
        if root.has(name) {
            let what = format!("[{name}] belongs to the router alone and is not sent to it");
            reader.error(&root.span_of(name), what, "remove it here; it is written in the router's own file");
            let _known = root.value(name);
        }
    }
    let has_server = root.has("server");
    let server = server::server(root.section("server", "[server]").unless(!has_server));
    let log_level = log_level(root.section("log", "[log]"));
    let limits = limits(root.section("limits", "[limits]"));
    let cap = traffic(root.section("traffic", "[traffic]")).cap;
    let devices = device::devices(root.sections("device", "[[device]]"), policy);
    root.finish();
    let server = if has_server { server } else { None };
    check_size(reader, &devices);
    let problems = reader.problems();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Problems(problems));
    }
    Ok(Central { server, log_level, limits, cap, devices, warnings: problems })
}

impl Config {
    /// This configuration with what comes from the server in place of what it says itself. Who the gateway is, where it
    /// writes, and what its owner forbids stay.
    #[must_use]
    pub fn with(&self, central: Central) -> Self {
        let server = central.server.map_or_else(|| self.server.clone(), |server| self.own_way(server));
        let traffic = super::Traffic { cap: central.cap, ..self.traffic.clone() };
        Self {
            warnings: self.warnings.iter().cloned().chain(central.warnings).collect(),
            server,
            log_level: central.log_level,
            limits: central.limits,
            traffic,
            devices: central.devices,
            ..self.clone()
        }
    }

    /// The server that was sent, with what only the router knows: the word for its proxy, and where it notes things.
    fn own_way(&self, mut server: Server) -> Server {
        if let (Some(proxy), Some(own)) = (&mut server.proxy, &self.server.proxy)
            && proxy.at == own.at
        {
            proxy.credentials.clone_from(&own.credentials);
        }
        server.keepalive_file.clone_from(&self.server.keepalive_file);
        server
    }
}

/// What the server may see of a router's own file: its text without the tables that stay here, and without passwords.
/// Nothing, where they cannot be told apart for sure.
pub fn shown(text: &str) -> Option<Arc<str>> {
    let shown = without_passwords(&without_local(text));
    let (whole, errors) = DeTable::parse_recoverable(text);
    let (part, part_errors) = DeTable::parse_recoverable(&shown);
    let (whole, part) = (whole.get_ref(), part.get_ref());
    let same = whole.iter().all(|(key, value)| {
        let key = key.get_ref().as_ref();
        // The password of a proxy is in there.
        LOCAL_ONLY.contains(&key)
            || key == "server"
            || part.get(key).is_some_and(|part| same(part.get_ref(), value.get_ref()))
    });
    let nothing_else = part.iter().all(|(key, _)| {
        let key = key.get_ref().as_ref();
        !LOCAL_ONLY.contains(&key) && whole.contains_key(key)
    });
    let sound = errors.is_empty() && part_errors.is_empty() && same && nothing_else;
    (sound && part.contains_key("server") == whole.contains_key("server")).then(|| shown.into())
}

/// All that the file says beside the tables of [`LOCAL_ONLY`], in a form in which neither comments nor the order count. It may
/// hold passwords: it is there to be compared, and goes nowhere.
pub(super) fn counting(table: &DeTable<'_>) -> String {
    let mut text = String::new();
    let mut keys: Vec<_> = table.iter().filter(|(key, _)| !LOCAL_ONLY.contains(&key.get_ref().as_ref())).collect();
    keys.sort_by(|(one, _), (other, _)| one.get_ref().cmp(other.get_ref()));
    for (key, value) in keys {
        text.push_str(&format!("{:?}=", key.get_ref()));
        count(value.get_ref(), &mut text);
    }
    text
}

fn count(value: &DeValue<'_>, text: &mut String) {
    match value {
        DeValue::Table(table) => {
            let mut keys: Vec<_> = table.iter().collect();
            keys.sort_by(|(one, _), (other, _)| one.get_ref().cmp(other.get_ref()));
            text.push('{');
            for (key, value) in keys {
                text.push_str(&format!("{:?}=", key.get_ref()));
                count(value.get_ref(), text);
            }
            text.push('}');
        }
        DeValue::Array(items) => {
            text.push('[');
            items.iter().for_each(|item| count(item.get_ref(), text));
            text.push(']');
        }
        DeValue::String(value) => text.push_str(&format!("{value:?},")),
        DeValue::Integer(number) => text.push_str(&format!("{},", number.as_str())),
        other => {
            text.push_str(&format!("{},", other.as_bool().map_or("?", |flag| if flag { "true" } else { "false" })))
        }
    }
}

fn same(one: &DeValue<'_>, other: &DeValue<'_>) -> bool {
    match (one, other) {
        (DeValue::Table(one), DeValue::Table(other)) => {
            let equal =
                |key: &str, value: &DeValue<'_>| other.get(key).is_some_and(|other| same(value, other.get_ref()));
            one.len() == other.len() && one.iter().all(|(key, value)| equal(key.get_ref(), value.get_ref()))
        }
        (DeValue::Array(one), DeValue::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other.iter()).all(|(one, other)| same(one.get_ref(), other.get_ref()))
        }
        (DeValue::String(one), DeValue::String(other)) => one == other,
        (DeValue::Boolean(one), DeValue::Boolean(other)) => one == other,
        (DeValue::Integer(one), DeValue::Integer(other)) => one.as_str() == other.as_str(),
        // Neither has a place in a configuration, so nothing is lost if such a file is not shown.
        _ => false,
    }
}

/// The text without the tables of [`LOCAL_ONLY`] that have a header of their own, and the comments right above it.
fn without_local(text: &str) -> String {
    let (mut kept, mut pending, mut cutting) = (String::with_capacity(text.len()), String::new(), false);
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        if let Some(name) = table_name(start) {
            cutting = LOCAL_ONLY.contains(&name);
        }
        match (start.starts_with('#'), cutting) {
            // Whether it belongs to what is above or below is not known yet.
            (true, _) => pending.push_str(line),
            (false, true) => pending.clear(),
            (false, false) => {
                kept.push_str(&std::mem::take(&mut pending));
                kept.push_str(line);
            }
        }
    }
    if !cutting {
        kept.push_str(&pending);
    }
    kept
}

/// The first part of the name in a table's header.
fn table_name(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('[')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner).trim_start();
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))?;
    inner.get(..end).filter(|name| !name.is_empty())
}

/// The text with every URL bare of user and password, in comments too.
fn without_passwords(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        bare.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(after.len());
        let user = after.get(..end).and_then(|url| url.rfind('@')).map_or(0, |at| at + 1);
        rest = after.get(user..).unwrap_or_default();
    }
    bare.push_str(rest);
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# The gateway of site 12.\n[server]\nurl = \"https://a.example\"\n\
        proxy = \"http://me:hunter2@proxy:3128\" # once http://you:hunter3@proxy:1\n\n# Who we are.\n[identity]\n\
        name = \"site12\"\nsecret_file = \"s\"\n\n# What is forbidden.\n[policy]\nnetworks = [\n\"10.0.0.0/8\",\n]\n\
        # The press.\n[[device]]\nname = \"plc1\"\nhost = \"10.0.0.1\"\n[status]\nsocket = \"x\"\n# the end\n";

    #[test]
    fn the_server_sees_neither_who_the_router_is_nor_passwords() {
        let shown = shown(FILE).unwrap();
        assert_eq!(
            &*shown,
            "# The gateway of site 12.\n[server]\nurl = \"https://a.example\"\nproxy = \"http://proxy:3128\" # once \
             http://proxy:1\n\n# The press.\n[[device]]\nname = \"plc1\"\nhost = \"10.0.0.1\"\n"
        );
        check(&shown).unwrap();
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_shown() {
        for text in [
            "identity = { name = \"x\" }\n[server]\nurl = \"https://a.example\"\n",
            "identity.name = \"x\"\n",
            "[\"identity\"]\nname = \"x\"\n",
            "[server]\nurl = \"\"\"\n[identity]\n\"\"\"\n",
            "x = [\n[status]\n]\n",
            "not toml",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn what_counts_is_the_same_in_any_form_and_without_what_stays_here() {
        let counts = |text: &str| counting(DeTable::parse_recoverable(text).0.get_ref());
        let one = counts(
            "# a\nidentity = { name = \"x\" }\nlog = { level = \"info\" }\ndevice = [{ name = \"a\", host = \"h\" }]\n",
        );
        let other =
            counts("[[device]]\nhost = 'h' # b\nname = \"a\"\n[policy]\ncentral = true\n[log]\nlevel = \"info\"\n");
        assert_eq!(one, other);
        for edited in
            ["[log]\nlevel = \"debug\"\n[[device]]\nhost = \"h\"\nname = \"a\"\n", "[log]\nlevel = \"info\"\n", ""]
        {
            assert_ne!(counts(edited), one, "{edited}");
        }
    }

    #[test]
    fn a_document_is_read_without_its_files_and_without_what_stays_on_the_router() {
        let good = check(
            "[[device]]\nname = \"plc1\"\nhost = \"10.0.0.1\"\n[[device.service]]\nname = \"web\"\n\
             kind = \"https\"\nverify = \"ca\"\nca_file = \"/nowhere/ca.pem\"\n",
        );
        let good = good.unwrap();
        assert_eq!((good.devices.len(), good.server, good.limits), (1, None, Limits::default()));
        let bad =
            check("[server]\nurl = \"http://a\"\nca_file = \"/nowhere\"\n[identity]\nname = \"x\"\n").unwrap_err();
        let told = bad.to_string();
        assert!(told.contains("document:2:7: the server's url must begin with https://"), "{told}");
        assert!(told.contains("document:4:1: [identity] belongs to the router alone"), "{told}");
        let told = check("[server]\nurl = \"https://a\"\nproxy = \"http://u:p@proxy:1\"\n").unwrap_err().to_string();
        assert!(told.contains("stays on the router") && !told.contains("u:p"), "{told}");
        assert!(check(&"#\n".repeat(DOCUMENT_MAX)).is_err());
    }
}
