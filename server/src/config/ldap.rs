//! `[ldap]`: a directory whose people may sign in, and what its groups make of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parse::{duration, path_from};
use super::reader::{Problems, Section};
use crate::store::TenantName;

/// A directory whose people may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldap {
    /// Its servers, in the order in which they are tried.
    pub urls: Vec<String>,
    /// TLS begins after the connection is made (`ldap://`); otherwise with it (`ldaps://`).
    pub start_tls: bool,
    /// The authority that its certificates come from; the system's authorities where none is named.
    pub ca_file: Option<PathBuf>,
    /// Who asks.
    pub bind_dn: String,
    /// The file with their password.
    pub bind_password_file: PathBuf,
    /// Where people are looked for.
    pub base: String,
    /// How a person is found; `{name}` stands for what they typed.
    pub user_filter: String,
    /// Where groups are looked for.
    pub group_base: String,
    /// Whether groups in groups count.
    pub nested: Nested,
    /// What groups make of people; the first that fits decides.
    pub roles: Vec<GroupRole>,
    /// How often it is asked whether somebody who is signed in still may be.
    pub recheck: Duration,
    /// How long people stay signed in while it does not answer.
    pub grace: Duration,
}

/// Whether groups in groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    /// Only those that name the person.
    No,
    /// Found by asking for the groups of groups, level by level.
    Walk,
    /// Found by Active Directory itself, in one question.
    ActiveDirectory,
}

/// What one group makes of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRole {
    /// The group, as its source names it; `*` is everybody.
    pub group: String,
    /// The role on everything in the tenant.
    pub role: String,
    /// The organisation they belong to.
    pub tenant: TenantName,
}

const KEYS: &[&str] = &[
    "url",
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
    "role",
];

/// For OpenLDAP and most others.
const USER_FILTER: &str = "(&(objectClass=person)(uid={name}))";

pub(super) fn ldap(root: &Section<'_>, base: &Path, problems: &mut Problems<'_>) -> Option<Ldap> {
    root.at_key("ldap")?;
    let section = root.section("ldap", KEYS, problems);
    let start_tls = section.flag("start_tls", problems).unwrap_or(false);
    let urls = section.texts("url", problems, |url| usable(url, start_tls));
    for (key, example) in [
        ("url", "ldaps://dc1.example.com"),
        ("bind_dn", "cn=linkspan,ou=services,dc=example,dc=com"),
        ("bind_password_file", "ldap-password"),
        ("base", "dc=example,dc=com"),
    ] {
        if section.at_key(key).is_none() {
            problems.add(section.at(), format!("[ldap] needs `{key}`, like `{key} = \"{example}\"`"));
        }
    }
    let text = |text: &str| if text.is_empty() { Err("this may not be empty".to_owned()) } else { Ok(text.to_owned()) };
    let ca_file = section.text("ca_file", problems, |text| path_from(base, text));
    let bind_dn = section.text("bind_dn", problems, text);
    let bind_password_file = section.text("bind_password_file", problems, |text| path_from(base, text));
    let people = section.text("base", problems, text);
    let user_filter = section.text("user_filter", problems, filter).unwrap_or_else(|| USER_FILTER.to_owned());
    let group_base = section.text("group_base", problems, text).or_else(|| people.clone());
    let nested = section.text("nested", problems, nested).unwrap_or(Nested::No);
    let recheck = section.text("recheck", problems, duration).unwrap_or(Duration::from_secs(10));
    let grace = section.text("grace", problems, duration).unwrap_or(Duration::from_mins(10));
    let roles = group_roles(&section, problems);
    Some(Ldap {
        urls: urls?,
        start_tls,
        ca_file,
        bind_dn: bind_dn?,
        bind_password_file: bind_password_file?,
        base: people?,
        user_filter,
        group_base: group_base?,
        nested,
        roles,
        recheck,
        grace,
    })
}

/// `[[….role]]`: what groups make of people.
pub(super) fn group_roles(section: &Section<'_>, problems: &mut Problems<'_>) -> Vec<GroupRole> {
    let mut all = Vec::new();
    let tables = section.tables("role", &["group", "role", "tenant"], problems);
    for table in &tables {
        let text =
            |text: &str| if text.is_empty() { Err("this may not be empty".to_owned()) } else { Ok(text.to_owned()) };
        let group = table.text("group", problems, text);
        let role = table.text("role", problems, text);
        let tenant = table.text("tenant", problems, |text| text.parse::<TenantName>().map_err(|why| why.to_string()));
        for key in ["group", "role"] {
            if table.at_key(key).is_none() {
                problems.add(table.at(), format!("each `role` names a `group` and a `role`; `{key}` is missing"));
            }
        }
        let tenant = tenant.or_else(|| "default".parse().ok());
        if let (Some(group), Some(role), Some(tenant)) = (group, role, tenant) {
            all.push(GroupRole { group, role, tenant });
        }
    }
    if tables.is_empty() {
        problems.add(section.at(), "without a `role` nobody may sign in: say what which group makes of people");
    }
    all
}

/// A URL that gives no password away on its way.
fn usable(text: &str, start_tls: bool) -> Result<String, String> {
    let url = url::Url::parse(text).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let url = url.ok_or_else(|| format!("`{text}` is not a directory; write `ldaps://dc1.example.com`"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "ldaps" if start_tls => {
            Err("`ldaps://` is encrypted from the start; write `ldap://` or leave `start_tls` out".into())
        }
        "ldaps" => Ok(text.to_owned()),
        "ldap" if start_tls || local => Ok(text.to_owned()),
        "ldap" => Err("passwords would be readable on their way: write `ldaps://`, or `start_tls = true`".into()),
        _ => Err(format!("`{text}` is not a directory; write `ldaps://dc1.example.com`")),
    }
}

fn filter(text: &str) -> Result<String, String> {
    if !text.contains("{name}") {
        return Err(format!("the filter must hold `{{name}}`, like `{USER_FILTER}`"));
    }
    Ok(text.to_owned())
}

fn nested(text: &str) -> Result<Nested, String> {
    match text {
        "no" => Ok(Nested::No),
        "walk" => Ok(Nested::Walk),
        "active-directory" => Ok(Nested::ActiveDirectory),
        _ => Err(format!("`{text}` is not a way to find groups in groups; write `no`, `walk` or `active-directory`")),
    }
}
