//! People of a directory (LDAP, Active Directory): found by its service account, checked by binding as them, and given
//! a role by their groups.

mod dn;
mod entry;
mod talk;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use linkspan_protocol::id::Secret;
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::trust::{TrustError, client_config};
use crate::config::{GroupRole, Ldap};
use crate::store::UserName;
use talk::Talk;

/// For one server to answer a whole question, from the connection on.
const ANSWER: Duration = Duration::from_secs(5);
/// After a server has not answered, nobody waits for it for so long: they are told at once.
const SILENCE: Duration = Duration::from_secs(5);
/// Questions at once; each is a connection.
const AT_ONCE: usize = 8;

/// A directory whose people may sign in.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Ldap,
    password: Secret,
    tls: Arc<ClientConfig>,
    turns: Semaphore,
    silent_since: Mutex<Option<Instant>>,
    /// How long the last refusal of a password took.
    refuses_after: Mutex<Duration>,
}

/// Somebody whom the directory knows and who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where they stand in it.
    pub dn: String,
    /// Names them there for ever.
    pub subject: String,
    /// What their groups make of them; none where no group fits.
    pub role: Option<GroupRole>,
    /// Whether the account is disabled, locked or expired there.
    pub disabled: bool,
}

/// What is asked of it.
#[derive(Clone, Copy)]
enum Question<'q> {
    Ping,
    LookUp(&'q str),
    SignIn(&'q str, &'q Secret),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Down, slow, or not what its certificate must say.
    #[error("the directory does not answer: {0}")]
    Silent(String),
    /// It answers, and refuses the service account or the question.
    #[error("the directory refuses: {0}")]
    Refuses(String),
    /// Too many ask at once.
    #[error("too many questions to the directory at once")]
    Busy,
}

/// Why a directory cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryConfigError {
    /// The service account's password.
    #[error("cannot read {} ([ldap] bind_password_file)", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing in it: many directories take that for nobody in particular, and say yes.
    #[error("{} ([ldap] bind_password_file) holds no password", .0.display())]
    NoPassword(PathBuf),
    /// The authority.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Directory {
    /// Reads what the configuration names; asks nothing yet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn new(settings: Ldap) -> Result<Self, DirectoryConfigError> {
        let path = settings.bind_password_file.clone();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| DirectoryConfigError::Password { path: path.clone(), source })?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(DirectoryConfigError::NoPassword(path));
        }
        let tls = Arc::new(client_config(settings.ca_file.as_deref())?);
        let (password, turns) = (Secret::new(password), Semaphore::new(AT_ONCE));
        let (silent_since, refuses_after) = Default::default();
        Ok(Self { inner: Arc::new(Inner { settings, password, tls, turns, silent_since, refuses_after }) })
    }

    /// Who this is, if the directory takes the password for theirs.
    pub async fn sign_in(&self, name: &UserName, password: &Secret) -> Result<Option<Found>, DirectoryError> {
        // Without a password, or with one that some servers cut at its start, a bind asks for nobody in particular:
        // many servers say yes to that.
        if password.expose().is_empty() || password.expose().contains('\0') {
            return Ok(None);
        }
        let found = self.ask(Question::SignIn(name.as_str(), password)).await?;
        Ok(found.filter(Found::may_come_in))
    }

    /// Who a name is.
    pub async fn look_up(&self, name: &str) -> Result<Option<Found>, DirectoryError> {
        self.ask(Question::LookUp(name)).await
    }

    /// Whether it answers, and takes the service account.
    pub async fn ping(&self) -> Result<(), DirectoryError> {
        self.ask(Question::Ping).await.map(|_| ())
    }

    /// Whether it has not answered just now.
    pub fn is_silent(&self) -> bool {
        let since = *self.inner.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Whether it did not answer the last time, however long ago.
    pub(super) fn was_silent(&self) -> bool {
        self.inner.silent_since.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// It has refused a password, after so long.
    pub(super) fn refused_after(&self, took: Duration) {
        *self.inner.refuses_after.lock().unwrap_or_else(PoisonError::into_inner) = took;
    }

    /// How long its last refusal took: as long as one of ours is to take.
    pub(super) fn refuses_after(&self) -> Duration {
        *self.inner.refuses_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is to be used.
    pub(super) fn settings(&self) -> &Ldap {
        &self.inner.settings
    }

    /// Puts a question to the first server that answers.
    async fn ask(&self, question: Question<'_>) -> Result<Option<Found>, DirectoryError> {
        if self.is_silent() {
            return Err(DirectoryError::Silent("it did not a moment ago".to_owned()));
        }
        let turn = tokio::time::timeout(ANSWER, self.inner.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(DirectoryError::Busy) };
        let mut last = DirectoryError::Busy;
        for url in &self.inner.settings.urls {
            let Inner { settings, password, tls, .. } = &*self.inner;
            let whole = async {
                let mut talk = Talk::begin(settings, url, tls.clone()).await?;
                talk.introduce(password).await?;
                match question {
                    Question::Ping => Ok(None),
                    Question::LookUp(name) => talk.look_up(name).await,
                    Question::SignIn(name, password) => talk.sign_in(name, password).await,
                }
            };
            match tokio::time::timeout(ANSWER, whole).await {
                Ok(Ok(answer)) => {
                    *self.inner.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(answer);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = DirectoryError::Silent(format!("{url}: nothing within {} s", ANSWER.as_secs())),
            }
            tracing::warn!(url, error = %last, "the directory cannot be asked");
        }
        *self.inner.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Err(last)
    }
}

impl Found {
    /// Whether they may come in: not disabled, and in a group that means something here.
    pub fn may_come_in(&self) -> bool {
        !self.disabled && self.role.is_some()
    }
}
