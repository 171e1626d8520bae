//! A template applied: a new revision for each gateway that follows it, all or nothing, and a rollout in waves.

use std::time::Duration;

use linkspan_config::Severity;
use linkspan_protocol::id::GatewayName;

use super::{Group, Look, Member, Names, Outcome, about};
use crate::store::{NewRollout, Staged, Store, StoreError};

/// Gateways of one rollout.
const MEMBERS_MAX: usize = 2000;
/// Bytes of all documents that are written at once.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Refusals that are told.
const TOLD_MAX: usize = 20;

/// How a template is applied.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was shown before; what has changed since is refused.
    pub fingerprint: Option<String>,
    /// To these only; to all that follow it, if there are none.
    pub only: Vec<GatewayName>,
    /// Leaves out who cannot get it, in place of refusing all.
    pub skip_refused: bool,
    /// Who does it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Gateways at a time.
    pub wave: u16,
    /// Within which all must be well at a gateway.
    pub deadline: Duration,
    /// Also in place of what somebody wrote on a router.
    pub overwrite: bool,
}

/// What was begun.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The rollout.
    pub rollout: i64,
    /// Gateways in it.
    pub gateways: usize,
    /// Those that get another document.
    pub changed: usize,
    /// Those that were left out, each with why.
    pub skipped: Vec<(GatewayName, String)>,
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// It is not what was shown.
    #[error("something has changed since this was shown: look at the preview again")]
    Changed,
    /// There is nobody.
    #[error("no gateway follows the template: one must carry all of its tags")]
    Nobody,
    /// A gateway that was named does not follow it.
    #[error("{0} does not follow the template: it must carry all of its tags")]
    Stranger(GatewayName),
    /// Too much at once.
    #[error("this is too much at once (2000 gateways, or 64 MiB of documents): name some of the gateways")]
    TooMuch,
    /// Some cannot get it.
    #[error("{} cannot get it, so nobody does:\n{}", .0.len(), told(.0))]
    Refused(Vec<(GatewayName, String)>),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a new revision for each gateway that follows the template and would get another document, and begins a rollout.
///
/// # Errors
/// [`NotApplied`]: then nothing is kept.
pub async fn apply_template(store: &Store, group: &Group, asked: &Asked) -> Result<Applied, NotApplied> {
    if asked.fingerprint.as_ref().is_some_and(|shown| *shown != group.fingerprint) {
        return Err(NotApplied::Changed);
    }
    let members = chosen(group, &asked.only)?;
    let (mut staged, mut refused) = (Vec::with_capacity(members.len()), Vec::new());
    let (mut names, mut bytes, mut changed) = (Names::default(), 0, 0);
    for member in members {
        let (gateway, name) = (member.standing.gateway, &member.standing.name);
        let look = group.look(store, member).await?;
        if let Some(why) = objection(&look, asked.overwrite, &mut names) {
            refused.push((name.clone(), why));
            continue;
        }
        bytes += look.document.as_ref().map_or(0, String::len);
        changed += usize::from(look.document.is_some());
        if bytes > BYTES_MAX {
            return Err(NotApplied::TooMuch);
        }
        staged.push(Staged { gateway, newest: member.standing.newest, document: look.document });
    }
    if staged.is_empty() || !(asked.skip_refused || refused.is_empty()) {
        return Err(NotApplied::Refused(refused));
    }
    let template = &group.template;
    let number = template.revision.number;
    let comment = match asked.comment.as_str() {
        "" => format!("template {}, revision {number}", template.name),
        text => text.to_owned(),
    };
    let new = NewRollout {
        tenant: template.tenant,
        author: asked.author.clone(),
        comment,
        wave: asked.wave.max(1).into(),
        deadline: asked.deadline,
        overwrite: asked.overwrite,
        members: Vec::new(),
    };
    let begun = store.begin_staged_rollout(&new, &staged, (&template.name, number)).await?;
    let rollout = begun.ok_or(NotApplied::Changed)?;
    Ok(Applied { rollout, gateways: staged.len(), changed, skipped: refused })
}

fn chosen<'a>(group: &'a Group, only: &[GatewayName]) -> Result<Vec<&'a Member>, NotApplied> {
    if let Some(stranger) = only.iter().find(|name| !group.names().any(|known| known == *name)) {
        return Err(NotApplied::Stranger(stranger.clone()));
    }
    let meant = |member: &&Member| only.is_empty() || only.contains(&member.standing.name);
    let members: Vec<_> = group.members.iter().filter(meant).collect();
    match members.len() {
        0 => Err(NotApplied::Nobody),
        number if number > MEMBERS_MAX => Err(NotApplied::TooMuch),
        _ => Ok(members),
    }
}

/// Why a gateway cannot get its document.
fn objection(look: &Look, overwrites: bool, names: &mut Names) -> Option<String> {
    let gateway = &look.preview.gateway;
    if look.preview.outcome == Outcome::Refused {
        let errors = look.preview.problems.iter().filter(|problem| problem.severity == Severity::Error);
        return Some(errors.map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    if look.preview.edited && !overwrites {
        return Some(about(gateway, "the file was edited on the router", "adopt that, or overwrite it").to_string());
    }
    let (device, other) = names.claim(gateway, &look.devices)?;
    let what = format!("{other} would have the device `{device}`, too");
    Some(about(gateway, what, "names are unique on the server: write {{ gateway.name }} into it").to_string())
}

fn told(refused: &[(GatewayName, String)]) -> String {
    let mut told: Vec<_> = refused.iter().take(TOLD_MAX).map(|(_, why)| why.clone()).collect();
    if refused.len() > TOLD_MAX {
        told.push("…".to_owned());
    }
    told.join("\n")
}
