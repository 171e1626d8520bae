//! What goes on beside the writing, as the configuration says: old rows are taken away, new ones are sent on.

use std::path::PathBuf;
use std::time::Duration;

use linkspan_protocol::id::Secret;

use super::forward::{DialError, Syslog, Webhook, forward};
use super::{Audit, keep};
use crate::config;
use crate::store::Store;

/// Shortest secret that may sign.
const SECRET_MIN: usize = 16;

/// What is to be done beside the writing.
pub struct Aside {
    keep: Option<Duration>,
    syslog: Option<Syslog>,
    webhook: Option<Webhook>,
}

/// Why it cannot be done as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    /// The destination cannot be spoken to.
    #[error("[audit] cannot be used: {0}")]
    Dial(#[from] DialError),
    /// The secret cannot be read.
    #[error("[audit] webhook_secret_file: cannot read {}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The secret is no secret.
    #[error("[audit] webhook_secret_file: {} holds fewer than {SECRET_MIN} characters", .0.display())]
    Short(PathBuf),
}

impl Aside {
    /// Reads the files that the configuration names; connects to nobody.
    pub fn open(config: &config::Audit, host: &str) -> Result<Self, AsideError> {
        let ca_file = config.ca_file.as_deref();
        let syslog = config.syslog.clone().map(|to| Syslog::new(to, host, ca_file)).transpose()?;
        let webhook = match &config.webhook {
            Some((to, path)) => Some(Webhook::new(to.clone(), &secret(path)?, ca_file)?),
            None => None,
        };
        Ok(Self { keep: config.keep, syslog, webhook })
    }

    /// Goes on until it is dropped.
    pub async fn run(self, store: Store, audit: Audit) {
        let Self { keep: age, syslog, webhook } = self;
        let (syslog_store, syslog_audit) = (store.clone(), audit.clone());
        let to_syslog = async move {
            if let Some(syslog) = syslog {
                forward(syslog_store, syslog_audit, syslog).await;
            }
        };
        let (hook_store, hook_audit) = (store.clone(), audit.clone());
        let to_webhook = async move {
            if let Some(webhook) = webhook {
                forward(hook_store, hook_audit, webhook).await;
            }
        };
        futures_util::future::join3(to_syslog, to_webhook, keep::keep(&store, &audit, age)).await;
    }
}

fn secret(path: &std::path::Path) -> Result<Secret, AsideError> {
    let text = std::fs::read_to_string(path).map_err(|source| AsideError::Secret { path: path.to_owned(), source })?;
    let text = text.trim();
    if text.len() < SECRET_MIN {
        return Err(AsideError::Short(path.to_owned()));
    }
    Ok(Secret::new(text))
}
