//! The public side of Linkspan: routes by host name, decides who may do what, and notes it down.

pub mod access;
pub mod api;
pub mod audit;
pub mod config;
pub mod edge;
pub mod enrol;
pub mod events;
pub mod fleet;
pub mod lan;
pub mod link;
pub mod observe;
mod porter;
pub mod rights;
pub mod store;
pub mod traffic;
pub mod ui;
pub mod updates;
mod warden;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use access::directory::Directory;
use access::oidc::Provider;
use access::{Access, Means, Vault};
use api::{ConsoleState, Memory, OnlineSince, TellGateway};
use audit::{Action, Actor, Aside, AsideError, Audit, Entry};
use config::{Config, Site};
use edge::Edge;
use edge::connection::{serve_plain, serve_tls};
use edge::listener::{Drained, House, bind};
use edge::redirect::Redirect;
use edge::tls::{Certificates, GatewayCa, Source, TlsError, TlsSettings};
use enrol::Desk;
use events::Events;
use fleet::Fleet;
use lan::Lans;
use lan::vendors::Vendors;
use link::presence::Presence;
use link::registry::Registry;
use link::tell::Teller;
use link::{Gate, Keeping};
use observe::{Metrics, Observer};
use porter::Porter;
use store::Store;
use traffic::Traffic;
use updates::{Programs, Updates};
use warden::Warden;

/// A server whose ports are open: connections wait until [`Server::serve`] takes them.
pub struct Server {
    config: Config,
    store: Store,
    means: Means,
    certificates: Certificates,
    authority: GatewayCa,
    aside: Aside,
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
}

impl Server {
    /// Opens the database, the certificate and the ports, in this order: what fails, fails before anybody is let in.
    ///
    /// # Errors
    /// A sentence that says what to do about it.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        config.create_state_dir()?;
        let store = Store::open(&config.store.url).await.context("the database cannot be used")?;
        let vault = Vault::open(&config.state_dir)?;
        let directory = config.ldap.clone().map(Directory::new).transpose()?;
        let provider = config.oidc.clone().map(|oidc| Provider::new(oidc, &config.site)).transpose()?;
        let means = Means { vault, directory, provider, audit: None };
        let certificates = Certificates::load(certificate_source(&config))?;
        warn_of_certificate(&certificates, &config);
        let authority = GatewayCa::load(&config.state_dir, Timestamp::now())?;
        let open = |addresses: &[SocketAddr]| addresses.iter().map(|at| bind(*at)).collect::<Result<Vec<_>, _>>();
        let aside = Aside::open(&config.audit, &config.site.console)?;
        let (https, http) = (open(&config.listen.https)?, open(&config.listen.http)?);
        Ok(Self { config, store, means, certificates, authority, aside, https, http })
    }

    /// The addresses of the secure ports.
    ///
    /// # Errors
    /// What the system says.
    pub fn https_addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.https.iter().map(TcpListener::local_addr).collect()
    }

    /// Sets the port that people use, where it is only known once the ports are open.
    pub fn set_public_port(&mut self, port: u16) {
        self.config.site.port = port;
        if let Some(provider) = &mut self.means.provider {
            provider.set_home(&self.config.site);
        }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The certificate, to be loaded again on a signal.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Serves until `shutdown` is cancelled, then lets what is running end within the deadline of the configuration.
    ///
    /// # Errors
    /// What keeps it from serving at all.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { config, store, means, certificates, authority, aside, https, http } = self;
        let (site, registry) = (Arc::new(config.site), Registry::default());
        let house = House::new(edge::descriptors::room_for(config.limits.max_connections));
        let (audit, events) = begin_audit(&store, aside, &house);
        let access = begin_access(&store, config.access, (means, &audit), &house).await?;
        let traffic = Traffic::new(config.traffic.zone.clone(), Some(audit.clone()));
        let mut warden = Warden::new(access.clone(), store.clone(), traffic.clone());
        let metrics = Arc::new(Metrics::new(|all| traffic.register(all)));
        let porter = Porter::new(access.clone(), store.clone(), registry.clone(), traffic.clone(), site.clone());
        let presence = begin_presence(&store, &house);
        let keepers = (presence.clone(), traffic.clone(), Teller::new(audit.clone(), events.clone()));
        let (tls, programs) = (certificates.settings(&authority)?, Programs::new(store.clone(), &config.state_dir));
        let lans = Lans::new(store.clone(), events.clone(), Vendors::new());
        let gate = Gate::new(store.clone(), registry.clone(), metrics.clone(), keepers, house.closing().clone())
            .keeping(Keeping::new(config.limits.resume, config.limits.link_memory))
            .with_fleet(begin_fleet(&store, &registry, (&audit, &events), &house))
            .with_updates(begin_updates((&store, &programs), &registry, &traffic, (&audit, &events), &house))
            .with_lans(lans.clone())
            .with_identities(&config.gateways, certificates.public_keys_watched());
        let desk = Desk::new(store.clone(), (authority, certificates.clone()), programs.clone(), config.gateways);
        let observer = Observer::new(store.clone(), access.clone(), registry.clone(), metrics, house.closing().clone());
        let console = api::console_router(ConsoleState {
            access,
            store: store.clone(),
            online: online_since(registry.clone()),
            site: site.clone(),
            traffic: traffic.clone(),
            audit: audit.clone(),
            events,
            vendors: lans.vendors(),
            tell: tell_gateway(registry.clone()),
            programs,
            memory: Memory::new(config.limits.api_requests),
        })
        .merge(api::stream::routes(&site, porter.clone(), house.clone()))
        .merge(link::routes(gate, house.clone()))
        .merge(api::enrol::routes(desk, audit.clone()))
        .merge(observe::routes(observer));

        let edge = Arc::new(Edge::new((*site).clone(), porter, console, house.clone()));
        let (redirect, ports) = (Arc::new(Redirect((*site).clone())), (https.as_slice(), http.as_slice()));
        tell_ready(&site);
        tokio::select! {
            () = accept(&house, ports, &tls, (&edge, &redirect)) => {}
            () = certificates.keep(&shutdown) => {}
            () = shutdown.cancelled() => {}
            () = observe::keep_watchdog_quiet(&store) => {}
            () = link::revocation::keep(&store, &registry, &shutdown) => {}
            () = traffic.keep(&store, config.traffic.keep_months) => {}
            () = warden.keep(&shutdown) => {}
        }
        tracing::info!("no more connections are taken; what is running may end");
        observe::tell_service_manager_stopping();
        // Whoever loses a right while the server stops loses their streams too.
        let to_the_end = CancellationToken::new();
        tokio::select! {
            drained = house.drain(config.limits.drain) => log_end(&drained),
            () = warden.keep(&to_the_end) => {}
        }
        write_down((&audit, &presence), &traffic, &store).await
    }
}

/// Takes connections on all ports, secure and plain, until the house closes.
async fn accept(
    house: &House,
    (https, http): (&[TcpListener], &[TcpListener]),
    tls: &TlsSettings,
    (edge, redirect): (&Arc<Edge<Porter>>, &Arc<Redirect>),
) {
    let secure =
        https.iter().map(|port| house.accept(port, |guest| serve_tls(guest, tls.clone(), house.clone(), edge.clone())));
    let plain = http.iter().map(|port| house.accept(port, |guest| serve_plain(guest, house.clone(), redirect.clone())));
    futures_util::future::join(futures_util::future::join_all(secure), futures_util::future::join_all(plain)).await;
}

/// What is only in memory, as the last thing.
async fn write_down((audit, presence): (&Audit, &Presence), traffic: &Traffic, store: &Store) -> anyhow::Result<()> {
    presence.write().await;
    audit.note_later(Entry::new(Action::SERVER_STOP, Actor::system()));
    audit.close().await;
    traffic.write_down(store).await;
    store.close().await;
    Ok(())
}

fn log_end(drained: &Drained) {
    match drained {
        Drained::InTime => tracing::info!("stopped; everybody had finished"),
        Drained::Cut(connections) => tracing::info!(connections, "stopped; those that were left were cut"),
    }
}

/// Access, with what it knew before a restart, and those who look again and again whether people from elsewhere still are
/// welcome.
async fn begin_access(
    store: &Store,
    times: config::Access,
    (means, audit): (Means, &Audit),
    house: &House,
) -> anyhow::Result<Access> {
    let means = Means { audit: Some(audit.clone()), ..means };
    let access = Access::with(store.clone(), times, means);
    access.restore().await.context("the database cannot be used")?;
    house.spawn_task(access.clone().watch_directory(house.closing().clone()));
    house.spawn_task(access.clone().watch_provider(house.closing().clone()));
    Ok(access)
}

/// Starts to note which gateways come and go.
fn begin_presence(store: &Store, house: &House) -> Presence {
    let presence = Presence::new(store.clone());
    house.spawn_task(presence.clone().run(house.closing().clone()));
    presence
}

/// Starts to look after the configurations of gateways.
fn begin_fleet(store: &Store, registry: &Registry, (audit, events): (&Audit, &Events), house: &House) -> Fleet {
    let fleet = Fleet::new(store.clone(), registry.clone(), audit.clone(), events.clone());
    house.spawn_task(fleet.clone().run(house.closing().clone()));
    fleet
}

/// Starts to look after the programs of gateways.
fn begin_updates(
    (store, programs): (&Store, &Programs),
    registry: &Registry,
    traffic: &Traffic,
    (audit, events): (&Audit, &Events),
    house: &House,
) -> Updates {
    let told = (audit.clone(), events.clone());
    let updates = Updates::new(store.clone(), registry.clone(), programs.clone(), traffic.clone(), told);
    house.spawn_task(updates.clone().run(house.closing().clone()));
    updates
}

/// Starts to note down what happens, and to tell of it.
fn begin_audit(store: &Store, aside: Aside, house: &House) -> (Audit, Events) {
    let audit = Audit::start(store.clone());
    audit.note_later(Entry::new(Action::SERVER_START, Actor::system()).with("version", env!("CARGO_PKG_VERSION")));
    let beside = house.closing().clone().run_until_cancelled_owned(aside.run(store.clone(), audit.clone()));
    house.spawn_task(async {
        let _ = beside.await;
    });
    let events = Events::new(house.closing().clone());
    house.spawn_task(events.clone().tell_audit(audit.clone()));
    (audit, events)
}

/// Looks at the certificate that the configuration names, and logs what is unwise about it. An own authority is left
/// alone: it is made when the server starts.
///
/// # Errors
/// Why it cannot be used.
pub fn check_certificate(config: &Config) -> Result<(), TlsError> {
    if matches!(config.tls, config::Tls::Files { .. }) {
        warn_of_certificate(&Certificates::load(certificate_source(config))?, config);
    }
    Ok(())
}

/// Reads what the configuration names for the audit; connects to nobody.
///
/// # Errors
/// Why it cannot be used.
pub fn check_audit(config: &Config) -> Result<(), AsideError> {
    Aside::open(&config.audit, &config.site.console).map(drop)
}

fn warn_of_certificate(certificates: &Certificates, config: &Config) {
    certificates.warn_if_ending();
    let device = format!("any-device.{}", config.site.zone);
    for host in certificates.unnamed(&[&config.site.console, &device]) {
        tracing::warn!(host, "the certificate does not name this host: browsers and gateways will refuse it there");
    }
}

fn certificate_source(config: &Config) -> Source {
    match &config.tls {
        config::Tls::Files { certificate_file, key_file } => {
            Source::Files { certificate_file: certificate_file.clone(), key_file: key_file.clone() }
        }
        config::Tls::SelfSigned => Source::OwnCa {
            state_dir: config.state_dir.clone(),
            console: config.site.console.clone(),
            zone: config.site.zone.clone(),
        },
    }
}

fn tell_ready(site: &Site) {
    tracing::info!(console = site.console_origin(), devices = site.origin_of("*"), "ready");
    observe::tell_service_manager_ready();
}

fn tell_gateway(registry: Registry) -> TellGateway {
    Arc::new(move |gateway, message| registry.tell(gateway, message))
}

fn online_since(registry: Registry) -> OnlineSince {
    Arc::new(move |gateway| registry.online_since(gateway))
}
