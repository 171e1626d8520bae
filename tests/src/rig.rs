//! A server and gateways inside the test's own process, each on free ports with files of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use linkspan_gateway::{Command, Host};
use linkspan_protocol::id::{GatewayName, Secret};
use linkspan_server::Server;
use linkspan_server::access::{Passwords, Role, gateway_secret};
use linkspan_server::config::Config;
use linkspan_server::store::Store;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::https::Https;
use crate::parts::loopback;
use crate::process::bound_command;
use crate::programs::{Binaries, GatewayConfig};
use crate::wait::{PATIENCE, until};

/// The password of the user `admin`.
pub const PASSWORD: &str = "a password for tests";

/// A server in this process. Its console is `linkspan.localhost`, its zone `devices.localhost`.
#[derive(Debug)]
pub struct Rig {
    folder: TempDir,
    config: Config,
    address: SocketAddr,
    store: Store,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    shutdown: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Rig {
    /// Starts a server with the user `admin`.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// The same with changes to its configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-rig-").tempdir()?;
        let mut config = Config::dev(&folder.path().join("server"));
        (config.listen.https, config.listen.http) = (vec![loopback(0)], vec![loopback(0)]);
        change(&mut config);
        config.create_state_dir()?;
        let store = Store::open(&config.store.url).await?;
        let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await?;
        store.add_user(&"admin".parse()?, Role::Admin, &hash).await?;
        let mut rig = Self { folder, config, address: loopback(0), store, running: None };
        rig.start_server().await?;
        Ok(rig)
    }

    /// Starts the server again after `stop_server` or `kill_server`, on the same ports.
    pub async fn start_server(&mut self) -> Result<()> {
        let mut server = Server::open(self.config.clone()).await?;
        self.address = *server.https_addresses()?.first().context("the server listens nowhere")?;
        server.set_public_port(self.address.port());
        self.config.listen.https = vec![self.address];
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(shutdown.clone()));
        self.running = Some(Running { shutdown, tasks });
        let (https, url) = (self.https()?, format!("{}/readyz", self.console()));
        until("the server", PATIENCE, async || {
            let answer = https.get(&url).await?;
            ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
            Ok(())
        })
        .await
    }

    /// Ends the server in good order.
    pub async fn stop_server(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.shutdown.cancel();
        running.tasks.join_next().await.context("the server was gone")??
    }

    /// Where it listens for HTTPS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A folder of that name in it.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The server's database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The certificate of the server's own authority.
    pub fn ca_file(&self) -> PathBuf {
        self.config.state_dir.join("ca.pem")
    }

    /// The console's origin.
    pub fn console(&self) -> String {
        format!("https://linkspan.localhost:{}", self.address.port())
    }

    /// The origin of a device's page; the label is `DEVICE` or `DEVICE--SERVICE`.
    pub fn device(&self, label: &str) -> String {
        format!("https://{label}.devices.localhost:{}", self.address.port())
    }

    /// A client that finds all its hosts.
    pub fn https(&self) -> Result<Https> {
        Https::new(&self.ca_file(), self.address)
    }

    /// A token of `admin`.
    pub async fn sign_in(&self) -> Result<String> {
        self.https()?.sign_in(&self.console(), "admin", PASSWORD).await
    }

    /// curl with `admin`'s token for devices' hosts, the server's authority, and all names at the server's address.
    pub fn curl(&self, token: &str) -> std::process::Command {
        let mut command = bound_command("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "120", "--cacert"]).arg(self.ca_file());
        command.args(["--connect-to", &format!("::{}", self.address)]);
        command.args(["-H", &format!("Linkspan-Authorization: Bearer {token}")]);
        command
    }

    /// `linkspan`, the person's command line, for this server and token.
    pub fn client(&self, token: &str) -> Result<std::process::Command> {
        let mut command = Binaries::beside_me()?.command("linkspan")?;
        for (name, value) in self.client_environment(token) {
            command.env(name, value);
        }
        Ok(command)
    }

    /// What tells `linkspan` its server, token and authority.
    pub fn client_environment(&self, token: &str) -> [(&'static str, String); 3] {
        [
            ("LINKSPAN_SERVER", self.console()),
            ("LINKSPAN_TOKEN", token.to_owned()),
            ("LINKSPAN_CA_FILE", self.ca_file().display().to_string()),
        ]
    }

    /// A configuration for a new gateway of that name: identity and server are in it, devices are not.
    pub async fn new_gateway(&self, name: &str) -> Result<GatewayConfig> {
        let secret = gateway_secret();
        let added = self.store.add_gateway(&name.parse::<GatewayName>()?, &secret).await?;
        added.with_context(|| format!("there is a gateway {name} already"))?;
        let url = format!("https://localhost:{}", self.address.port());
        Ok(GatewayConfig::new(name, secret.expose(), &url, &self.ca_file()))
    }

    /// Runs a gateway with its files in a new folder.
    pub fn run_gateway(&self, config: &GatewayConfig) -> Result<RunningGateway> {
        let folder = tempfile::Builder::new().prefix("gateway-").tempdir_in(self.folder.path())?;
        RunningGateway::start(folder, config)
    }

    /// Waits until the page of a device answers a request of `admin` with success or a redirect.
    pub async fn wait_for_page(&self, url: &str, token: &str) -> Result<()> {
        let https = self.https()?;
        until(url, PATIENCE, async || {
            let answer = https.get_device(url, token).await?;
            ensure!(answer.status.as_u16() < 400, "{}: {}", answer.status, answer.text());
            Ok(())
        })
        .await
    }
}

/// A gateway in this process; it ends without a word when dropped.
#[derive(Debug)]
pub struct RunningGateway {
    folder: TempDir,
    commands: mpsc::Sender<Command>,
    tasks: JoinSet<Result<()>>,
}

impl RunningGateway {
    fn start(folder: TempDir, config: &GatewayConfig) -> Result<Self> {
        let file = config.write(folder.path())?;
        let config = linkspan_gateway::config::load(&file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let (commands, receiver) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { Ok(linkspan_gateway::run(config, receiver, Host::none()).await.map(drop)?) });
        Ok(Self { folder, commands, tasks })
    }

    /// Writes another configuration and has the gateway read it.
    pub async fn reload(&self, config: &GatewayConfig) -> Result<()> {
        config.write(self.folder.path())?;
        Ok(self.commands.send(Command::Reload).await?)
    }

    /// Ends it in good order.
    pub async fn stop(mut self) -> Result<()> {
        self.commands.send(Command::Stop).await?;
        self.tasks.join_next().await.context("the gateway was gone")??
    }
}
