//! The database, and the only room that speaks SQL: in words that SQLite and PostgreSQL both understand.

mod admins;
mod audit;
mod changes;
mod claims;
mod configs;
mod devices;
mod enrolments;
mod failures;
mod found;
mod gateways;
mod grants;
mod groups;
mod identity;
mod links;
mod oidc;
mod outside;
mod parts;
mod programs;
mod roles;
mod rollouts;
mod search;
mod second_factors;
mod sessions;
mod templates;
mod tenants;
mod tickets;
mod tokens;
mod traffic;
mod updates;
mod users;
mod visits;

use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite};
use tokio::sync::watch;

pub use admins::Taken;
pub use audit::{AuditEnds, AuditSearch, Concerned};
pub use claims::Claim;
pub use configs::{ConfigReport, NewRevision, Revision};
pub use devices::Device;
pub use enrolments::{Arrival, Decided, Enrolment, EnrolmentId, Landing, ProvisioningKey};
pub(crate) use failures::Failed;
pub use found::{Found, FoundSearch, FoundState, Telling};
pub use gateways::{Gateway, Seen};
pub use grants::{Grant, GrantTo, NewGrant};
pub use groups::Group;
pub use identity::{Certificate, CertificateView, Fingerprint, IdentityView, Issue, Proven};
pub(crate) use links::{LinkFor, LinkedPerson, MadeBy};
pub(crate) use oidc::OidcSignIn;
pub(crate) use outside::{Outside, ToAsk, Welcome};
pub use parts::{OwnPart, Standing};
pub use programs::Program;
pub use roles::{OwnRole, Removal, RoleRef, is_label};
pub use rollouts::{Member, MemberState, NewRollout, Rollout, Staged, Turn};
pub use search::Search;
pub(crate) use sessions::{NewSession, SessionFound};
pub use sessions::{SessionId, SessionKind, SessionListed};
pub use templates::{NewTemplate, Template, TemplateRevision};
pub use tenants::{Tenant, TenantName, TenantNameError, TenantRemoval};
pub(crate) use tickets::Ticket;
pub(crate) use tokens::TokenFound;
pub use tokens::{NewToken, TokenView};
pub use traffic::{By, DataCap, LinkCount, Month, NotAMonth, TrafficKey, TrafficQuery, TrafficSum};
pub use updates::{NewUpdate, Update, UpdateTurn, Updated};
pub(crate) use users::LoginFound;
pub use users::{NewUser, Source, User, UserKind, UserName, UserNameError};
pub use visits::{Approval, NewVisit, Visit};

pub use crate::rights::{GatewayId, Role, UserId};

/// Longest wait for another writer (a command line, a backup) before a write is given up.
const BUSY: Duration = Duration::from_secs(5);
/// SQLite has one writer; more connections than this only wait for each other.
const CONNECTIONS: u32 = 4;

/// A handle on the database; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    told: watch::Sender<i64>,
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database this version knows.
    #[error("`{0}` is not a database this version can open; it begins with `sqlite:`")]
    Url(String),
    /// The file cannot be created or opened.
    #[error("cannot open the database {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tables cannot be brought to this version.
    #[error("cannot bring the database to this version")]
    Migrate(#[from] MigrateError),
    /// A query failed: the disk is full, somebody holds the lock, the file is damaged.
    #[error("the database failed")]
    Query(#[from] sqlx::Error),
    /// A row says something this version cannot read.
    #[error("the database holds a {what} that cannot be read: {text}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        text: String,
    },
}

impl StoreError {
    /// The error with what caused it, for the log.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl Store {
    /// Opens the database, creating it if it is not there, and brings its tables to this version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let path = url.strip_prefix("sqlite:").ok_or_else(|| StoreError::Url(url.to_owned()))?;
        let path = Path::new(path);
        // Held to the end of this function: of a server and command lines that start at once, one makes the tables.
        let _turn = create(path).await.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: a power cut must not undo a logout, a removed user or a redeemed ticket. Writes are rare here.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY)
            // On a full disk SQLite rolls back by itself, the library's own rollback then fails, and it would take the
            // connection for busy with that transaction for ever.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await?;
        sqlx::migrate!().run(&pool).await?;
        let store = Self { pool, told: watch::Sender::new(0) };
        store.look_for_changes().await?;
        Ok(store)
    }

    /// Whether the database answers, and can be written to: something is written, or a full disk would not show.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        // No gateway can have this name; nobody sees the row.
        let sql = "INSERT INTO gateways (id, name, secret, created) VALUES (-1, '-', '', 0)";
        sqlx::query(sql).execute(&mut *write).await?;
        sqlx::query("DELETE FROM gateways WHERE id = -1").execute(&mut *write).await?;
        write.commit().await?;
        Ok(())
    }

    /// Ends all connections; what is committed is on disk.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that holds the write lock from its start, so that what it has read still is true when it writes.
    async fn write(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Creates the file if it is not there, and waits until nobody else is opening it.
async fn create(path: &Path) -> io::Result<std::fs::File> {
    // SQLite would create the file readable for everybody; its journal files copy the mode of this one.
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let deadline = tokio::time::Instant::now() + BUSY;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A new row's identity: random, so that it says nothing about how many there are, and never used again.
fn fresh_id() -> Result<i64, StoreError> {
    let number = getrandom::u64().map_err(|error| StoreError::Query(sqlx::Error::Io(io::Error::other(error))))?;
    Ok((number >> 1).cast_signed())
}

fn time_from(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|error| StoreError::Damaged { what: "time", text: error.to_string() })
}

fn damaged(what: &'static str) -> impl Fn(&str) -> StoreError {
    move |text| StoreError::Damaged { what, text: text.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) async fn fresh() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
        (dir, store)
    }

    /// From now on SQLite answers what it answers on a full disk. A constant is below what the tables take already.
    pub(crate) async fn fill_up(store: &Store) {
        bound(store, "PRAGMA max_page_count = 1").await;
    }

    /// There is room again.
    pub(crate) async fn make_room(store: &Store) {
        bound(store, "PRAGMA max_page_count = 4294967294").await;
    }

    async fn bound(store: &Store, pragma: &'static str) {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = store.pool.acquire().await.unwrap();
            sqlx::query(pragma).execute(&mut *connection).await.unwrap();
            all.push(connection);
        }
    }

    #[tokio::test]
    async fn opening_twice_keeps_what_is_there_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, store) = fresh().await;
        let name = "anna".parse().unwrap();
        store.add_user(&name, Role::Admin, "x").await.unwrap().unwrap();
        store.close().await;
        let path = dir.path().join("test.db");
        let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
        assert_eq!(store.users().await.unwrap().len(), 1);
        store.ping().await.unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }

    #[tokio::test]
    async fn a_wrong_place_is_an_error_that_names_it() {
        let told = Store::open("sqlite:/nowhere/at/all.db").await.unwrap_err().to_string();
        assert!(told.contains("/nowhere/at/all.db"), "{told}");
        assert!(matches!(Store::open("mysql://x").await, Err(StoreError::Url(_))));
    }

    #[tokio::test]
    async fn a_held_lock_is_an_error_and_passes() {
        let (_dir, store) = fresh().await;
        let held = store.write().await.unwrap();
        let name: UserName = "anna".parse().unwrap();
        assert!(matches!(store.add_user(&name, Role::Admin, "x").await, Err(StoreError::Query(_))));
        assert_eq!(store.users().await.unwrap().len(), 0, "readers go on");
        held.rollback().await.unwrap();
        assert!(store.add_user(&name, Role::Admin, "x").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn many_open_a_new_database_at_once() {
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}", dir.path().join("test.db").display());
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let url = url.clone();
                all.spawn(async move { Store::open(&url).await.map(|_| ()) });
            }
            for opened in all.join_all().await {
                opened.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_what_is_there_is_still_read() {
        let (_dir, store) = fresh().await;
        fill_up(&store).await;
        let full = async {
            for n in 0..1000 {
                let name: UserName = format!("user{n}").parse().unwrap();
                store.add_user(&name, Role::Operator, &"x".repeat(500)).await?;
            }
            Ok::<(), StoreError>(())
        };
        let told = full.await.unwrap_err().in_full();
        assert!(told.contains("full"), "{told}");
        assert!(store.users().await.is_ok());
    }

    #[tokio::test]
    async fn a_ping_writes_and_leaves_nothing() {
        let (dir, store) = fresh().await;
        let journal = || std::fs::read(dir.path().join("test.db-wal")).unwrap();
        let before = journal();
        store.ping().await.unwrap();
        assert_ne!(before, journal());
        assert_eq!(store.gateways().await.unwrap(), []);
    }

    #[tokio::test]
    async fn when_the_disk_has_room_again_writing_goes_on() {
        let (_dir, store) = fresh().await;
        for _ in 0..=CONNECTIONS {
            let mut write = store.write().await.unwrap();
            sqlx::query("PRAGMA max_page_count = 1").execute(&mut *write).await.unwrap();
            let sql = "INSERT INTO gateways (id, name, secret, created) VALUES (1, $1, 'x', 0)";
            let full = sqlx::query(sql).bind("x".repeat(1 << 20)).execute(&mut *write).await.unwrap_err();
            assert!(full.to_string().contains("full"), "{full}");
            drop(write);
            store.ping().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        std::fs::write(&path, vec![0x55; 8192]).unwrap();
        assert!(Store::open(&format!("sqlite:{}", path.display())).await.is_err());
    }
}
