//! `[oidc]`: an OpenID provider whose people may sign in, and what its groups make of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::GroupRole;
use super::ldap::group_roles;
use super::parse::{duration, path_from};
use super::reader::{Problems, Section};

/// An OpenID provider whose people may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// What stands on the button.
    pub title: String,
    /// The provider, exactly as it names itself.
    pub issuer: String,
    /// The authority that its certificates come from; the system's authorities where none is named.
    pub ca_file: Option<PathBuf>,
    /// How this server is known there.
    pub client_id: String,
    /// The file with the secret it shares with the provider; none for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that holds the name to sign in with.
    pub name_claim: String,
    /// The claim that holds the groups.
    pub groups_claim: String,
    /// A person signs in again after this time; none: after that of everybody.
    pub session_lifetime: Option<Duration>,
    /// Who has not signed in through the provider for so long may do nothing until they do, whatever programs they have.
    pub trust_for: Duration,
    /// What groups make of people; the first that fits decides.
    pub roles: Vec<GroupRole>,
}

const KEYS: &[&str] = &[
    "title",
    "issuer",
    "ca_file",
    "client_id",
    "client_secret_file",
    "scopes",
    "name_claim",
    "groups_claim",
    "session_lifetime",
    "trust_for",
    "role",
];
/// How long the provider's word counts, where nothing is said.
const TRUST_FOR: Duration = Duration::from_hours(30 * 24);

pub(super) fn oidc(root: &Section<'_>, base: &Path, problems: &mut Problems<'_>) -> Option<Oidc> {
    root.at_key("oidc")?;
    let section = root.section("oidc", KEYS, problems);
    for (key, example) in [("issuer", "https://login.example.com/realms/plant"), ("client_id", "linkspan")] {
        if section.at_key(key).is_none() {
            problems.add(section.at(), format!("[oidc] needs `{key}`, like `{key} = \"{example}\"`"));
        }
    }
    let text = |text: &str| if text.is_empty() { Err("this may not be empty".to_owned()) } else { Ok(text.to_owned()) };
    let issuer = section.text("issuer", problems, issuer);
    let client_id = section.text("client_id", problems, text);
    let title = section.text("title", problems, text).unwrap_or_else(|| "your organisation".to_owned());
    let ca_file = section.text("ca_file", problems, |text| path_from(base, text));
    let client_secret_file = section.text("client_secret_file", problems, |text| path_from(base, text));
    let scopes = section.texts("scopes", problems, scope);
    let scopes = scopes.unwrap_or_else(|| ["profile", "email"].map(str::to_owned).to_vec());
    let name_claim = section.text("name_claim", problems, text).unwrap_or_else(|| "preferred_username".to_owned());
    let groups_claim = section.text("groups_claim", problems, text).unwrap_or_else(|| "groups".to_owned());
    let session_lifetime = section.text("session_lifetime", problems, duration);
    let trust_for = section.text("trust_for", problems, duration).unwrap_or(TRUST_FOR);
    let roles = group_roles(&section, problems);
    Some(Oidc {
        title,
        issuer: issuer?,
        ca_file,
        client_id: client_id?,
        client_secret_file,
        scopes,
        name_claim,
        groups_claim,
        session_lifetime,
        trust_for,
        roles,
    })
}

fn issuer(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.query().is_none());
    match url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()) && url.fragment().is_none()) {
        Some(_) => Ok(text.to_owned()),
        None => {
            Err(format!("`{text}` is not an issuer; write `https://login.example.com`, as the provider names itself"))
        }
    }
}

fn scope(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    fits.then(|| text.to_owned()).ok_or_else(|| format!("`{text}` is not a scope; write words like `profile`"))
}
