//! One conversation with a directory's server: bind as the service account, search, bind as the person.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use ldap3::{
    Ldap as Handle, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchEntry, SearchOptions,
    ldap_escape,
};
use linkspan_protocol::id::Secret;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use super::entry::{ATTRIBUTES, is_disabled, subject, texts};
use super::{DirectoryError, Found, dn};
use crate::access::Token;
use crate::config::{GroupRole, Ldap, Nested};

/// Entries that are read of one answer; what comes beyond is a fault.
const ENTRIES_MAX: usize = 1000;
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 1000;
/// Levels of groups in groups.
const LEVELS_MAX: usize = 10;
/// Groups asked for in one question.
const PER_QUESTION: usize = 50;
/// "Success" (RFC 4511).
const SUCCESS: u32 = 0;
/// "There is more": what was asked for is there, up to the bound.
const SIZE_LIMIT: u32 = 4;
/// "No such object": there is nothing below that base.
const NO_SUCH_OBJECT: u32 = 32;
/// Answers to a bind that mean: not with this password. Wrong, unwilling, not allowed, not now.
const NOT_THEY: [u32; 5] = [49, 53, 50, 19, NO_SUCH_OBJECT];

/// A conversation; it ends when dropped.
pub(super) struct Talk<'d> {
    settings: &'d Ldap,
    handle: Handle,
    _driver: JoinSet<()>,
}

impl<'d> Talk<'d> {
    /// Connects, encrypted unless it is this machine.
    pub(super) async fn begin(settings: &'d Ldap, url: &str, tls: Arc<ClientConfig>) -> Result<Self, DirectoryError> {
        let how = LdapConnSettings::new().set_config(tls).set_starttls(settings.start_tls);
        let opened = LdapConnAsync::with_settings(how, url).await;
        let (connection, handle) = opened.map_err(|error| silent(&error))?;
        let mut driver = JoinSet::new();
        // What goes wrong with the connection is told by the question that waits for it.
        driver.spawn(async move { drop(connection.drive().await) });
        Ok(Self { settings, handle, _driver: driver })
    }

    /// Binds as the service account.
    pub(super) async fn introduce(&mut self, password: &Secret) -> Result<(), DirectoryError> {
        let LdapResult { rc, text, .. } = self.bind(&self.settings.bind_dn, password.expose()).await?;
        if rc != SUCCESS {
            return Err(DirectoryError::Refuses(format!("the service account cannot bind ({rc} {text})")));
        }
        Ok(())
    }

    /// Who this is, if the password is theirs. Somebody who is not there costs the same questions.
    pub(super) async fn sign_in(&mut self, name: &str, password: &Secret) -> Result<Option<Found>, DirectoryError> {
        let found = self.look_up(name).await?;
        let dn = match &found {
            Some(found) => found.dn.clone(),
            None => format!("cn={},{}", Token::random().hash(), self.settings.base),
        };
        let LdapResult { rc, text, .. } = self.bind(&dn, password.expose()).await?;
        match rc {
            SUCCESS => Ok(found),
            rc if NOT_THEY.contains(&rc) => Ok(None),
            rc => Err(DirectoryError::Refuses(format!("a person cannot bind ({rc} {text})"))),
        }
    }

    /// Who a name is: one entry, below the base.
    pub(super) async fn look_up(&mut self, name: &str) -> Result<Option<Found>, DirectoryError> {
        let filter = self.settings.user_filter.replace("{name}", &ldap_escape(name));
        let entries = self.search(&self.settings.base, &filter, ATTRIBUTES, 2).await?;
        let [entry] = entries.as_slice() else {
            if entries.len() > 1 {
                tracing::warn!(name, "the directory finds several people for one name; none of them may sign in");
            }
            return Ok(None);
        };
        if entry.dn.is_empty() || !dn::is_below(&entry.dn, &self.settings.base) {
            tracing::warn!(name, "the directory answers with somebody from elsewhere");
            return Ok(None);
        }
        let groups = self.groups(entry, name).await?;
        let role = self.settings.roles.iter().find(|role| fits(role, &groups)).cloned();
        let disabled = is_disabled(entry, Timestamp::now());
        Ok(Some(Found { dn: entry.dn.clone(), subject: subject(entry), role, disabled }))
    }

    /// The groups of somebody, by their normal names.
    async fn groups(&mut self, entry: &SearchEntry, name: &str) -> Result<BTreeMap<String, String>, DirectoryError> {
        let mut groups: BTreeMap<String, String> =
            texts(entry, "memberOf").map(|group| (dn::normal(group), group.clone())).collect();
        let person = ldap_escape(entry.dn.as_str());
        let filter = match self.settings.nested {
            Nested::ActiveDirectory => format!("(member:1.2.840.113556.1.4.1941:={person})"),
            Nested::No | Nested::Walk => {
                format!("(|(member={person})(uniqueMember={person})(memberUid={}))", ldap_escape(name))
            }
        };
        for group in self.search(&self.settings.group_base, &filter, &["cn"], ENTRIES_MAX).await? {
            groups.insert(dn::normal(&group.dn), group.dn);
        }
        if self.settings.nested == Nested::Walk {
            self.walk(&mut groups).await?;
        }
        Ok(groups)
    }

    /// Adds the groups that hold these groups, level by level. Circles end by themselves: nothing is asked for twice.
    async fn walk(&mut self, groups: &mut BTreeMap<String, String>) -> Result<(), DirectoryError> {
        let mut level: Vec<String> = groups.values().cloned().collect();
        for _ in 0..LEVELS_MAX {
            let mut next = Vec::new();
            for some in level.chunks(PER_QUESTION) {
                let each = |group: &String| {
                    let group = ldap_escape(group.as_str());
                    format!("(member={group})(uniqueMember={group})")
                };
                let filter = format!("(|{})", some.iter().map(each).collect::<String>());
                for group in self.search(&self.settings.group_base, &filter, &["cn"], ENTRIES_MAX).await? {
                    if groups.len() < GROUPS_MAX && groups.insert(dn::normal(&group.dn), group.dn.clone()).is_none() {
                        next.push(group.dn);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        Ok(())
    }

    /// The entries that a filter finds, up to `most`. Referrals are not followed.
    async fn search(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &[&str],
        most: usize,
    ) -> Result<Vec<SearchEntry>, DirectoryError> {
        let limit = i32::try_from(most).unwrap_or(i32::MAX);
        self.handle.with_search_options(SearchOptions::new().sizelimit(limit));
        let started = self.handle.streaming_search(base, Scope::Subtree, filter, attributes.to_vec()).await;
        let mut stream = started.map_err(|error| silent(&error))?;
        let mut found = Vec::new();
        while let Some(entry) = stream.next().await.map_err(|error| silent(&error))? {
            if entry.is_ref() || entry.is_intermediate() {
                continue;
            }
            // A server that ignores the bound is not listened to any further.
            if found.len() >= most {
                return Ok(found);
            }
            found.push(SearchEntry::construct(entry));
        }
        let LdapResult { rc, text, .. } = stream.finish().await;
        match rc {
            SUCCESS | SIZE_LIMIT | NO_SUCH_OBJECT => Ok(found),
            rc => Err(DirectoryError::Refuses(format!("a search fails ({rc} {text})"))),
        }
    }

    async fn bind(&mut self, dn: &str, password: &str) -> Result<LdapResult, DirectoryError> {
        self.handle.simple_bind(dn, password).await.map_err(|error| silent(&error))
    }
}

fn fits(role: &GroupRole, groups: &BTreeMap<String, String>) -> bool {
    role.group == "*" || groups.contains_key(&dn::normal(&role.group))
}

fn silent(error: &LdapError) -> DirectoryError {
    match error {
        LdapError::FilterParsing => DirectoryError::Refuses("`user_filter` is not a filter".to_owned()),
        other => DirectoryError::Silent(in_full(other)),
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
