//! A router with devices, a server, and a line between them: two namespaces in which the ways are compared.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use linkspan_tests::line::{End, Line, Way};
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait;

use crate::rathole::Rathole;
use crate::targets::{self, Moved, SERVICES};
use crate::visitor::Visitor;
use crate::world::Programs;

const SITE: &str = "10.77.0.1";
const PUBLIC: &str = "10.77.0.2";
/// Where the site is after its address has changed.
const SITE_LATER: &str = "10.77.0.3";
/// The devices, on an address that does not change.
const DEVICES: &str = "192.168.7.2";

/// Which tunnels are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    All,
    Linkspan,
    Rathole,
}

/// The field. What was started inside ends with it.
pub(crate) struct Field {
    pub(crate) line: Line,
    pub(crate) site: Namespace,
    pub(crate) public: Namespace,
    pub(crate) moved: Moved,
    /// Direct access first, linkspan last.
    pub(crate) visitors: Vec<Visitor>,
    /// Where each tunnel's own port is, by the name of its visitor.
    pub(crate) tunnel_ports: Vec<(&'static str, SocketAddr)>,
    /// Process ids of the device's ends of the tunnels, by the name of the visitor.
    pub(crate) clients: Vec<(&'static str, u32)>,
    _parts: (Option<(Server, Gateway)>, Option<Rathole>),
}

impl Field {
    /// Starts it with such a line, and waits until every way leads to the page. The line comes first: congestion control
    /// believes for long what it saw of a line in the beginning.
    pub(crate) async fn start(programs: &Programs, folder: &Path, who: Who, words: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (site, public) = (Namespace::new("site")?, Namespace::new("public")?);
        let line = Line::new(&End::new(&site, &format!("{SITE}/24")), &End::new(&public, &format!("{PUBLIC}/24")), 1)?;
        line.set(Way::Both, words)?;
        for namespace in [&public, &site] {
            namespace.host("localhost", PUBLIC)?;
        }
        ip(&["-n", site.name(), "address", "add", &format!("{DEVICES}/32"), "dev", "lo"])?;
        ip(&["-n", public.name(), "route", "add", DEVICES, "via", SITE])?;
        let (first, moved) = (SocketAddr::new(DEVICES.parse()?, 8080), Moved::default());
        let serving = moved.clone();
        site.inside(move || targets::serve(first, &serving))?;
        let mut field = Self {
            line,
            site,
            public,
            moved,
            visitors: vec![Visitor::Plain { name: "direct", first }],
            tunnel_ports: Vec::new(),
            clients: Vec::new(),
            _parts: (None, None),
        };
        if let (Some(program), Who::All | Who::Rathole) = (&programs.rathole, who) {
            field.start_rathole(program, &folder.join("rathole"), first)?;
        }
        if who != Who::Rathole {
            field.start_linkspan(programs, folder, first).await?;
        }
        for visitor in field.visitors.clone() {
            let reach = async move || {
                wait::until("the way to the device", wait::PATIENCE, async || visitor.first_byte().await).await?;
                wait::until("the way to the echo", wait::PATIENCE, async || visitor.new_echo().await).await
            };
            field.public.inside_async(reach)?;
        }
        Ok(field)
    }

    fn start_rathole(&mut self, program: &Path, folder: &Path, first: SocketAddr) -> Result<()> {
        let at = SocketAddr::new(PUBLIC.parse()?, 7000);
        let targets: Vec<SocketAddr> = SERVICES.iter().map(|service| targets::address(first, *service)).collect();
        let rathole = Rathole::start_in(program, folder, (&self.public, &self.site), at, &targets)?;
        self.visitors.push(Visitor::Plain { name: "rathole (TLS)", first: rathole.public(0) });
        self.tunnel_ports.push(("rathole (TLS)", at));
        self.clients.push(("rathole (TLS)", rathole.client.pid()));
        self._parts.1 = Some(rathole);
        Ok(())
    }

    async fn start_linkspan(&mut self, programs: &Programs, folder: &Path, first: SocketAddr) -> Result<()> {
        let at = SocketAddr::new(PUBLIC.parse()?, 8443);
        let setup = ServerSetup::inside(&folder.join("server"), &self.public, at);
        let server = Server::start(&programs.server, setup).await?;
        let secret = server.add_gateway("bench")?;
        let config = GatewayConfig::new("bench", &secret, "https://localhost:8443", &server.ca_file());
        let services = SERVICES.map(|service| {
            let kind = if service == targets::Service::Page { "http" } else { "tcp" };
            (service.name(), kind, targets::address(first, service))
        });
        let config = config.device("origin", "the origin", &services);
        let mut gateway = Gateway::start_in(Some(&self.site), &programs.gateway, &folder.join("gateway"), &config)?;
        let (https, console, password) = (server.https()?, server.console(), server.password()?);
        let ask = (https.clone(), console.clone());
        let token = self.public.inside_async(async move || {
            let (https, console) = ask;
            let sign_in = async || https.sign_in(&console, "admin", &password).await;
            wait::until("the server", wait::PATIENCE, sign_in).await
        })?;
        let pages = server.device("origin");
        self.visitors.push(Visitor::Linkspan { https, console, pages, token });
        self.tunnel_ports.push(("linkspan", at));
        self.clients.push(("linkspan", gateway.process().pid()));
        self._parts.0 = Some((server, gateway));
        Ok(())
    }

    /// Those of the visitors that use a tunnel.
    pub(crate) fn tunnels(&self) -> impl Iterator<Item = &Visitor> {
        self.visitors.iter().skip(1)
    }

    /// The names of all visitors, for a table.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.visitors.iter().map(Visitor::name).collect()
    }

    /// Gives the site another address, as a carrier does to a router that dials in anew.
    pub(crate) fn change_address(&self) -> Result<()> {
        let device = self.site_device()?;
        let site = self.site.name();
        ip(&["-n", site, "address", "delete", &format!("{SITE}/24"), "dev", &device])?;
        ip(&["-n", site, "address", "add", &format!("{SITE_LATER}/24"), "dev", &device])?;
        ip(&["-n", self.public.name(), "route", "replace", DEVICES, "via", SITE_LATER]).map(drop)
    }

    /// Bytes that went over the line from and to the site, with all headers from IP up.
    pub(crate) fn line_bytes(&self) -> Result<u64> {
        let text = ip(&["-n", self.site.name(), "-s", "-j", "link", "show", "dev", &self.site_device()?])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let bytes = |way: &str| links[0]["stats64"][way]["bytes"].as_u64().context("no count of bytes");
        Ok(bytes("rx")? + bytes("tx")?)
    }

    fn site_device(&self) -> Result<String> {
        let text = ip(&["-n", self.site.name(), "-j", "link", "show"])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let names = links.as_array().context("no links")?.iter().filter_map(|link| link["ifname"].as_str());
        let line: Vec<&str> = names.filter(|name| name.starts_with("line")).collect();
        ensure!(line.len() == 1, "not one line: {line:?}");
        Ok(line[0].to_owned())
    }
}
