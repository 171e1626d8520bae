//! Signing in at a real OpenID provider: there and back, with the role that the groups make, and what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use linkspan_server::config::{GroupRole, Oidc};
use linkspan_tests::parts::{Browser, free_port, loopback};
use linkspan_tests::process::{Process, bound_command};
use linkspan_tests::rig::Rig;
use linkspan_tests::wait::{PATIENCE, accepts, until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::recorder::Recorder;
use super::world::World;

/// npm's oidc-provider; it ends when dropped.
struct Provider {
    folder: PathBuf,
    port: u16,
    redirect: String,
    _process: Process,
}

impl Provider {
    /// What the server is told of it, before either of them runs.
    fn settings(folder: &Path, port: u16) -> Result<Oidc> {
        certificates(folder)?;
        let secret = folder.join("client-secret");
        std::fs::write(&secret, "a secret of the client: 100 % + more\n")?;
        let role = |group: &str, role: &str| -> Result<GroupRole> {
            Ok(GroupRole { group: group.to_owned(), role: role.to_owned(), tenant: "default".parse()? })
        };
        Ok(Oidc {
            title: "the plant".to_owned(),
            issuer: format!("https://localhost:{port}"),
            ca_file: Some(folder.join("ca.pem")),
            client_id: "linkspan".to_owned(),
            client_secret_file: Some(secret),
            scopes: vec!["profile".to_owned()],
            name_claim: "preferred_username".to_owned(),
            groups_claim: "groups".to_owned(),
            session_lifetime: Some(Duration::from_hours(8)),
            trust_for: Duration::from_hours(1),
            roles: vec![role("plant-admins", "admin")?, role("plant-operators", "operator")?],
        })
    }

    async fn start(folder: &Path, port: u16, redirect: &str) -> Result<Self> {
        let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../npm/node_modules");
        anyhow::ensure!(
            modules.join("oidc-provider").exists(),
            "`tests/install.sh test` installs oidc-provider from npm"
        );
        let mut command: Command = bound_command("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/provider.mjs"));
        command.arg(folder).args([&port.to_string(), redirect]).arg(modules.canonicalize()?);
        let mut process = Process::start("provider", command, folder)?;
        process.until("the provider", async || accepts(loopback(port)).await).await?;
        Ok(Self { folder: folder.to_owned(), port, redirect: redirect.to_owned(), _process: process })
    }

    /// The same provider, with new keys and without a memory.
    async fn restart(self) -> Result<Self> {
        let Self { folder, port, redirect, _process } = self;
        drop(_process);
        Self::start(&folder, port, &redirect).await
    }
}

fn certificates(folder: &Path) -> Result<()> {
    let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(folder.join("cert.pem"), certificate.pem())?;
    Ok(std::fs::write(folder.join("key.pem"), key.serialize_pem())?)
}

async fn world() -> Result<(World, Provider)> {
    let (port, folder) = (free_port()?, tempfile::Builder::new().prefix("linkspan-provider-").tempdir()?.keep());
    let settings = Provider::settings(&folder, port)?;
    let rig = Rig::start_with(|config| config.oidc = Some(settings)).await?;
    let browser = Browser::start(&rig.subfolder("browser")?, true).await?;
    let config = rig.new_gateway("site12").await?;
    let redirect = format!("{}/oidc/callback", rig.console());
    let provider = Provider::start(&folder, port, &redirect).await?;
    Ok((World { rig, browser, config, gateway: None }, provider))
}

/// On the page to sign in: to the provider, as somebody, and through its question whether that is all right.
async fn sign_in_there(world: &World, name: &str) -> Result<()> {
    let browser = &world.browser;
    browser.shows("Sign in with the plant").await?;
    browser.click("a[href^='/oidc/start']").await?;
    browser.until("!!document.querySelector('input[name=login]')").await?;
    browser.fill("input[name=login]", name).await?;
    browser.fill("input[name=password]", "any").await?;
    browser.click("button[type=submit]").await?;
    browser
        .until("!!document.querySelector('button[type=submit]') && !document.querySelector('input[name=login]')")
        .await?;
    browser.click("button[type=submit]").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_of_a_provider_comes_in_with_the_role_of_their_groups() {
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let (mut world, provider) = world().await.unwrap();
    world.run(&[("plc1", device.address())]).await.unwrap();
    let console = world.rig.console();
    let page = format!("{}/a?b=c", world.rig.device("plc1"));
    world.browser.open(&page).await.unwrap();
    world.picture("sign-in-with-provider").await.unwrap();
    sign_in_there(&world, "anna").await.unwrap();
    world.browser.is_at(&page).await.unwrap();
    world.browser.shows("a device").await.unwrap();
    world.browser.open(&format!("{console}/account")).await.unwrap();
    world.browser.shows("You sign in through your organisation.").await.unwrap();
    world.browser.shows("anna, admin").await.unwrap();
    world.picture("account-of-provider").await.unwrap();

    // The way back works once, and not for what somebody made up.
    for query in ["", "?state=x&code=y", &format!("?state={}&code=y", "A".repeat(43)), "?error=access_denied"] {
        world.browser.open(&format!("{console}/oidc/callback{query}")).await.unwrap();
        world.browser.shows("Not signed in").await.unwrap();
    }

    world.browser.open(&console).await.unwrap();
    world.browser.click(".top button").await.unwrap();
    world.browser.shows("With the plant you still are signed in").await.unwrap();
    world.picture("signed-out-here").await.unwrap();
    let there = world.browser.evaluate("document.querySelector('a.button').href").await.unwrap();
    assert!(there.as_str().unwrap().starts_with(&format!("https://localhost:{}/session/end?", provider.port)));
    world.browser.click("a.button").await.unwrap();
    world.browser.until("location.pathname === '/session/end'").await.unwrap();
    world.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_no_group_stays_out_and_new_keys_are_read() {
    let (world, provider) = world().await.unwrap();
    let console = world.rig.console();
    world.browser.open(&console).await.unwrap();
    sign_in_there(&world, "stranger").await.unwrap();
    world.browser.shows("You are signed in there, but have no access here").await.unwrap();
    assert_eq!(world.rig.store().users().await.unwrap().len(), 1, "nobody was made");

    // With other keys than those that the server knows; it does not ask for them more often than every ten seconds.
    let provider = provider.restart().await.unwrap();
    let browser = &world.browser;
    browser.open(&format!("{console}/login")).await.unwrap();
    sign_in_there(&world, "olga").await.unwrap();
    until("the new keys", PATIENCE, async || {
        // There she is signed in by now, so that the way there and back asks for nothing.
        browser.open(&format!("{console}/oidc/start")).await?;
        let at = browser.page.current_url().await?;
        anyhow::ensure!(at.as_str() == format!("{console}/"), "at {at}");
        Ok(())
    })
    .await
    .unwrap();
    let olga = world.rig.store().person(&"olga".parse().unwrap()).await.unwrap().context("no olga").unwrap();
    assert_eq!((olga.source.as_str(), olga.role.as_deref()), ("oidc", Some("operator")));
    drop(provider);
    world.browser.close().await.unwrap();
}
