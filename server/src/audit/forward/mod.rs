//! Sends the audit on, row by row, to a syslog server and to a web hook. The database is the queue: each destination has a
//! place in the chain, nothing waits in memory, nobody waits for a destination, and a restart loses nothing.

mod dial;
mod syslog;
mod webhook;

use std::time::Duration;

use super::{Audit, Forwarding, Row};
use crate::store::{AuditSearch, Store};

pub use dial::{DialError, Place};
pub use syslog::{Syslog, SyslogTo};
pub use webhook::{Webhook, WebhookTo};

/// Rows sent at once.
const AT_ONCE: usize = 100;
/// Rows of other processes (a command line) are looked for this often.
const LOOK: Duration = Duration::from_secs(5);
/// The first wait after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// For a destination to take what it is sent.
const SEND: Duration = Duration::from_secs(20);

/// Why something could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    /// It does not speak HTTP.
    #[error("it does not answer in HTTP")]
    Http(#[from] hyper::Error),
    /// It answers that it did not take it.
    #[error("it answered {0}")]
    Answer(http::StatusCode),
    /// Silence.
    #[error("it did not take it within {SEND:?}")]
    Slow,
}

/// What rows are sent to.
pub trait Destination: Send {
    /// The name under which its place in the chain is kept.
    const NAME: &'static str;

    /// Sends rows; what comes back without an error has been taken.
    fn send(&mut self, rows: &[Row]) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// Sends on what is written, from where the destination was left, for as long as the server runs.
pub async fn forward<D: Destination>(store: Store, audit: Audit, mut destination: D) {
    let mut pause = FIRST_PAUSE;
    let mut at = None;
    loop {
        // Before looking, or what is written between looking and waiting would wait for the next look.
        let woken = audit.woken();
        let done = step(&store, &mut destination, &mut at).await;
        let failing = done.as_ref().err().map(|error| told(&**error));
        audit.tell_forwarding(D::NAME, Forwarding { seq: at.unwrap_or_default(), failing });
        match done {
            Ok(true) => pause = FIRST_PAUSE,
            Ok(false) => {
                pause = FIRST_PAUSE;
                let _ = tokio::time::timeout(LOOK, woken).await;
            }
            Err(error) => {
                tracing::warn!(
                    destination = D::NAME,
                    error = &*error as &dyn std::error::Error,
                    ?pause,
                    "the audit is not sent on for now; nothing is lost, it is tried again"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// An error with what lies behind it, in one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    all.collect::<Vec<_>>().join(": ")
}

/// Sends some rows; whether there were any.
async fn step<D: Destination>(
    store: &Store,
    destination: &mut D,
    at: &mut Option<i64>,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let from = match *at {
        Some(at) => at,
        None => store.audit_forwarded(D::NAME).await?,
    };
    *at = Some(from);
    let rows = store.audit_after(&AuditSearch::default(), from, AT_ONCE).await?;
    let Some(last) = rows.last().map(|row| row.mark.seq) else { return Ok(false) };
    if let Some(first) = rows.first().filter(|first| first.mark.seq > from + 1) {
        let rows = first.mark.seq - from - 1;
        tracing::warn!(destination = D::NAME, rows, "rows of the audit became too old before they could be sent on");
    }
    tokio::time::timeout(SEND, destination.send(&rows)).await.map_err(|_| SendError::Slow)??;
    *at = Some(last);
    store.set_audit_forwarded(D::NAME, last).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
