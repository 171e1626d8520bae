//! In place of what takes other versions of this program from the server, where that was left out when it was built.

use std::io;
use std::path::Path;
use std::sync::Arc;

use linkspan_protocol::driver::{ResetReason, Stream};
use linkspan_protocol::update::{UpdateOffer, UpdateState};
use tokio::sync::watch;

use crate::config::Config;
use crate::link::Report;
use crate::status::UpdateStatus;
use crate::supervisor::Supervisor;
use crate::traffic::Traffic;

/// What the server wants, and does not get.
#[derive(Debug)]
pub(crate) enum Order {
    Offer(#[expect(dead_code, reason = "as where updates are taken")] UpdateOffer),
    Confirm(#[expect(dead_code, reason = "as where updates are taken")] String),
    Load(Stream),
}

/// How this process came to be this version: it was started.
#[derive(Clone, Debug)]
pub struct Launch;

impl Launch {
    /// It is what it is.
    pub fn begin(_config: &Path) -> Self {
        Self
    }

    /// It is on no trial.
    pub fn rescue(_code: u8) {}

    /// Never asked for.
    pub fn again(&self) -> io::Error {
        io::ErrorKind::Unsupported.into()
    }
}

/// No other program.
#[derive(Clone)]
pub(crate) struct Updates;

impl Updates {
    pub(crate) fn open(_launch: Option<Launch>) -> Self {
        Self
    }

    pub(crate) fn start(
        &self,
        _supervisor: &mut Supervisor,
        _config: &watch::Sender<Arc<Config>>,
        _watched: (&watch::Sender<Report>, &Arc<Traffic>),
    ) {
    }

    pub(crate) fn state(&self) -> Option<watch::Receiver<UpdateState>> {
        None
    }

    pub(crate) fn order(&self, order: Order) {
        if let Order::Load(mut stream) = order {
            stream.reset(ResetReason::NotListed, "this gateway takes no program");
        }
    }

    pub(crate) async fn again(&self) {
        std::future::pending().await
    }

    pub(crate) fn status(&self) -> UpdateStatus {
        UpdateStatus::default()
    }
}
