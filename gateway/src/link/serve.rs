//! A link while it is up: its streams go to the forwarder, and when it may be dead another one is made beside it.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::discovery::FoundDevice;
use linkspan_protocol::driver::{Incoming, LinkEnd, LinkHandle};
use linkspan_protocol::limits::PING_AFTER;
use linkspan_protocol::message::{
    Close, CloseReason, ConfigState, DeviceRefused, GatewayToServer, ServerToGateway, Welcome,
};
use linkspan_protocol::session::SessionError;
use linkspan_protocol::text::tame;
use linkspan_protocol::update::UpdateState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::dialer::{Path, Reached};
use super::session::{Held, Joined};
use super::{
    Failure, Keepalive, Lasting, Link, Next, Outlook, Report, Retry, Step, closed, introduce, leaves, moved, rerouted,
};
use crate::Phase;
use crate::central::Order;
use crate::config::{Config, TargetHost};
use crate::discovery::identify::{self, Outcome};
use crate::platform::uplink;
use crate::update;

/// The longest span that a server reckons with before it was told one: it asks by itself after twice [`PING_AFTER`].
const SPAN_UNTOLD: Duration = Duration::from_secs(80);

/// One link, being served.
struct Stay {
    handle: LinkHandle,
    path: Path,
    /// What the link was made by.
    made: Arc<Config>,
    served: Arc<Config>,
    /// What comes next, if this end closes the link.
    planned: Option<Next>,
    /// Our address is no more: nothing can come over this link any longer.
    homeless: bool,
    /// The network has changed since the dialer was told.
    news: bool,
    /// The server wants to know how long the line may be silent.
    tells_span: bool,
    /// News of the data used, if the server keeps books.
    told: Option<watch::Receiver<Option<GatewayToServer>>>,
    /// What is found on the LAN.
    found: watch::Receiver<Arc<Vec<FoundDevice>>>,
    /// How the gateway stands with its configuration, if the server sends some.
    standing: News<ConfigState>,
    /// How it stands with its program, if the server has others.
    program: News<UpdateState>,
    /// What came of closer looks.
    outcomes: watch::Receiver<Option<Outcome>>,
}

/// What is told anew with each change, if the server wants to know.
type News<S> = Option<watch::Receiver<S>>;

/// Why a link is looked at anew.
enum Turn {
    Ended(LinkEnd),
    /// It became suspect, or is no more; or the network changed.
    Mood,
    Reached(Box<Reached>),
}

impl Stay {
    /// Whether another link is to be made beside this one.
    fn wants_another(&self) -> bool {
        (self.homeless || self.handle.pulse().suspect || self.is_rerouted()) && self.planned.is_none()
    }

    /// The configuration leads another way to the same server.
    fn is_rerouted(&self) -> bool {
        rerouted(&self.made, &self.served)
    }

    /// Says why another link is made; whether the configuration asks for it.
    fn says_why(&self) -> bool {
        let rerouted = self.is_rerouted();
        if rerouted {
            log::info!("the configuration leads another way to the server: another link is made beside this one");
        } else {
            log::info!("the link is silent: another one is made beside it");
        }
        rerouted
    }
}

impl Link {
    /// Lives as long as the link does. True beside the reason: another gateway took over.
    pub(super) async fn serve(
        &mut self,
        joined: Joined,
        (path, welcome): (Path, &Welcome),
        made: &Arc<Config>,
        lasting: &mut Lasting,
    ) -> (Next, bool) {
        let Lasting { dialer, outlook, held, .. } = lasting;
        let Joined { handle, driver, books, goes_on, configures, discovers, updates } = joined;
        let served = self.config.borrow_and_update().clone();
        if held.is_news(&served) {
            self.tell_devices(&handle, &served, held);
        }
        let mut found = self.inventory.watch();
        if discovers && let Some(first) = held.begin_lan(&found.borrow_and_update()) {
            tell_lan(&handle, &first);
        }
        let told = books.then(|| self.traffic.told());
        let (standing, program) = self.begin(&handle, (configures, updates), !goes_on);
        let tells_span = welcome.ping_after_max_s.is_some();
        let outcomes = self.desk.outcomes();
        let mut stay = Stay {
            handle,
            path,
            made: made.clone(),
            served,
            planned: None,
            homeless: false,
            news: false,
            tells_span,
            told,
            found,
            standing,
            program,
            outcomes,
        };
        let v6 = path.peer.is_ipv6();
        outlook.uplinks.connected((uplink::name(v6), v6), spans(welcome), &stay.handle.pulse());
        self.keep_awake(&stay, outlook.uplinks.keepalive());
        let mut driver = pin!(driver.run());
        loop {
            if std::mem::take(&mut stay.news) {
                dialer.news();
            }
            let turn = if stay.wants_another() {
                dialer.servers.suspect();
                let (report, server) = (stay.says_why().then(|| self.report.clone()), stay.served.server.clone());
                let beside = dialer.persist(&server, |failure, wait| failed_beside(report.as_ref(), failure, wait));
                self.live(&mut stay, driver.as_mut(), pin!(beside), (outlook, held)).await
            } else {
                dialer.servers.calm();
                self.live(&mut stay, driver.as_mut(), pin!(pending()), (outlook, held)).await
            };
            match turn {
                Turn::Mood => {}
                Turn::Ended(end) => {
                    outlook.uplinks.lost(&stay.handle.pulse());
                    return ended(&end, stay);
                }
                Turn::Reached(reached) => return (self.switch(&stay, *reached, held).await, false),
            }
        }
    }

    /// The first word of a link about the configuration and about the program, if the server wants to know of them.
    fn begin(
        &self,
        handle: &LinkHandle,
        (configures, updates): (bool, bool),
        begins: bool,
    ) -> (News<ConfigState>, News<UpdateState>) {
        let mut standing = configures.then(|| self.central.state());
        if let Some(standing) = &mut standing {
            let state = standing.borrow_and_update().clone();
            tell_config(handle, ConfigState { begins, ..state });
        }
        let mut program = updates.then(|| self.updates.state()).flatten();
        if let Some(program) = &mut program {
            let state = program.borrow_and_update().clone();
            tell_update(handle, UpdateState { begins, ..state });
        }
        (standing, program)
    }

    /// Serves the link until its mood changes, it ends, or another one is reached.
    async fn live<D, R>(
        &mut self,
        stay: &mut Stay,
        mut driver: Pin<&mut D>,
        mut beside: Pin<&mut R>,
        (outlook, held): (&mut Outlook, &mut Held),
    ) -> Turn
    where
        D: Future<Output = LinkEnd>,
        R: Future<Output = Reached>,
    {
        let wanted = stay.wants_another();
        loop {
            tokio::select! {
                end = &mut driver => return Turn::Ended(end),
                Some(incoming) = stay.handle.accept() => self.take(incoming),
                Some(message) = stay.handle.receive() => self.hear(&message, &stay.handle, held),
                reached = &mut beside => return Turn::Reached(Box::new(reached)),
                () = stay.handle.pulse_changed() => {
                    if let Some(span) = outlook.uplinks.beat(&stay.handle.pulse()) {
                        self.keep_awake(stay, span);
                        outlook.uplinks.save(false);
                    }
                    if stay.wants_another() != wanted {
                        return Turn::Mood;
                    }
                }
                () = outlook.network.changed() => {
                    stay.homeless = !uplink::is_ours(stay.path.local);
                    stay.news = true;
                    log::info!(
                        "the network changed{}", if stay.homeless { ", and the link has lost its address" } else { "" }
                    );
                    stay.handle.probe();
                    return Turn::Mood;
                }
                state = news_of(&mut stay.standing) => tell_config(&stay.handle, state),
                state = news_of(&mut stay.program) => tell_update(&stay.handle, state),
                told = news(&mut stay.told) => tell_traffic(&stay.handle, told.as_ref()),
                Ok(()) = stay.found.changed(), if stay.planned.is_none() => {
                    self.follow(stay, held);
                    held.lan().into_iter().for_each(|told| told.changed(Instant::now()));
                }
                () = due(held.lan().and_then(|told| told.due())), if stay.planned.is_none() => {
                    let devices = self.inventory.watch().borrow().clone();
                    if let Some(message) = held.lan().and_then(|told| told.next(&devices, Instant::now())) {
                        tell_lan(&stay.handle, &message);
                    }
                }
                Ok(()) = stay.outcomes.changed() => tell_outcome(stay),
                Ok(()) = self.config.changed(), if stay.planned.is_none() => {
                    self.reconfigure(stay, held);
                    return Turn::Mood;
                }
                () = reaches(&mut self.phase, Phase::Stopping), if !matches!(stay.planned, Some(Next::Stop)) => {
                    stay.handle.close(&close(CloseReason::Stopping, "the gateway stops"));
                    stay.planned = Some(Next::Stop);
                    return Turn::Mood;
                }
            }
        }
    }

    /// A stream that the server opened: to a device, or with a program for the gateway itself.
    fn take(&self, incoming: Incoming) {
        if incoming.target.update {
            return self.updates.order(update::Order::Load(incoming.stream));
        }
        self.forwarder.take(incoming);
    }

    fn reconfigure(&mut self, stay: &mut Stay, held: &mut Held) {
        let config = self.config.borrow_and_update().clone();
        if moved(&stay.served, &config) {
            stay.handle.close(&close(CloseReason::Restarting, "the configuration changed"));
            stay.planned = Some(Next::Redial);
        } else {
            // Even if it is the same list: what the server refused before may be free by now.
            held.is_news(&config);
            self.tell_devices(&stay.handle, &config, held);
        }
        stay.served = config;
    }

    /// Says hello over the new connection, and leaves the old link: whichever way that ends, the session goes on over the
    /// next one.
    async fn switch(&mut self, stay: &Stay, reached: Reached, held: &mut Held) -> Next {
        let server = reached.path.server;
        let hello = self.hello(&stay.served, false);
        tokio::select! {
            made = introduce(reached, hello, held) => match made {
                Ok(made) => Next::Switch(made),
                Err(failure) => Next::Failed(server, failure),
            },
            () = leaves(&mut self.phase, Phase::Running) => Next::Stop,
        }
    }

    /// The link asks after that silence from now on, and the server later.
    fn keep_awake(&self, stay: &Stay, keepalive: Keepalive) {
        stay.handle.set_ping_after(keepalive.span);
        let told = self.report.borrow().keepalive.as_ref().is_some_and(|before| before.span > SPAN_UNTOLD);
        if stay.tells_span && (keepalive.span > SPAN_UNTOLD || told) {
            let ping_after_s = u32::try_from(keepalive.span.as_secs()).unwrap_or(u32::MAX);
            if let Err(e) = stay.handle.send(&GatewayToServer::Keepalive { ping_after_s }) {
                log::debug!("the server was not told how long the line may be silent: {e}");
            }
        }
        self.report.send_modify(|report| report.keepalive = Some(keepalive));
    }

    fn tell_devices(&self, handle: &LinkHandle, config: &Config, held: &mut Held) {
        let report = config.report(|host| self.place_of(host));
        if let Err(e) = handle.send(&report) {
            log::warn!("the list of devices was not sent: {e}");
        }
        held.told_devices(report);
    }

    /// A device that is known by its Ethernet address has moved: the server writes its address into what it asks it.
    fn follow(&self, stay: &Stay, held: &mut Held) {
        let moves = stay.served.devices.iter().any(|device| matches!(device.host, TargetHost::Mac(_)));
        if moves && held.is_other_report(&stay.served.report(|host| self.place_of(host))) {
            self.tell_devices(&stay.handle, &stay.served, held);
        }
    }

    /// Where a host is now, as far as it is known.
    fn place_of(&self, host: &TargetHost) -> String {
        let TargetHost::Mac(mac) = host else { return host.to_string() };
        let spots = self.inventory.spots(*mac);
        // A name that leads nowhere (RFC 6761), until the device is seen.
        spots
            .first()
            .map_or_else(|| format!("{}.invalid", mac.to_string().replace(':', "")), |spot| spot.ip.to_string())
    }

    fn hear(&self, message: &[u8], handle: &LinkHandle, held: &mut Held) {
        match serde_json::from_slice(message) {
            Ok(ServerToGateway::DevicesTaken { refused }) => self.note_refused(&refused),
            Ok(ServerToGateway::ServerKeys { keys }) => self.tls.clock().remember_keys(&keys),
            Ok(ServerToGateway::ConfigTry(asked)) => self.central.order(Order::Try(asked)),
            Ok(ServerToGateway::ConfigConfirm { order }) => self.central.order(Order::Confirm(order)),
            Ok(ServerToGateway::UpdateOffer(offer)) => self.updates.order(update::Order::Offer(offer)),
            Ok(ServerToGateway::UpdateConfirm { order }) => self.updates.order(update::Order::Confirm(order)),
            Ok(ServerToGateway::ConfigSend {}) => {
                if let Err(e) = handle.send(&self.central.document()) {
                    log::warn!("the configuration was not sent: {e}");
                }
            }
            Ok(ServerToGateway::LanTell {}) => {
                held.lan().into_iter().for_each(|told| told.asked(Instant::now()));
            }
            Ok(ServerToGateway::Identify { request, targets }) => self.desk.order(identify::Order { request, targets }),
            Ok(ServerToGateway::Unknown) => {
                log::debug!("the server sent a message that this version does not know")
            }
            Ok(cap @ ServerToGateway::DataCap { .. }) => self.report.send_modify(|report| report.data_cap = Some(cap)),
            Err(e) => log::warn!("the server sent a message that cannot be read: {}", tame(&e.to_string())),
        }
    }

    /// Notes which devices of ours the server does not publish, and says so if it is news: a server that talks of others,
    /// or repeats itself, must not fill the log.
    fn note_refused(&self, told: &[DeviceRefused]) {
        let config = self.config.borrow().clone();
        let of_ours = config.devices.iter().filter_map(|listed| told.iter().find(|device| device.name == listed.name));
        let refused: Vec<_> =
            of_ours.map(|device| DeviceRefused { reason: tame(&device.reason), ..device.clone() }).collect();
        let news = self.report.borrow().refused != refused;
        if news {
            for device in &refused {
                log::warn!("the server does not publish {}: {}", device.name, device.reason);
            }
            self.report.send_modify(|report| report.refused = refused);
        }
    }
}

/// The silence that the server asks for, and the one up to which it lets the gateway learn, if it does.
fn spans(welcome: &Welcome) -> (Duration, Option<Duration>) {
    let fixed = match welcome.ping_after_s {
        0 => PING_AFTER,
        seconds => Duration::from_secs(seconds.clamp(5, 3600).into()),
    };
    (fixed, welcome.ping_after_max_s.map(|seconds| Duration::from_secs(seconds.clamp(5, 3600).into())))
}

/// What is to be told next; for ever if nobody wants to be told.
async fn news(told: &mut Option<watch::Receiver<Option<GatewayToServer>>>) -> Option<GatewayToServer> {
    if let Some(told) = told
        && told.changed().await.is_ok()
    {
        return told.borrow_and_update().clone();
    }
    pending().await
}

/// How the gateway stands from now on; for ever if nobody wants to be told.
async fn news_of<S: Clone>(standing: &mut News<S>) -> S {
    if let Some(standing) = standing
        && standing.changed().await.is_ok()
    {
        return standing.borrow_and_update().clone();
    }
    pending().await
}

fn tell_config(handle: &LinkHandle, state: ConfigState) {
    if let Err(e) = handle.send(&GatewayToServer::Config(state)) {
        log::warn!("the server was not told of the configuration: {e}");
    }
}

fn tell_update(handle: &LinkHandle, state: UpdateState) {
    if let Err(e) = handle.send(&GatewayToServer::Update(state)) {
        log::warn!("the server was not told of the program: {e}");
    }
}

/// Waits until then; for ever, if there is nothing to wait for.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

fn tell_lan(handle: &LinkHandle, told: &GatewayToServer) {
    if let Err(e) = handle.send(told) {
        log::debug!("what is found on the LAN was not told: {e}");
    }
}

fn tell_outcome(stay: &mut Stay) {
    if let Some(Outcome { request, looked, found, refused }) = stay.outcomes.borrow_and_update().clone() {
        tell_lan(&stay.handle, &GatewayToServer::Identified { request, looked, found, refused });
    }
}

fn tell_traffic(handle: &LinkHandle, told: Option<&GatewayToServer>) {
    if let Some(told) = told
        && let Err(e) = handle.send(told)
    {
        log::debug!("the data used was not told: {e}");
    }
}

/// No link could be made beside the one that is. Where the configuration asks for it, somebody wants to know.
fn failed_beside(report: Option<&watch::Sender<Report>>, failure: Failure, wait: Duration) {
    let Some(report) = report else {
        log::debug!("beside the silent link: {failure}; again in {wait:.1?}");
        return;
    };
    log::warn!("the way that the configuration leads: {failure}; again in {wait:.1?}");
    report.send_modify(|report| report.last_failure = Some((failure, Instant::now())));
}

fn close(reason: CloseReason, text: &str) -> Close {
    Close { reason, text: text.to_owned(), retry_between_s: None }
}

/// What comes after a link.
fn ended(end: &LinkEnd, stay: Stay) -> (Next, bool) {
    if let Some(next) = stay.planned {
        return (next, false);
    }
    let server = stay.path.server;
    let lost = || Failure::new(Step::Link, tame(&end.to_string()), "it will be tried again");
    match end {
        LinkEnd::Closed(close) => (Next::Failed(server, closed(close)), close.reason == CloseReason::Superseded),
        LinkEnd::Session(SessionError::Silent(_)) => (Next::Failed(server, lost().with_retry(Retry::Line)), false),
        LinkEnd::ClosedHere | LinkEnd::Left | LinkEnd::Lost(_) | LinkEnd::Session(_) => {
            (Next::Failed(server, lost()), false)
        }
    }
}

async fn reaches(phase: &mut watch::Receiver<Phase>, to: Phase) {
    if phase.wait_for(|phase| *phase == to).await.is_err() {
        pending().await
    }
}
