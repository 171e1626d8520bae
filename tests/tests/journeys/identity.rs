//! What proves a gateway, tried from the wrong side: strangers' certificates, names of others, copies, ends, and clocks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use linkspan_server::config::Gateways;
use linkspan_server::enrol::word::claim_code;
use linkspan_server::rights::TenantId;
use linkspan_server::store::Claim;
use linkspan_tests::process::{Process, bound_command};
use linkspan_tests::programs::Binaries;
use linkspan_tests::rig::Rig;
use linkspan_tests::wait::until;
use serde_json::Value;

use crate::world::status;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server in this process, and gateways as programs.
struct Place {
    rig: Rig,
    binaries: Binaries,
}

impl Place {
    async fn start(gateways: Gateways) -> Result<Self> {
        let rig = Rig::start_with(|config| config.gateways = gateways).await?;
        Ok(Self { rig, binaries: Binaries::beside_me()? })
    }

    fn config(&self, router: &str) -> PathBuf {
        self.rig.folder().join(router).join("gateway.toml")
    }

    async fn code(&self, name: &str) -> Result<String> {
        let (code, created) = (claim_code()?, Timestamp::now());
        let claim = Claim { code: &code, created, expires: created + Duration::from_secs(3600) };
        let added = self.rig.store().add_gateway_to_claim(TenantId::DEFAULT, &name.parse()?, claim).await?;
        added.context("the name is taken")?;
        Ok(code.expose())
    }

    /// Enrols a router of that name as a gateway of that name, with another clock if one is said.
    async fn enroll(&self, name: &str, clock: Option<&str>) -> Result<()> {
        let url = format!("https://localhost:{}", self.rig.address().port());
        let mut command = self.gateway(clock)?;
        command.args(["enroll", &url, &self.code(name).await?, "--ca-file"]).arg(self.rig.ca_file());
        command.arg("--config").arg(self.config(name));
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn gateway(&self, clock: Option<&str>) -> Result<Command> {
        let gateway = self.binaries.path("linkspan-gateway")?;
        let Some(clock) = clock else { return Ok(bound_command(gateway)) };
        let mut command = bound_command("faketime");
        // What is measured stays true: only the time of day is wrong.
        command.args(["--exclude-monotonic", "-f", clock]).arg(gateway);
        Ok(command)
    }

    fn run(&self, router: &str, clock: Option<&str>) -> Result<Process> {
        let config = self.config(router);
        let mut command = self.gateway(clock)?;
        command.args(["run", "--config"]).arg(&config);
        Process::start("linkspan-gateway", command, config.parent().context("a folder")?)
    }

    async fn connected(&self, router: &str) -> Result<()> {
        until("a link", PATIENCE, async || {
            let status = status(&self.binaries, &self.config(router))?;
            ensure!(status["link"]["state"] == "connected", "{}", status["link"]);
            Ok(())
        })
        .await
    }

    async fn told(&self, router: &str, word: &str) -> Result<Value> {
        until(word, PATIENCE, async || {
            let status = status(&self.binaries, &self.config(router))?;
            ensure!(status["link"]["last_error"].to_string().contains(word), "{}", status["link"]);
            Ok(status)
        })
        .await
    }
}

fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.parent().unwrap(), to.parent().unwrap());
    fs::create_dir_all(to).unwrap();
    for name in ["gateway.toml", "gateway.pem", "gateway.key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Threat model, rows 2 and 5: another gateway's name, and a certificate of another authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_opens_its_own_name_and_one_of_another_authority_opens_nothing() {
    let place = Place::start(Gateways::default()).await.unwrap();
    place.enroll("site7", None).await.unwrap();
    place.enroll("site12", None).await.unwrap();
    let _undisturbed = place.run("site7", None).unwrap();
    place.connected("site7").await.unwrap();

    let config = place.config("site12");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("name = \"site12\"", "name = \"site7\"")).unwrap();
    let liar = place.run("site12", None).unwrap();
    place.told("site12", "the name announced is not the one in the certificate").await.unwrap();
    drop(liar);
    fs::write(&config, &text).unwrap();

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "site12");
    let foreign = params.self_signed(&key).unwrap();
    fs::write(config.with_file_name("gateway.pem"), foreign.pem()).unwrap();
    fs::write(config.with_file_name("gateway.key"), key.serialize_pem()).unwrap();
    let _stranger = place.run("site12", None).unwrap();
    place.told("site12", "does not accept this gateway's certificate").await.unwrap();
    let status = status(&place.binaries, &place.config("site7")).unwrap();
    assert_eq!((&status["link"]["state"], &status["link"]["reconnects"]), (&"connected".into(), &0.into()));
}

/// Threat model, row 3: the newest wins, the older steps back, and the server says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_identity_takes_over_once_and_does_not_fight() {
    let place = Place::start(Gateways::default()).await.unwrap();
    place.enroll("site12", None).await.unwrap();
    copy(&place.config("site12"), &place.config("copy"));
    let _first = place.run("site12", None).unwrap();
    place.connected("site12").await.unwrap();
    let _second = place.run("copy", None).unwrap();
    place.connected("copy").await.unwrap();
    until("the first one stepping back", PATIENCE, async || {
        let status = status(&place.binaries, &place.config("site12"))?;
        ensure!(status["link"]["state"] == "superseded", "{}", status["link"]);
        Ok(())
    })
    .await
    .unwrap();
    let copy = status(&place.binaries, &place.config("copy")).unwrap();
    assert_eq!(copy["link"]["reconnects"], 0, "{copy}");
}

/// A certificate of twenty seconds: renewed while the gateway runs, and the old one is dead then, in a copy too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_by_itself_and_the_old_one_dies() {
    let life = Duration::from_secs(20);
    let gateways =
        Gateways { certificate_lifetime: life, certificate_grace: Duration::from_secs(3600), ..Gateways::default() };
    let place = Place::start(gateways).await.unwrap();
    place.enroll("site12", None).await.unwrap();
    copy(&place.config("site12"), &place.config("copy"));
    let file = place.config("site12").with_file_name("gateway.pem");
    let before = fs::read(&file).unwrap();
    let mut gateway = place.run("site12", None).unwrap();
    until("another certificate", PATIENCE, async || {
        gateway.still_runs()?;
        ensure!(fs::read(&file)? != before, "{}", gateway.output());
        Ok(())
    })
    .await
    .unwrap();
    assert!(gateway.output().contains("was renewed"), "{}", gateway.output());
    gateway.kill().unwrap();
    let again = place.run("site12", None).unwrap();
    place.connected("site12").await.unwrap();
    drop(again);
    let _copy = place.run("copy", None).unwrap();
    place.told("copy", "replaced by a newer one").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ended_too_long_ago_opens_nothing() {
    let second = Duration::from_secs(1);
    let place =
        Place::start(Gateways { certificate_lifetime: second, certificate_grace: second, ..Gateways::default() })
            .await
            .unwrap();
    place.enroll("site12", None).await.unwrap();
    tokio::time::sleep(3 * second).await;
    let _gateway = place.run("site12", None).unwrap();
    place.told("site12", "ended too long ago").await.unwrap();
}

/// The real program with a wrong time of day, as after a power cut: it enrols, connects, and never minds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_clock_is_wrong_connects_to_a_server_that_it_knows() {
    let place = Place::start(Gateways::default()).await.unwrap();
    for (n, clock) in ["@1970-01-01 00:00:10", "-1y", "+1y", "@2038-01-19 03:14:00"].into_iter().enumerate() {
        let router = format!("router{n}");
        place.enroll(&router, Some(clock)).await.unwrap_or_else(|e| panic!("{clock}: {e:#}"));
        let mut gateway = place.run(&router, Some(clock)).unwrap();
        place.connected(&router).await.unwrap_or_else(|e| panic!("{clock}: {e:#}\n{}", gateway.output()));
        gateway.kill().unwrap();
    }
}
