//! The way there: offers gateways a version, some at a time, feeds them, hears how each fares, and stops where one fails.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::message::ServerToGateway;
use linkspan_protocol::text::tame;
use linkspan_protocol::update::{UpdateFailed, UpdateOffer, UpdateState, UpdateStep};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::feed::feed;
use super::{Here, Updates};
use crate::audit::{Action, Actor, ActorKind, Entry, Target};
use crate::events::{Gateway, What};
use crate::rights::GatewayId;
use crate::store::{MemberState, StoreError, Update, UpdateTurn, Updated};

/// Between two looks, if nothing is heard: the command line begins updates too.
const LOOK: Duration = Duration::from_secs(1);
/// What a gateway may take beyond the deadline: to check the program, to start, to dial.
const GRACE: Duration = Duration::from_secs(90);
/// The wave does not wait any longer for one whose download does not move.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Times that one is offered the same.
const ATTEMPTS: i64 = 5;
/// A stream that ended early is not opened again before that.
const PAUSE: Duration = Duration::from_secs(2);
/// Gateways that are fed at once.
const FEEDS_MAX: usize = 64;
/// Characters that are kept of what a gateway says.
const TEXT_MAX: usize = 500;

impl Updates {
    /// Moves updates on until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut feeds = JoinSet::new();
        while !stop.is_cancelled() {
            if let Err(error) = self.look(&mut feeds).await {
                warn!(error = error.in_full(), "updates cannot go on; it will be tried again");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                Some(Ok(fed)) = feeds.join_next() => self.fed(fed),
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, feeds: &mut JoinSet<GatewayId>) -> Result<(), StoreError> {
        for update in self.store.running_updates().await? {
            self.advance(&update).await?;
        }
        for member in self.store.updates_under_way().await? {
            if !self.expire(&member).await? {
                self.feed(&member, feeds).await?;
            }
        }
        Ok(())
    }

    /// Moves one update on.
    async fn advance(&self, update: &Update) -> Result<(), StoreError> {
        let members = self.store.update_members(update.id).await?;
        if let Some(failed) = members.iter().find(|member| member.state == MemberState::Failed) {
            let reason = format!("{} failed", failed.name);
            self.store.end_update(update.id, Some(&reason)).await?;
            return Ok(());
        }
        if members.iter().all(|member| member.state.is_final()) {
            self.store.end_update(update.id, None).await?;
            return Ok(());
        }
        for wave in members.chunks(usize::try_from(update.wave).unwrap_or(1).max(1)) {
            let mut busy = false;
            for member in wave {
                busy |= match member.state {
                    MemberState::Waiting | MemberState::Ready => self.offer(member).await?,
                    MemberState::Sent => true,
                    MemberState::Kept | MemberState::Failed | MemberState::Skipped => false,
                };
            }
            if busy {
                break;
            }
        }
        Ok(())
    }

    /// Offers a gateway the program, if it is here; whether its wave must wait for it.
    async fn offer(&self, member: &Updated) -> Result<bool, StoreError> {
        let under_way = self.store.last_update(member.gateway).await?;
        if under_way.is_some_and(|other| other.state == MemberState::Sent) {
            // An earlier update has not come to its end there.
            return Ok(true);
        }
        let state = self.here().get(&member.gateway).map(|here| here.state.clone());
        let Some(state) = state.filter(|_| self.registry.online_since(member.gateway).is_some()) else {
            if member.state == MemberState::Waiting {
                self.turn(member, MemberState::Ready, None).await?;
            }
            return Ok(false);
        };
        if state.version == member.version {
            self.end(member, None).await?;
            return Ok(false);
        }
        if let Some(closed) = &state.closed {
            self.end(member, Some(("policy", &tame(closed)))).await?;
            return Ok(true);
        }
        let Some(program) = self.store.program(&member.version, &state.target).await? else {
            let text = format!("there is no program of version {} for {}", member.version, tame(&state.target));
            self.end(member, Some(("program", &text))).await?;
            return Ok(true);
        };
        // Noted first: a server that dies in between finds that the gateway knows nothing of it.
        let turn = UpdateTurn { to: MemberState::Sent, failed: None, size: Some(program.size) };
        if !self.store.turn_updated(member, turn).await? {
            return Ok(true);
        }
        let message = ServerToGateway::UpdateOffer(UpdateOffer {
            order: order(member, member.attempts + 1),
            head: program.head,
            deadline_s: u32::try_from(member.deadline.as_secs()).unwrap_or(u32::MAX),
        });
        if !self.registry.tell(member.gateway, &message) {
            self.turn(&Updated { state: MemberState::Sent, ..member.clone() }, MemberState::Ready, None).await?;
            return Ok(false);
        }
        info!(gateway = %member.name, version = member.version, "a gateway is offered another version");
        Ok(true)
    }

    /// Feeds a gateway that wants the program, unless somebody does.
    async fn feed(&self, member: &Updated, feeds: &mut JoinSet<GatewayId>) -> Result<(), StoreError> {
        let Some(here) = self.here().get(&member.gateway).cloned() else { return Ok(()) };
        let Here { state, feeding, not_before } = here;
        let wanted = state.step == Some(UpdateStep::Loading) && state.order == Some(order(member, member.attempts));
        let due = not_before.is_none_or(|at| at <= Instant::now());
        let may = self.registry.online_since(member.gateway).is_some() && self.traffic.refusal(&member.name).is_none();
        if !wanted || feeding || !due || !may || feeds.len() >= FEEDS_MAX {
            return Ok(());
        }
        let Some(program) = self.store.program(&member.version, &state.target).await? else {
            self.end(member, Some(("program", "the program was removed meanwhile"))).await?;
            return Ok(());
        };
        if let Some(here) = self.here().get_mut(&member.gateway) {
            here.feeding = true;
        }
        feeds.spawn(self.clone().feed_one(member.clone(), self.programs.file(&program)));
        Ok(())
    }

    async fn feed_one(self, member: Updated, file: PathBuf) -> GatewayId {
        if let Err(error) = feed(&self.store, &self.registry, &member, &file).await {
            info!(gateway = %member.name, %error, "a program did not get to its gateway whole; it goes on later");
        }
        member.gateway
    }

    fn fed(&self, gateway: GatewayId) {
        if let Some(here) = self.here().get_mut(&gateway) {
            (here.feeding, here.not_before) = (false, Some(Instant::now() + PAUSE));
        }
    }

    /// Gives up on a gateway that has not come back, or does not get on; true if so.
    async fn expire(&self, member: &Updated) -> Result<bool, StoreError> {
        let whole = member.size > 0 && member.loaded >= member.size;
        let after = if whole { member.deadline + GRACE } else { PATIENCE };
        if Timestamp::now() < member.at.saturating_add(after).unwrap_or(Timestamp::MAX) {
            return Ok(false);
        }
        if whole {
            let text = format!("the gateway has not been heard of within {} s of the deadline", GRACE.as_secs());
            self.end(member, Some(("link", &text))).await?;
        } else if member.attempts >= ATTEMPTS {
            self.end(member, Some(("link", "the program did not get there"))).await?;
        } else {
            self.turn(member, MemberState::Ready, None).await?;
        }
        Ok(true)
    }

    /// What a gateway says of its program, and what it is answered.
    ///
    /// # Errors
    /// The database failed.
    pub async fn heard(&self, gateway: GatewayId, state: &UpdateState) -> Result<Option<ServerToGateway>, StoreError> {
        if let Some(here) = self.here().get_mut(&gateway).filter(|_| !state.begins) {
            here.state = state.clone();
        } else {
            self.here().insert(gateway, Here { state: state.clone(), not_before: None, feeding: false });
        }
        let answer = match self.store.last_update(gateway).await? {
            Some(member) => self.judge(&member, state).await?,
            None => None,
        };
        self.wake.notify_one();
        Ok(answer)
    }

    /// What the word of a gateway means for what it was offered.
    async fn judge(&self, member: &Updated, state: &UpdateState) -> Result<Option<ServerToGateway>, StoreError> {
        let late = member.state == MemberState::Failed && member.failed_check.as_deref() == Some("link");
        if member.state != MemberState::Sent && !late {
            return Ok(None);
        }
        let order = order(member, member.attempts);
        if state.order.as_ref() == Some(&order) {
            // It is under way. Once it is the new program, all is well from this end: it hears the gateway, and knows it.
            let tries = state.step == Some(UpdateStep::Trying);
            return Ok(tries.then_some(ServerToGateway::UpdateConfirm { order }));
        }
        if let Some(UpdateFailed { check, text, .. }) = state.failed.as_ref().filter(|failed| failed.order == order) {
            let text: String = tame(text).chars().take(TEXT_MAX).collect();
            self.end(member, Some((&tame(check), &text))).await?;
        } else if state.version == member.version {
            self.end(member, None).await?;
        } else if state.begins && !late {
            // It knows nothing of it: the offer was lost with the session before.
            if member.attempts < ATTEMPTS {
                self.turn(member, MemberState::Ready, None).await?;
            } else {
                self.end(member, Some(("link", "the gateway lost the offer each time"))).await?;
            }
        }
        Ok(None)
    }

    async fn turn(&self, member: &Updated, to: MemberState, failed: Option<(&str, &str)>) -> Result<bool, StoreError> {
        self.store.turn_updated(member, UpdateTurn { to, failed, size: None }).await
    }

    /// It has come to its end for one gateway, and that is told.
    async fn end(&self, member: &Updated, failed: Option<(&str, &str)>) -> Result<(), StoreError> {
        let to = if failed.is_some() { MemberState::Failed } else { MemberState::Kept };
        if !self.turn(member, to, failed).await? {
            return Ok(());
        }
        let tenant = self.store.gateway_tenant(member.gateway).await.ok().flatten();
        let actor = Actor { tenant, ..Actor::new(ActorKind::Gateway, member.name.as_str()) };
        let entry = |action| {
            let entry = Entry::new(action, actor).on(Target::gateway(&member.name));
            entry.with("version", member.version.as_str())
        };
        let (audit, events) = &self.told;
        match failed {
            None => {
                info!(gateway = %member.name, version = member.version, "the gateway is this version now");
                audit.note_later(entry(Action::UPDATE_KEEP));
            }
            Some((check, text)) => {
                warn!(gateway = %member.name, version = member.version, check, "the update came to nothing: {text}");
                audit.note_later(entry(Action::UPDATE_RETURN).with("check", check).failed(text));
            }
        }
        events.tell(What::GatewayUpdated(Gateway { id: member.gateway, name: member.name.clone(), tenant }));
        self.wake.notify_one();
        Ok(())
    }
}

fn order(member: &Updated, attempt: i64) -> String {
    format!("u{:x}-{}-{attempt}", member.update, member.position)
}
