//! Configurations from the server: checked, tried, and kept only if all is well with them; otherwise the one before returns by
//! itself. The router's own file says who the gateway is and what its owner forbids, and counts again once it is edited.

mod kept;
mod trial;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_protocol::message::{ConfigFailed, ConfigState, ConfigTry, GatewayToServer};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use self::kept::{Kept, sha256};
pub(crate) use self::trial::Trials;
use crate::config::{Config, Policy, central};

/// Orders that wait; a server that sends more at once talks nonsense.
const ORDERS_MAX: usize = 4;

/// What the server wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// A document to be tried.
    Try(ConfigTry),
    /// It hears the gateway with what is tried by this order.
    Confirm(String),
}

/// How the gateway stands with its configuration, for the link to tell, and what the server wants of it.
pub(crate) struct Central {
    state: watch::Sender<ConfigState>,
    orders: Mutex<VecDeque<Order>>,
    came: Notify,
    base: Mutex<Base>,
}

/// The router's own file as it was last read, and the document that counts.
struct Base {
    own: Arc<Config>,
    shown: Option<Arc<str>>,
    /// The revision that is on trial.
    trying: Option<u64>,
}

/// How the gateway stands with its configuration, for who stands in front of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// The server's revision that it lives by, or that was edited here since; absent if it is the router's own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The router's own file was edited since the server's document was put in place: it counts.
    pub edited: bool,
    /// The router's owner takes no configuration from the server.
    pub own_only: bool,
    /// The revision that is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trying: Option<u64>,
    /// Why the last one that was sent was not kept: which check failed, and what there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

impl Central {
    /// For a router with this file of its own; the configuration to live by.
    pub(crate) fn open(own: Config) -> (Arc<Self>, Arc<Config>) {
        let own = Arc::new(own);
        let cut_short = kept::read(&kept::trial(&own.file)).map(|tried| {
            let text = format!("the gateway was restarted while it tried revision {}", tried.revision);
            ConfigFailed { order: tried.order, check: "restart".into(), text }
        });
        kept::drop_trial(&own.file);
        let (config, state, shown) = effective(&own);
        let state = ConfigState { failed: cut_short.or(state.failed.clone()), ..state };
        let base = Mutex::new(Base { own, shown, trying: None });
        let (orders, came) = (Mutex::default(), Notify::new());
        (Arc::new(Self { state: watch::Sender::new(state), orders, came, base }), config)
    }

    /// The router's own file was read again; the configuration to live by.
    pub(crate) fn reloaded(&self, own: Config) -> Arc<Config> {
        let own = Arc::new(own);
        let (config, state, shown) = effective(&own);
        *self.base() = Base { own, shown, trying: None };
        self.state.send_replace(state);
        config
    }

    /// How the gateway stands, and each change of it.
    pub(crate) fn state(&self) -> watch::Receiver<ConfigState> {
        self.state.subscribe()
    }

    /// How the gateway stands, for who stands in front of it.
    pub(crate) fn standing(&self) -> ConfigurationStatus {
        let ConfigState { revision, edited, own_only, failed, .. } = self.state.borrow().clone();
        let not_kept = failed.map(|failed| format!("{}: {}", failed.check, failed.text));
        ConfigurationStatus { revision, edited, own_only, trying: self.base().trying, not_kept }
    }

    /// The document that the gateway lives by, as far as the server may see it.
    pub(crate) fn document(&self) -> GatewayToServer {
        let text = self.base().shown.as_deref().map(str::to_owned);
        GatewayToServer::ConfigDocument { sha256: self.state.borrow().sha256.clone(), text }
    }

    /// The server wants something.
    pub(crate) fn order(&self, order: Order) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() < ORDERS_MAX {
            orders.push_back(order);
            self.came.notify_one();
        } else {
            log::warn!("the server sends configurations faster than they can be tried");
        }
    }

    async fn next(&self) -> Order {
        loop {
            let order = self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match order {
                Some(order) => return order,
                None => self.came.notified().await,
            }
        }
    }

    fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration to live by, how that stands, and what of it the server may see.
fn effective(own: &Arc<Config>) -> (Arc<Config>, ConfigState, Option<Arc<str>>) {
    let own_sha = sha256(own.shown.as_deref().unwrap_or_default());
    let state = ConfigState { sha256: own_sha.clone(), own_only: !own.policy.central, ..ConfigState::default() };
    let alone = |state: ConfigState| (own.clone(), state, own.shown.clone());
    let Some(kept) = kept::read(&kept::place(&own.file)).filter(|_| own.policy.central) else { return alone(state) };
    // Earlier versions noted nothing of a file that cannot be shown.
    if kept.own != mark(own) && !(own.shown.is_none() && kept.own == own_sha) {
        log::warn!("{} was edited: it counts, and not what the server sent", own.file.display());
        return alone(ConfigState { revision: Some(kept.revision), edited: true, ..state });
    }
    let Kept { revision, order, text, intact, .. } = kept;
    match parse(&own.file, &text, &own.policy) {
        Ok(central) => {
            let (sha256, edited) = (sha256(&text), !intact);
            (
                Arc::new(own.with(central)),
                ConfigState { revision: Some(revision), sha256, edited, ..state },
                Some(text.into()),
            )
        }
        Err((check, text)) => {
            log::error!("revision {revision} of the server's cannot be used, {} counts:\n{text}", own.file.display());
            let failed = Some(ConfigFailed { order, check: check.into(), text });
            alone(ConfigState { failed, ..state })
        }
    }
}

/// Tells whether the router's own file is still what it was: of what the server may see of it, or of all that counts. It stays
/// here.
fn mark(own: &Config) -> String {
    sha256(own.shown.as_deref().or(own.counting.as_deref()).unwrap_or_default())
}

/// Reads a document of the server's; which check it fails, and why.
fn parse(file: &Path, text: &str, policy: &Policy) -> Result<central::Central, (&'static str, String)> {
    let file = file.with_file_name("document");
    central::parse(&file, text, policy).map_err(|problems| {
        let only_forbidden = central::parse(&file, text, &Policy::default()).is_ok();
        let lines = problems.0.iter().map(|problem| {
            let place = problem.place.map_or_else(String::new, |(line, column)| format!("{line}:{column}: "));
            format!("{place}{}; {}", problem.what, problem.instead)
        });
        (if only_forbidden { "policy" } else { "document" }, lines.collect::<Vec<_>>().join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config;

    const OWN: &str = "[server]\nurl = \"https://a.example\"\n[identity]\nname = \"site12\"\nsecret_file = \"s\"\n";

    fn device(name: &str) -> String {
        format!(
            "[[device]]\nname = \"{name}\"\nhost = \"10.0.0.1\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\n"
        )
    }

    struct Router(tempfile::TempDir);

    impl Router {
        fn new() -> Self {
            let router = Self(tempfile::tempdir().unwrap());
            fs::write(router.0.path().join("s"), "hunter2").unwrap();
            fs::write(router.file(), format!("{OWN}{}", device("own"))).unwrap();
            router
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("gateway.toml")
        }

        fn tried(&self, revision: u64) {
            let own = mark(&config::load(&self.file()).unwrap());
            let (order, text) = (format!("order-{revision}"), device(&format!("r{revision}")));
            kept::write_trial(&self.file(), &Kept { revision, order, own, text, intact: true }).unwrap();
        }

        /// Starts after a power cut: what it lives by, and how that stands.
        fn boot(&self) -> (String, ConfigState) {
            let (central, config) = Central::open(config::load(&self.file()).unwrap());
            let state = central.state().borrow().clone();
            (config.devices.iter().map(|device| device.name.to_string()).collect(), state)
        }
    }

    /// Each state of the disk that a cut can leave: nothing written, written aside in part, written aside, in its place.
    #[test]
    fn a_cut_at_each_step_leaves_the_one_document_or_the_other() {
        for before in [None, Some(1)] {
            let old = before.map_or("own".to_owned(), |number: u64| format!("r{number}"));
            let router = || {
                let router = Router::new();
                if let Some(number) = before {
                    router.tried(number);
                    kept::keep_trial(&router.file()).unwrap();
                }
                router
            };
            assert_eq!(router().boot().0, old, "nothing is written");

            let torn = router();
            torn.tried(2);
            let trial = kept::trial(&torn.file());
            let whole = fs::read(&trial).unwrap();
            for length in [0, 1, whole.len() / 2, whole.len() - 1] {
                // Where a file is while it is written: it takes the name of the trial only once it is whole.
                fs::write(trial.with_extension("trial.new"), &whole[..length]).unwrap();
                fs::write(&trial, &whole[..length]).unwrap();
                let (lives_by, state) = torn.boot();
                assert_eq!(
                    (lives_by.as_str(), state.revision),
                    (old.as_str(), before),
                    "{length} bytes are written aside"
                );
                assert!(!trial.exists());
            }

            let aside = router();
            aside.tried(2);
            let (lives_by, state) = aside.boot();
            assert_eq!((lives_by.as_str(), state.revision), (old.as_str(), before), "it was on trial");
            let failed = state.failed.unwrap();
            assert_eq!((failed.order.as_str(), failed.check.as_str()), ("order-2", "restart"));
            assert_eq!(aside.boot().1.failed, None, "told once; the trial is over");

            let done = router();
            done.tried(2);
            kept::keep_trial(&done.file()).unwrap();
            let (lives_by, state) = done.boot();
            assert_eq!((lives_by.as_str(), state.revision, state.failed), ("r2", Some(2), None), "it is kept");
        }
    }

    /// Its own document is not told to the server, and still it is noticed that it was edited.
    #[test]
    fn a_file_that_cannot_be_shown_is_known_to_be_edited() {
        let router = Router::new();
        let hidden = format!(
            "identity = {{ name = \"site12\", secret_file = \"s\" }}\n[server]\nurl = \"https://a.example\"\n{}",
            device("own")
        );
        fs::write(router.file(), &hidden).unwrap();
        router.tried(1);
        kept::keep_trial(&router.file()).unwrap();
        assert_eq!(router.boot().0, "r1");
        fs::write(router.file(), format!("# a comment alone\n{hidden}")).unwrap();
        assert_eq!(router.boot().0, "r1");
        fs::write(router.file(), hidden.replace("own", "edited")).unwrap();
        let (lives_by, state) = router.boot();
        assert_eq!((lives_by.as_str(), state.edited), ("edited", true));
        assert_eq!(state.sha256, sha256(""), "nothing of it is told");
        // What an earlier version has kept says nothing about the file.
        let place = kept::place(&router.file());
        let text = fs::read_to_string(&place).unwrap();
        let noted = mark(&config::load(&router.file()).unwrap());
        let earlier = text.lines().map(|line| match line.strip_prefix("# linkspan own ") {
            Some(_) => format!("# linkspan own {}\n", sha256("")),
            None => format!("{line}\n"),
        });
        fs::write(&place, earlier.collect::<String>()).unwrap();
        assert!(noted != sha256("") && router.boot().0 == "r1");
    }

    #[test]
    fn an_edited_file_counts_and_so_does_what_its_owner_forbids() {
        let router = Router::new();
        router.tried(1);
        kept::keep_trial(&router.file()).unwrap();
        let own = fs::read_to_string(router.file()).unwrap();
        fs::write(router.file(), own.replace("own", "edited")).unwrap();
        let (lives_by, state) = router.boot();
        assert_eq!((lives_by.as_str(), state.revision, state.edited), ("edited", Some(1), true));
        fs::write(router.file(), format!("{own}[policy]\nnever = [\"r1\"]\n")).unwrap();
        let (lives_by, state) = router.boot();
        assert_eq!((lives_by.as_str(), state.revision, state.edited), ("own", None, false));
        assert_eq!(state.failed.unwrap().check, "policy");
        fs::write(router.file(), format!("{own}[policy]\ncentral = false\n")).unwrap();
        let (lives_by, state) = router.boot();
        assert_eq!((lives_by.as_str(), state.revision, state.own_only), ("own", None, true));
    }
}
