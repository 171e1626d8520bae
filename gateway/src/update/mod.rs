//! Another version of this program, from the server: fetched, checked, tried, and kept only once it has a link. The installed
//! program stays where it is (docs/decisions/0007-self-update.md).

mod folder;
mod launch;
mod worker;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use linkspan_protocol::driver::{ResetReason, Stream};
use linkspan_protocol::update::{UpdateFailed, UpdateOffer, UpdateState, UpdateStep};
use tokio::sync::{Notify, watch};

use self::folder::Slot;
pub use self::launch::Launch;
use self::worker::Worker;
use crate::config::Config;
use crate::link::Report;
use crate::status::UpdateStatus;
use crate::supervisor::Supervisor;
use crate::traffic::Traffic;
use crate::version;

/// What waits at once; a server that sends more talks nonsense.
const WAITING_MAX: usize = 4;
/// What this program was built for.
const TARGET: &str = env!("LINKSPAN_TARGET");

/// What the server wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// That the gateway becomes this program.
    Offer(UpdateOffer),
    /// It hears the program that is tried by this order.
    Confirm(String),
    /// The program itself.
    Load(Stream),
}

/// What there is to say to the link; nothing, where the gateway cannot become another program.
#[derive(Clone)]
pub(crate) struct Updates(Option<Arc<Program>>);

impl Updates {
    /// Goes on with what lies in the folder.
    pub(crate) fn open(launch: Option<Launch>) -> Self {
        Self(launch.map(Program::open))
    }

    /// Starts who does what the server wants.
    pub(crate) fn start(
        &self,
        supervisor: &mut Supervisor,
        config: &watch::Sender<Arc<Config>>,
        (report, traffic): (&watch::Sender<Report>, &Arc<Traffic>),
    ) {
        if let Some(program) = &self.0 {
            let (program, traffic) = (program.clone(), traffic.clone());
            let worker = Worker { program, config: config.subscribe(), report: report.subscribe(), traffic };
            supervisor.start("update", move || worker.clone().run());
        }
    }

    /// How the gateway stands, and each change of it.
    pub(crate) fn state(&self) -> Option<watch::Receiver<UpdateState>> {
        self.0.as_ref().map(|program| program.state.subscribe())
    }

    /// The server wants something.
    pub(crate) fn order(&self, order: Order) {
        match (&self.0, order) {
            (Some(program), order) => program.order(order),
            (None, Order::Load(mut stream)) => stream.reset(ResetReason::NotListed, "this gateway takes no program"),
            (None, Order::Offer(_) | Order::Confirm(_)) => {}
        }
    }

    /// Resolves when the gateway is to stop and to become another program.
    pub(crate) async fn again(&self) {
        match &self.0 {
            Some(program) => program.again.notified().await,
            None => std::future::pending().await,
        }
    }

    /// How an update is, for people.
    pub(crate) fn status(&self) -> UpdateStatus {
        self.0.as_ref().map(|program| program.status()).unwrap_or_default()
    }
}

/// How the gateway stands with its program, and what the server wants of it.
struct Program {
    launch: Launch,
    state: watch::Sender<UpdateState>,
    orders: Mutex<VecDeque<Order>>,
    came: Notify,
    /// The gateway is to become another program.
    again: Notify,
}

impl Program {
    fn open(launch: Launch) -> Arc<Self> {
        let (order, step) = match &launch.trial {
            Some(trial) => (Some(trial.order.clone()), Some(UpdateStep::Trying)),
            None => match launch.folder.order(Slot::Loading) {
                Some((order, _)) => (Some(order.order), Some(UpdateStep::Loading)),
                None => (None, None),
            },
        };
        if let Err(e) = launch.folder.step_back() {
            log::warn!("what has come of an update cannot be gone on with: {e}");
            launch.folder.drop(Slot::Loading);
        }
        let (version, target) = (version().to_owned(), TARGET.to_owned());
        let failed = launch.folder.failed();
        let state = UpdateState { version, target, closed: None, order, step, failed, begins: false };
        let (orders, came, again) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { launch, state: watch::Sender::new(state), orders, came, again })
    }

    fn order(&self, order: Order) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() < WAITING_MAX {
            orders.push_back(order);
            self.came.notify_one();
        } else if let Order::Load(mut stream) = order {
            stream.reset(ResetReason::StreamLimit, "more than can be taken at once");
        }
    }

    fn status(&self) -> UpdateStatus {
        let state = self.state.borrow();
        let folder = &self.launch.folder;
        let slot = match state.step {
            Some(UpdateStep::Loading) => Some(Slot::Loading),
            Some(UpdateStep::Trying | UpdateStep::Unknown) => Some(Slot::Next),
            None => None,
        };
        let head = slot.and_then(|slot| folder.order(slot)).map(|(_, head)| head);
        let installed = &self.launch.installed.0;
        UpdateStatus {
            target: TARGET.to_owned(),
            installed: (*installed != state.version).then(|| installed.clone()),
            closed: state.closed.clone(),
            version: head.as_ref().map(|head| head.version.to_string()),
            loaded: (state.step == Some(UpdateStep::Loading)).then(|| folder.loaded()),
            size: head.map(|head| head.size),
            failed: state.failed.as_ref().map(|UpdateFailed { check, text, .. }| format!("{check}: {text}")),
        }
    }

    fn next(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Resolves when the server wants something more.
    async fn wanted(&self) {
        loop {
            let waits = !self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            if waits {
                return;
            }
            self.came.notified().await;
        }
    }
}
