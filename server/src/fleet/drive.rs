//! The way there: sends revisions to gateways, some at a time, hears how each fares, and stops where one fails.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::message::{ConfigState, ConfigTry, ServerToGateway};
use linkspan_protocol::text::tame;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Fleet, sha256};
use crate::audit::{Action, Actor, ActorKind, Entry, Target};
use crate::events::{Gateway, What};
use crate::rights::GatewayId;
use crate::store::{ConfigReport, Member, MemberState, Rollout, StoreError, Turn};

/// Between two looks at what is under way, if nothing is heard: the command line begins rollouts too.
const LOOK: Duration = Duration::from_secs(1);
/// What a gateway may take beyond the deadline: to probe its devices before, to dial again after.
const GRACE: Duration = Duration::from_secs(45);
/// Times that one revision is sent to a gateway whose answer is lost.
const ATTEMPTS: i64 = 3;
/// Characters that are kept of what a gateway says.
const TEXT_MAX: usize = 2000;

impl Fleet {
    /// Moves rollouts on until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.look().await {
                warn!(error = error.in_full(), "rollouts of configurations cannot go on; it will be tried again");
            }
            let woken = timeout(LOOK, self.wake.notified());
            if stop.run_until_cancelled(woken).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        for rollout in self.store.running_rollouts().await? {
            self.advance(&rollout).await?;
        }
        for (member, deadline) in self.store.stragglers().await? {
            self.expire(&member, deadline).await?;
        }
        Ok(())
    }

    /// Moves one rollout on.
    async fn advance(&self, rollout: &Rollout) -> Result<(), StoreError> {
        let members = self.store.rollout_members(rollout.id).await?;
        if let Some(failed) = members.iter().find(|member| member.state == MemberState::Failed) {
            let reason = format!("{} failed", failed.name);
            self.store.end_rollout(rollout.id, Some(&reason)).await?;
            return Ok(());
        }
        if members.iter().all(|member| member.state.is_final()) {
            self.store.end_rollout(rollout.id, None).await?;
            return Ok(());
        }
        let wave = usize::try_from(rollout.wave).unwrap_or(1).max(1);
        for chunk in members.chunks(wave) {
            let mut busy = false;
            for member in chunk {
                busy |= self.attend(rollout, member).await?;
            }
            if busy {
                break;
            }
        }
        Ok(())
    }

    /// Does what is due for one member; whether its wave must wait for it. Nobody waits for who is offline.
    async fn attend(&self, rollout: &Rollout, member: &Member) -> Result<bool, StoreError> {
        match member.state {
            MemberState::Waiting | MemberState::Ready => self.send(rollout, member).await,
            MemberState::Sent => Ok(!self.expire(member, rollout.deadline).await?),
            MemberState::Kept | MemberState::Failed | MemberState::Skipped => Ok(false),
        }
    }

    async fn send(&self, rollout: &Rollout, member: &Member) -> Result<bool, StoreError> {
        let turn = |to, failed| Turn { from: member.state, to, failed };
        let here = self.registry.online_since(member.gateway).is_some() && self.able().contains_key(&member.gateway);
        if self.store.member_under_way(member.gateway).await?.is_some() {
            // An earlier rollout has not come to its end there: a gateway tries one document at a time.
            return Ok(true);
        }
        let report = self.store.config_report(member.gateway).await?;
        let (true, Some(report)) = (here, report) else {
            if member.state == MemberState::Waiting {
                self.store.turn_member(member, turn(MemberState::Ready, None)).await?;
            }
            return Ok(false);
        };
        if report.revision == Some(member.revision) && !report.edited {
            self.store.turn_member(member, turn(MemberState::Kept, None)).await?;
            self.told(member, None).await;
            return Ok(false);
        }
        let Some(revision) = self.store.revision(member.gateway, Some(member.revision)).await? else {
            return Ok(false);
        };
        // What was written on the router may be adopted: it becomes a revision.
        let adopts = sha256(&revision.document) == report.sha256;
        if let Some((check, text)) = objection(&report, rollout.overwrite || adopts) {
            self.store.turn_member(member, turn(MemberState::Failed, Some((check, text)))).await?;
            self.told(member, Some((check, text))).await;
            return Ok(true);
        }
        // Noted first: a server that dies in between takes it for sent, and for lost when the gateway says it anew.
        if !self.store.turn_member(member, turn(MemberState::Sent, None)).await? {
            return Ok(true);
        }
        let message = ServerToGateway::ConfigTry(ConfigTry {
            order: order(member, member.attempts + 1),
            revision: u64::try_from(member.revision).unwrap_or(0),
            text: revision.document,
            deadline_s: u32::try_from(rollout.deadline.as_secs()).unwrap_or(u32::MAX),
            instead_of: (!rollout.overwrite).then_some(report.sha256),
        });
        if !self.registry.tell(member.gateway, &message) {
            let back = Turn { from: MemberState::Sent, to: MemberState::Ready, failed: None };
            self.store.turn_member(member, back).await?;
            return Ok(false);
        }
        tracing::debug!(gateway = %member.name, revision = member.revision, "a configuration was sent");
        Ok(true)
    }

    /// Gives up on a gateway that has not come back; true if so.
    async fn expire(&self, member: &Member, deadline: Duration) -> Result<bool, StoreError> {
        let end = member.at.saturating_add(deadline + GRACE).unwrap_or(Timestamp::MAX);
        if Timestamp::now() < end {
            return Ok(false);
        }
        let text = format!("the gateway has not been heard of within {} s of the deadline", GRACE.as_secs());
        let failed = Some(("link", text.as_str()));
        let turn = Turn { from: MemberState::Sent, to: MemberState::Failed, failed };
        if self.store.turn_member(member, turn).await? {
            self.told(member, failed).await;
        }
        Ok(true)
    }

    /// A gateway begins a session: whether it knows of configurations, it is about to say.
    pub fn arrived(&self, gateway: GatewayId) {
        self.able().remove(&gateway);
    }

    /// What a gateway says of its configuration, and what it is answered.
    ///
    /// # Errors
    /// The database failed.
    pub async fn heard(&self, gateway: &Gateway, state: &ConfigState) -> Result<Vec<ServerToGateway>, StoreError> {
        self.able().insert(gateway.id, gateway.name.clone());
        if state.sha256.len() != 64 || !state.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let revision = state.revision.and_then(|number| i64::try_from(number).ok());
        let own = match revision.filter(|_| !state.edited) {
            Some(number) => self.store.revision(gateway.id, Some(number)).await?,
            None => None,
        };
        // The document of a revision need not be sent by the gateway.
        let document = own.map(|own| own.document).filter(|document| sha256(document) == state.sha256);
        let report = ConfigReport {
            revision,
            sha256: state.sha256.clone(),
            document,
            edited: state.edited,
            own_only: state.own_only,
            at: Timestamp::now(),
        };
        self.store.keep_config_report(gateway.id, &report).await?;
        let mut answers = Vec::new();
        if self.store.config_report(gateway.id).await?.is_some_and(|known| known.document.is_none()) {
            answers.push(ServerToGateway::ConfigSend {});
        }
        let under_way = self.store.member_under_way(gateway.id).await?;
        let last = match under_way {
            Some(member) => Some(member),
            None => self.store.last_member(gateway.id).await?,
        };
        if let Some(member) = last {
            answers.extend(self.judge(&member, state).await?);
        }
        self.events.tell(What::ConfigChanged(gateway.clone()));
        self.wake.notify_one();
        Ok(answers)
    }

    /// What the word of a gateway means for what was sent to it.
    async fn judge(&self, member: &Member, state: &ConfigState) -> Result<Option<ServerToGateway>, StoreError> {
        let order = order(member, member.attempts);
        let late = member.state == MemberState::Failed && member.failed_check.as_deref() == Some("link");
        if member.state != MemberState::Sent && !late {
            return Ok(None);
        }
        let turn = |to, failed| Turn { from: member.state, to, failed };
        if state.trying.as_deref() == Some(order.as_str()) {
            // From the server's end all is well: it hears the gateway, and knows it.
            return Ok((!late).then_some(ServerToGateway::ConfigConfirm { order }));
        }
        if let Some(failed) = state.failed.as_ref().filter(|failed| failed.order == order) {
            let text = failed.text.lines().map(tame).collect::<Vec<_>>().join("\n");
            let (check, text): (_, String) = (tame(&failed.check), text.chars().take(TEXT_MAX).collect());
            let failed = Some((check.as_str(), text.as_str()));
            if self.store.turn_member(member, turn(MemberState::Failed, failed)).await? {
                self.told(member, failed).await;
            }
        } else if state.revision == u64::try_from(member.revision).ok() && !state.edited {
            if self.store.turn_member(member, turn(MemberState::Kept, None)).await? {
                self.told(member, None).await;
            }
        } else if state.begins && !late {
            // It knows nothing of it: the message was lost with the session before.
            let again = member.attempts < ATTEMPTS;
            let failed = (!again).then_some(("link", "the gateway lost it each time it was sent"));
            let to = if again { MemberState::Ready } else { MemberState::Failed };
            self.store.turn_member(member, turn(to, failed)).await?;
            if failed.is_some() {
                self.told(member, failed).await;
            }
        }
        Ok(None)
    }

    /// The document that a gateway lives by.
    ///
    /// # Errors
    /// The database failed.
    pub async fn learned(&self, gateway: &Gateway, said: &str, text: Option<String>) -> Result<(), StoreError> {
        let Some(text) = text.filter(|text| sha256(text) == said) else { return Ok(()) };
        let Some(report) = self.store.config_report(gateway.id).await? else { return Ok(()) };
        if report.sha256 == said && report.document.is_none() {
            let report = ConfigReport { document: Some(text), ..report };
            self.store.keep_config_report(gateway.id, &report).await?;
            self.events.tell(What::ConfigChanged(gateway.clone()));
        }
        Ok(())
    }

    /// Tells how it ended for one gateway.
    async fn told(&self, member: &Member, failed: Option<(&str, &str)>) {
        let tenant = self.store.gateway_tenant(member.gateway).await.ok().flatten();
        let actor = Actor { tenant, ..Actor::new(ActorKind::Gateway, member.name.as_str()) };
        let entry = |action| {
            let entry = Entry::new(action, actor).on(Target::gateway(&member.name));
            entry.with("revision", member.revision)
        };
        match failed {
            None => {
                info!(gateway = %member.name, revision = member.revision, "the configuration is kept");
                self.audit.note_later(entry(Action::CONFIG_KEEP));
            }
            Some((check, text)) => {
                info!(gateway = %member.name, revision = member.revision, check, "the configuration was not kept: {text}");
                self.audit.note_later(entry(Action::CONFIG_RETURN).with("check", check).failed(text));
            }
        }
        self.events.tell(What::ConfigChanged(Gateway { id: member.gateway, name: member.name.clone(), tenant }));
        self.wake.notify_one();
    }
}

/// Why a gateway is not even asked.
fn objection(report: &ConfigReport, overwrites: bool) -> Option<(&'static str, &'static str)> {
    if report.own_only {
        let text = "the router's owner takes no configuration from the server ([policy] central = false)";
        return Some(("policy", text));
    }
    let edited = report.edited && !overwrites;
    edited.then_some(("changed", "the file was edited on the router: adopt that, or overwrite it"))
}

fn order(member: &Member, attempt: i64) -> String {
    format!("{:x}-{}-{attempt}", member.rollout, member.position)
}
