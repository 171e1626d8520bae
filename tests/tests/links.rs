//! Journeys of links that fail: killed programs, a line cut and restored, a proxy on the way out, a cloned identity.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use linkspan_tests::devices::one_byte_device;
use linkspan_tests::line::{End, Line, Way};
use linkspan_tests::netns::Namespace;
use linkspan_tests::parts::{Nginx, Proxy};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use tempfile::TempDir;

/// Our real programs around a web server.
struct Site {
    server: Server,
    gateway: Gateway,
    config: GatewayConfig,
    token: String,
    nginx: Nginx,
    folder: TempDir,
}

impl Site {
    async fn start(change: impl FnOnce(GatewayConfig) -> GatewayConfig) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-links-").tempdir()?;
        let binaries = Binaries::beside_me()?;
        let nginx = Nginx::start(folder.path()).await?;
        std::fs::write(nginx.root().join("index.html"), "hello from the device")?;
        let server = Server::start(&binaries, ServerSetup::new(&folder.path().join("server"))?).await?;
        let secret = server.add_gateway("site12")?;
        let url = format!("https://localhost:{}", server.address().port());
        let config = GatewayConfig::new("site12", &secret, &url, &server.ca_file());
        let config = change(config.device("plc1", "", &[("web", "http", nginx.address())]));
        let gateway = Gateway::start(&binaries, &folder.path().join("gateway"), &config)?;
        let token = server.sign_in().await?;
        Ok(Self { server, gateway, config, token, nginx, folder })
    }

    async fn page(&self) -> Result<()> {
        let answer = self.server.https()?.get_device(&format!("{}/", self.server.device("plc1")), &self.token).await?;
        ensure!(
            answer.status == 200 && answer.text() == "hello from the device",
            "{} {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }

    async fn wait_for_page(&self) -> Result<Duration> {
        let begin = Instant::now();
        until("the page", PATIENCE, async || self.page().await).await?;
        Ok(begin.elapsed())
    }
}

#[tokio::test]
async fn a_killed_gateway_is_offline_at_once_and_back_when_it_is_back() {
    let mut site = Site::start(|config| config).await.unwrap();
    site.wait_for_page().await.unwrap();
    site.gateway.process().kill().unwrap();
    let url = format!("{}/", site.server.device("plc1"));
    until("the offline page", PATIENCE, async || {
        let answer = site.server.https()?.get_device(&url, &site.token).await?;
        let said = (answer.status.as_u16(), answer.header("linkspan-error").to_owned());
        ensure!(said == (503, "gateway-offline".to_owned()), "{said:?} {}", answer.text());
        Ok(())
    })
    .await
    .unwrap();
    site.gateway.restart().unwrap();
    site.wait_for_page().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_finds_its_gateways_and_its_people_again() {
    let mut site = Site::start(|config| config).await.unwrap();
    site.wait_for_page().await.unwrap();
    site.server.restart().await.unwrap();
    // The same token: who was signed in still is.
    let took = site.wait_for_page().await.unwrap();
    eprintln!("the page is back {took:?} after the server");
}

#[tokio::test]
async fn a_gateway_goes_out_through_squid_with_name_and_password() {
    let folder = tempfile::tempdir().unwrap();
    let squid = Proxy::start(folder.path()).await.unwrap();
    let url = squid.url();
    let mut site = Site::start(|config| config.proxy(&url)).await.unwrap();
    let page = site.wait_for_page().await;
    assert!(page.is_ok(), "{page:?}\n{}\n{}", site.gateway.process().output(), squid.log());
    let port = site.server.address().port();
    site.server.process().kill().unwrap();
    // squid notes a tunnel down when it ends.
    let seen = format!("CONNECT localhost:{port} site12");
    until("squid's note", PATIENCE, async || {
        squid.log().contains(&seen).then_some(()).ok_or_else(|| anyhow!(squid.log()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    for tiny in [false, true] {
        let proxy =
            if tiny { Proxy::start_tiny(folder.path()).await } else { Proxy::start(folder.path()).await }.unwrap();
        let url = proxy.url_with_wrong_password();
        let mut site = Site::start(|config| config.proxy(&url)).await.unwrap();
        until("the gateway's complaint", PATIENCE, async || {
            let said = site.gateway.process().output();
            ensure!(said.contains("proxy") && !said.contains("wrong@"), "{said}");
            Ok(())
        })
        .await
        .unwrap();
        assert!(site.page().await.is_err());
    }
}

#[tokio::test]
async fn of_two_gateways_with_one_identity_the_newest_wins_and_peace_returns() {
    let mut site = Site::start(|config| config).await.unwrap();
    site.wait_for_page().await.unwrap();
    let binaries = Binaries::beside_me().unwrap();
    let other = Nginx::start(&{
        let path = site.folder.path().join("other");
        std::fs::create_dir(&path).unwrap();
        path
    })
    .await
    .unwrap();
    std::fs::write(other.root().join("index.html"), "hello from the clone").unwrap();
    let from = format!("port = {}", site.nginx.address().port());
    let to = format!("port = {}", other.address().port());
    let clone = site.config.replaced(&from, &to);
    let mut second = Gateway::start(&binaries, &site.folder.path().join("clone"), &clone).unwrap();
    let (https, url) = (site.server.https().unwrap(), format!("{}/", site.server.device("plc1")));
    let shows = async |text: &str| {
        let answer = https.get_device(&url, &site.token).await?;
        ensure!(answer.text() == text, "{} {}", answer.status, answer.text());
        anyhow::Ok(())
    };
    until("the newest", PATIENCE, async || shows("hello from the clone").await).await.unwrap();
    until("the older one to be told", PATIENCE, async || {
        let said = site.gateway.process().output();
        ensure!(said.contains("another") || said.contains("superseded") || said.contains("took over"), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    // It does not fight back: for a while every answer comes from the newest.
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        shows("hello from the clone").await.unwrap();
    }
    // But it is there when the newest has gone.
    second.process().kill().unwrap();
    until("the older one again", Duration::from_secs(90), async || site.page().await).await.unwrap();
}

/// Server and gateway in namespaces with a line between; what the visitor does happens beside the server.
struct Apart {
    line: Line,
    public: Namespace,
    _site: Namespace,
    server: Server,
    _gateway: Gateway,
    _folder: TempDir,
}

impl Apart {
    async fn start() -> Result<Self> {
        let (site, public) = (Namespace::new("site")?, Namespace::new("public")?);
        let line = Line::new(&End::new(&site, "10.77.0.1/24"), &End::new(&public, "10.77.0.2/24"), 5)?;
        line.set(Way::Both, "delay=30ms jitter=10ms loss=0.5%")?;
        site.host("localhost", "10.77.0.2")?;
        let folder = tempfile::tempdir()?;
        let binaries = Binaries::beside_me()?;
        let device: SocketAddr = "10.77.0.1:8080".parse()?;
        site.inside(move || one_byte_device(device))?;
        let at: SocketAddr = "10.77.0.2:8443".parse()?;
        let server = Server::start(&binaries, ServerSetup::inside(&folder.path().join("server"), &public, at)).await?;
        let secret = server.add_gateway("site12")?;
        let config = GatewayConfig::new("site12", &secret, "https://localhost:8443", &server.ca_file());
        let config = config.device("plc1", "", &[("web", "http", device)]);
        let gateway = Gateway::start_in(Some(&site), &binaries, &folder.path().join("gateway"), &config)?;
        Ok(Self { line, public, _site: site, server, _gateway: gateway, _folder: folder })
    }

    /// Waits beside the server until the device's page answers; says how long it took.
    fn wait_for_page(&self, patience: Duration) -> Result<Duration> {
        let (https, console) = (self.server.https()?, self.server.console());
        let (password, url) = (self.server.password()?, format!("{}/", self.server.device("plc1")));
        self.public.inside_async(async move || {
            let token =
                until("the server", PATIENCE, async || https.sign_in(&console, "admin", &password).await).await?;
            let begin = Instant::now();
            until("the page", patience, async || {
                let answer = https.get_device(&url, &token).await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
            Ok(begin.elapsed())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_and_restored_needs_nobodys_help() {
    let apart = Apart::start().await.unwrap();
    apart.wait_for_page(PATIENCE).unwrap();
    for seconds in [3, 25] {
        apart.line.set(Way::Both, "down").unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        apart.line.set(Way::Both, "up").unwrap();
        let took = apart.wait_for_page(Duration::from_secs(60)).unwrap();
        eprintln!("the page is back {took:?} after a cut of {seconds} s");
    }
}
