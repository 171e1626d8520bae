//! Ends streams when the right to them has ended: a session or a token is over, a role or a grant was taken away, a visit
//! was revoked, the hours are past, a person was removed. In this process within moments, in another one within a second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::frame::{Reset, ResetReason};
use linkspan_protocol::id::DeviceName;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Credential, Principal};
use crate::porter::degrees;
use crate::rights::Denied;
use crate::store::{Device, Store, StoreError};
use crate::traffic::{Live, Traffic};

/// How often it is looked whether time, or another process, has ended something.
const LOOK: Duration = Duration::from_millis(400);
/// Shortest time between two looks: a thousand changes in a second are one.
const PAUSE: Duration = Duration::from_millis(50);
/// After so long everybody is looked up anew, also if no change was counted; it keeps their sessions from idling too.
const ANEW: Duration = Duration::from_secs(20);

/// Watches over open streams.
pub(crate) struct Warden {
    access: Access,
    store: Store,
    traffic: Traffic,
    people: HashMap<Credential, Option<Principal>>,
    devices: HashMap<DeviceName, Option<Arc<Device>>>,
    /// The number of the last change that `devices` takes into account.
    change: i64,
    anew: Instant,
}

impl Warden {
    /// Watches over these.
    pub(crate) fn new(access: Access, store: Store, traffic: Traffic) -> Self {
        let (people, devices, anew) = (HashMap::new(), HashMap::new(), Instant::now() + ANEW);
        Self { access, store, traffic, people, devices, change: -1, anew }
    }

    /// Watches until told to stop.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) {
        let mut changes = self.store.changes();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    if let Err(error) = self.store.look_for_changes().await {
                        tracing::error!(error = error.in_full(), "cannot see whether rights have changed");
                    }
                }
                told = changes.changed() => if told.is_err() { return },
            }
            let change = *changes.borrow_and_update();
            if let Err(error) = self.look(change).await {
                tracing::error!(error = error.in_full(), "cannot see who may still use their streams");
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    async fn look(&mut self, change: i64) -> Result<(), StoreError> {
        let open = self.traffic.open();
        let here: HashSet<Credential> = open.iter().map(|live| live.passage.who.credential).collect();
        self.people
            .retain(|credential, who| here.contains(credential) && who.as_ref().is_some_and(|who| who.as_of >= change));
        if change != self.change || Instant::now() >= self.anew {
            self.devices.clear();
            self.change = change;
        }
        if Instant::now() >= self.anew {
            self.anew = Instant::now() + ANEW;
            self.people.clear();
            for live in &open {
                let who = &live.passage.who;
                if !self.people.contains_key(&who.credential) {
                    self.people.insert(who.credential, self.access.again(who).await?);
                }
            }
        }
        for live in open {
            if let Err(why) = self.judge(&live, change).await? {
                let passage = &live.passage;
                tracing::info!(who = passage.who.name, device = %passage.device, service = %passage.service, why, "stream cut");
                live.cut(Reset::new(ResetReason::Ended, why));
            }
        }
        Ok(())
    }

    /// Whether somebody may go on with what they opened, to the degree to which they opened it.
    async fn judge(&mut self, live: &Live, change: i64) -> Result<Result<(), &'static str>, StoreError> {
        let passage = &live.passage;
        let Some(who) = self.who(&passage.who, change).await? else {
            return Ok(Err("the session, the token or the visit it belonged to has ended"));
        };
        if who.expires <= Timestamp::now() {
            return Ok(Err("the time of the session, the token or the visit is over"));
        }
        let Some(device) = self.device(&passage.device).await?.filter(|device| device.gateway == passage.gateway)
        else {
            return Ok(Err("the device is not offered any more"));
        };
        let Some(service) = device.report.services.iter().find(|service| service.name == passage.service) else {
            return Ok(Err("the service is not offered any more"));
        };
        let target = device.service_target(service);
        let degrees = degrees(passage.purpose, service.kind);
        let opened = degrees.iter().find(|permission| passage.who.rights.may(**permission, &target, live.began));
        let Some(permission) = opened.or(degrees.first()).copied() else { return Ok(Ok(())) };
        Ok(who.rights.decide(permission, &target, Timestamp::now()).map(drop).map_err(|denied| match denied {
            Denied::NotNow(_) => "the time for which it was granted is over",
            Denied::OtherTenant | Denied::Limit | Denied::NoGrant | Denied::Sponsor => "the right to it was withdrawn",
        }))
    }

    async fn who(&mut self, opened: &Principal, change: i64) -> Result<Option<Principal>, StoreError> {
        if let Some(known) = self.people.get(&opened.credential) {
            return Ok(known.clone());
        }
        // Since they were looked up to open it, nothing has changed.
        let who = if opened.as_of >= change { Some(opened.clone()) } else { self.access.again(opened).await? };
        self.people.insert(opened.credential, who.clone());
        Ok(who)
    }

    async fn device(&mut self, name: &DeviceName) -> Result<Option<Arc<Device>>, StoreError> {
        if let Some(known) = self.devices.get(name) {
            return Ok(known.clone());
        }
        let device = self.store.device(name).await?.map(Arc::new);
        self.devices.insert(name.clone(), device.clone());
        Ok(device)
    }
}
