//! Configurations from the server: written, sent, tried, kept or returned from, with real gateways.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linkspan_server::fleet;
use linkspan_server::store::{Gateway, MemberState, NewRevision, NewRollout};
use linkspan_tests::parts::free_port;
use linkspan_tests::programs::GatewayConfig;
use linkspan_tests::rig::{Rig, RunningGateway};
use linkspan_tests::wait::{PATIENCE, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::origin::Origin;
use crate::site::GATEWAY;
use crate::world::{RETURN, World};

/// A deadline that a test can wait for, and within which a good configuration is kept on a slow day.
const SHORT: &str = "8s";

impl World {
    fn ask(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> = std::iter::once("config").chain(words.iter().copied()).collect();
        self.server.ask(&words, None)
    }

    /// The document that the gateway has told it lives by.
    async fn running(&self) -> Result<String> {
        until("the document of the gateway", PATIENCE, async || self.ask(&["get", GATEWAY, "--running"])).await
    }

    fn set(&self, document: &str) -> Result<String> {
        Ok(self.server.ask(&["config", "set", GATEWAY, "-"], Some(document))?.trim().to_owned())
    }

    /// Sends the newest revision and waits for the end of it, whichever that is.
    fn apply(&self, more: &[&str]) -> Result<Value> {
        let words: Vec<&str> =
            ["apply", GATEWAY, "--json", "--deadline", SHORT].into_iter().chain(more.iter().copied()).collect();
        Ok(serde_json::from_str(&self.ask(&words)?)?)
    }

    /// Waits until what was sent last has come to an end.
    async fn ended(&self) -> Result<Value> {
        until("the end of the trial", RETURN, async || {
            let last = self.config_status()?["last"].clone();
            let state = last["state"].as_str().context("nothing was sent")?;
            ensure!(["kept", "failed", "skipped"].contains(&state), "{last}");
            Ok(last)
        })
        .await
    }

    fn config_status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", GATEWAY, "--json"])?)?)
    }

    /// Waits until the server knows that about how the gateway stands.
    async fn stands(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        until(what, RETURN, async || {
            let running = self.config_status()?["running"].clone();
            ensure!(wanted(&running), "{running}");
            Ok(())
        })
        .await
    }
}

fn with_device(document: &str, name: &str, at: SocketAddr) -> String {
    format!(
        "{document}\n[[device]]\nname = \"{name}\"\nhost = \"{}\"\n[[device.service]]\nname = \"raw\"\nkind = \"tcp\"\n\
         port = {}\n",
        at.ip(),
        at.port()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_written_at_the_server_and_streams_that_stay_allowed_go_on() {
    let (plc, cam) = (Origin::echo().await, Origin::echo().await);
    let at = plc.address;
    let mut world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await.unwrap();
    let own = world.running().await.unwrap();
    assert!(!own.contains("secret") && !own.contains("[identity]") && own.contains("plc1"), "{own}");
    let open = async |device: &str| until("a stream", PATIENCE, async || world.stream(device, "raw").await).await;
    let mut held = open("plc1").await.unwrap();
    held.send(b"one").await.unwrap();
    assert_eq!(held.receive_exactly(3).await.unwrap(), b"one");

    let both = with_device(&own, "cam1", cam.address);
    assert_eq!(world.set(&both).unwrap(), "1");
    let diff = world.ask(&["diff", GATEWAY]).unwrap();
    assert!(diff.contains("+name = \"cam1\"") && !diff.contains("-name"), "{diff}");
    world.apply(&[]).unwrap();
    let last = world.ended().await.unwrap();
    assert_eq!(last["state"], "kept", "{last}");
    let mut new = open("cam1").await.unwrap();
    new.send(b"cam").await.unwrap();
    assert_eq!(new.receive_exactly(3).await.unwrap(), b"cam");
    held.send(b"two").await.unwrap();
    assert_eq!(held.receive_exactly(3).await.unwrap(), b"two", "the same stream as before the change");

    // Another way to the same server: a new link takes the streams over.
    let url = own.lines().find(|line| line.starts_with("url")).unwrap();
    world
        .set(&both.replace(
            url,
            &format!(
                "{url}
congestion = \"reno\""
            ),
        ))
        .unwrap();
    world.apply(&[]).unwrap();
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
    held.send(b"six").await.unwrap();
    assert_eq!(held.receive_exactly(3).await.unwrap(), b"six", "the same stream over another link");
    let status = world.status().unwrap();
    assert_eq!(
        (&status["configuration"]["revision"], &status["link"]["reconnects"]),
        (&2.into(), &1.into()),
        "{status}"
    );

    world.set(&with_device(&own.replace("plc1", "cam2"), "cam1", cam.address)).unwrap();
    world.apply(&[]).unwrap();
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
    held.closed().await.unwrap();
    new.send(b"cam").await.unwrap();
    assert_eq!(new.receive_exactly(3).await.unwrap(), b"cam");

    world.gateway.restart().unwrap();
    world.stands("revision 3 after a power cut", |running| running["revision"] == 3).await.unwrap();
    let shown = world.running().await.unwrap();
    assert!(shown.contains("cam2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cuts_the_link_or_the_lan_returns_by_itself_and_the_server_says_which_check_failed() {
    let plc = Origin::echo().await;
    let at = plc.address;
    let world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await.unwrap();
    let own = world.running().await.unwrap();
    let nobody = free_port().unwrap();
    let port = world.server.address().port().to_string();
    let cases = [
        ("a bad address of the server", own.replace(&format!(":{port}"), &format!(":{nobody}")), "link"),
        (
            "a proxy that is none",
            own.replace("[server]", &format!("[server]\nproxy = \"http://127.0.0.1:{nobody}\"")),
            "link",
        ),
        (
            "another host of the device",
            own.replace(&format!("port = {}", at.port()), &format!("port = {nobody}")),
            "devices",
        ),
    ];
    for (what, document, check) in cases {
        assert_ne!(document, own, "{what}");
        world.set(&document).unwrap();
        world.apply(&[]).unwrap();
        let last = world.ended().await.unwrap();
        assert_eq!((&last["state"], &last["check"]), (&"failed".into(), &check.into()), "{what}: {last}");
        world.wait_until_online(true).await.unwrap();
        let mut stream = until("a stream", RETURN, async || world.stream("plc1", "raw").await).await.unwrap();
        stream.send(b"back").await.unwrap();
        assert_eq!(stream.receive_exactly(4).await.unwrap(), b"back", "{what}");
        assert_eq!(world.running().await.unwrap(), own, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_of_the_router_has_the_last_word() {
    let plc = Origin::echo().await;
    let at = plc.address;
    let world = World::start(|config| {
        let policy = format!("\n[policy]\nports = [\"{}\"]\n", at.port());
        config.device("plc1", "", &[("raw", "tcp", at)]).lines(&policy)
    });
    let world = world.await.unwrap();
    let own = world.running().await.unwrap();
    assert!(!own.contains("policy"), "{own}");
    world.set(&with_device(&own, "cam1", SocketAddr::new(at.ip(), free_port().unwrap()))).unwrap();
    world.apply(&[]).unwrap();
    let last = world.ended().await.unwrap();
    assert_eq!(last["check"], "policy", "{last}");
    assert!(last["detail"].as_str().unwrap().contains("the router's owner does not allow port"), "{last}");
    let closed =
        std::fs::read_to_string(world.gateway.config_file()).unwrap().replace("ports", "central = false\nports");
    std::fs::write(world.gateway.config_file(), closed).unwrap();
    let mut world = world;
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    world.stands("no configuration from the server", |running| running["own_only"] == true).await.unwrap();
    world.set(&own).unwrap();
    world.apply(&[]).unwrap();
    let last = world.ended().await.unwrap();
    assert!(last["detail"].as_str().unwrap().contains("[policy] central = false"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_edited_on_the_router_counts_until_it_is_adopted_or_overwritten() {
    let (plc, cam) = (Origin::echo().await, Origin::echo().await);
    let at = plc.address;
    let mut world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await.unwrap();
    let own = world.running().await.unwrap();
    world.set(&format!("{own}# central\n")).unwrap();
    world.apply(&[]).unwrap();
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
    let file = world.gateway.config_file();
    let edit = |by_hand: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, with_device(&text, by_hand, cam.address)).unwrap();
    };
    edit("cam1");
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    world.stands("an edited file", |running| running["edited"] == true).await.unwrap();
    until("the difference", PATIENCE, async || {
        let diff = world.ask(&["diff", GATEWAY, "newest", "running"])?;
        ensure!(diff.contains("+name = \"cam1\"") && diff.contains("-# central"), "{diff}");
        Ok(())
    })
    .await
    .unwrap();
    until("a stream", PATIENCE, async || world.stream("cam1", "raw").await).await.unwrap();
    world.apply(&[]).unwrap();
    let last = world.ended().await.unwrap();
    assert_eq!(last["check"], "changed", "{last}");

    assert_eq!(world.ask(&["adopt", GATEWAY]).unwrap().trim(), "2");
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
    world.stands("what was adopted", |running| running["revision"] == 2 && running["edited"] == false).await.unwrap();
    edit("cam2");
    world.gateway.process().signal(Signal::SIGHUP).unwrap();
    world.stands("an edited file", |running| running["edited"] == true).await.unwrap();
    world.apply(&["--overwrite"]).unwrap();
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
    world.stands("what was overwritten", |running| running["edited"] == false).await.unwrap();
    let shown = world.running().await.unwrap();
    assert!(shown.contains("cam1") && !shown.contains("cam2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_offline_gets_it_on_their_return() {
    let plc = Origin::echo().await;
    let at = plc.address;
    let mut world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await.unwrap();
    let own = world.running().await.unwrap();
    world.gateway.process().kill().unwrap();
    world.wait_until_online(false).await.unwrap();
    world.set(&format!("{own}# later\n")).unwrap();
    world.apply(&[]).unwrap();
    world.server.restart().await.unwrap();
    world.gateway.restart().unwrap();
    assert_eq!(world.ended().await.unwrap()["state"], "kept");
}

/// Kills one of both at a random moment of a change, again and again: the gateway comes up with the one document or the
/// other, whole, and what the server says of it is so.
async fn kill_in_the_middle(rounds: u32) -> Result<()> {
    let plc = Origin::echo().await;
    let at = plc.address;
    let mut world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await?;
    let mut before = world.running().await?;
    for round in 0..rounds {
        let after = format!("{}# round {round}\n", before.split("# round").next().unwrap_or_default());
        let revision: i64 = world.set(&after)?.parse()?;
        world.apply(&[])?;
        let moment = Duration::from_millis(u64::from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_micros() % 1500,
        ));
        tokio::time::sleep(moment).await;
        match round % 2 {
            0 => world.gateway.restart()?,
            _ => world.server.restart().await?,
        }
        let last = world.ended().await.with_context(|| format!("round {round}, after {moment:?}"))?;
        let kept = last["state"] == "kept";
        world
            .stands("how it ended", |running| (running["revision"] == revision) == kept && running["edited"] == false)
            .await
            .with_context(|| format!("round {round}, after {moment:?}: {last}"))?;
        let now = until("the document", PATIENCE, async || world.ask(&["get", GATEWAY, "--running"])).await?;
        let expected = if kept { after } else { before };
        // The command line's input ends with a line end of its own.
        ensure!(now.trim_end() == expected.trim_end(), "round {round}, after {moment:?}: {last}\n{now}");
        eprintln!("round {round}: killed after {moment:?}: {}", last["state"]);
        before = now;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_in_the_middle_leaves_the_one_or_the_other_whole() {
    kill_in_the_middle(4).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes of power cuts; `make soak` runs it"]
async fn many_power_cuts_in_the_middle() {
    kill_in_the_middle(40).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_during_a_trial_comes_back_with_the_document_from_before() {
    let plc = Origin::echo().await;
    let at = plc.address;
    let mut world = World::start(|config| config.device("plc1", "", &[("raw", "tcp", at)])).await.unwrap();
    let own = world.running().await.unwrap();
    // The device is not there any more, so the trial lasts until its deadline.
    let nobody = free_port().unwrap();
    world.set(&own.replace(&format!("port = {}", at.port()), &format!("port = {nobody}"))).unwrap();
    let trial = world.gateway.config_file().with_extension("central.trial");
    let on_trial = async || {
        until("a trial", PATIENCE, async || {
            ensure!(trial.exists(), "nothing is on trial");
            Ok(())
        })
        .await
    };
    world.apply(&[]).unwrap();
    on_trial().await.unwrap();
    world.gateway.restart().unwrap();
    let last = world.ended().await.unwrap();
    assert_eq!((last["state"].as_str(), last["check"].as_str()), (Some("failed"), Some("restart")), "{last}");
    assert_eq!(world.running().await.unwrap(), own);

    world.apply(&[]).unwrap();
    on_trial().await.unwrap();
    world.server.restart().await.unwrap();
    let last = world.ended().await.unwrap();
    let check = last["check"].as_str().unwrap_or_default();
    assert!(last["state"] == "failed" && ["devices", "server", "link"].contains(&check), "{last}");
    world.stands("the document from before", |running| running["revision"].is_null()).await.unwrap();
    assert_eq!(world.running().await.unwrap(), own);
}

/// So many gateways, of which one forbids what it is going to be sent, and what each of them lives by.
async fn many(count: usize, bad: usize) -> Result<(Rig, Vec<RunningGateway>, Vec<(Gateway, String)>)> {
    let rig = Rig::start().await?;
    let mut running = Vec::new();
    for number in 0..count {
        let config: GatewayConfig = rig.new_gateway(&format!("site{number}")).await?;
        let config = if number == bad { config.lines("[policy]\nports = [\"1\"]\n") } else { config };
        running.push(rig.run_gateway(&config)?);
    }
    let all = until("all gateways", patience(count), async || {
        let mut known = Vec::new();
        for gateway in rig.store().gateways().await? {
            let report = rig.store().config_report(gateway.id).await?;
            let document = report.and_then(|report| report.document);
            known.push((gateway, document.context("its document is not known yet")?));
        }
        Ok(known)
    });
    let all = all.await?;
    Ok((rig, running, all))
}

/// How long so many gateways may take for anything.
fn patience(count: usize) -> Duration {
    PATIENCE + Duration::from_millis(500) * u32::try_from(count).unwrap_or(u32::MAX)
}

/// So many gateways get a revision, some at a time; one in the middle refuses it.
async fn in_waves(count: usize, wave: usize) -> Result<()> {
    let bad = count / 2;
    let (rig, _running, all) = many(count, bad).await?;
    let mut members = Vec::new();
    for (gateway, document) in &all {
        let device = "[[device]]\nname = \"DEV\"\nhost = \"127.0.0.1\"\n[[device.service]]\nname = \"x\"\nkind = \"tcp\"\nport = 9\n";
        let document = format!("{document}{}", device.replace("DEV", &format!("d-{}", gateway.name)));
        let new = NewRevision { document: &document, author: "a test", comment: "", template: None };
        members.push((gateway.id, fleet::stage(rig.store(), gateway.id, 0, new).await?));
    }
    let bad_id = all.iter().find(|(gateway, _)| gateway.name.as_str() == format!("site{bad}")).context("no bad")?.0.id;
    // Names are sorted as texts: the bad one is put in the middle of the order.
    members.retain(|(gateway, _)| *gateway != bad_id);
    members.insert(bad, (bad_id, 1));
    let new = NewRollout {
        tenant: all[0].0.tenant,
        author: "a test".into(),
        comment: String::new(),
        wave: i64::try_from(wave)?,
        deadline: Duration::from_secs(60),
        overwrite: false,
        members,
    };
    let began = std::time::Instant::now();
    let rollout = rig.store().begin_rollout(&new).await?;
    let ended = until("the end of the rollout", patience(count), async || {
        let state = rig.store().rollout(rollout).await?.context("no rollout")?;
        ensure!(state.state != "running", "{state:?}");
        let members = rig.store().rollout_members(rollout).await?;
        ensure!(members.iter().all(|member| member.state.is_final()), "some are under way");
        Ok((state, members))
    });
    let (state, members) = ended.await?;
    let count_of = |wanted: MemberState| members.iter().filter(|member| member.state == wanted).count();
    eprintln!("{count} gateways, {wave} at a time: stopped after {:?}", began.elapsed());
    ensure!(state.state == "stopped" && count_of(MemberState::Failed) == 1, "{state:?}");
    let first_after = (bad / wave + 1) * wave;
    ensure!(members[..bad / wave * wave].iter().all(|member| member.state == MemberState::Kept), "the waves before");
    ensure!(members[first_after..].iter().all(|member| member.state == MemberState::Skipped), "the waves after");

    // Without the one that refuses, the rest goes through.
    let rest: Vec<_> = new.members.iter().filter(|(gateway, _)| *gateway != bad_id).copied().collect();
    let began = std::time::Instant::now();
    let rollout = rig.store().begin_rollout(&NewRollout { members: rest, ..new }).await?;
    until("the end of the second rollout", patience(count), async || {
        let state = rig.store().rollout(rollout).await?.context("no rollout")?;
        ensure!(state.state == "done", "{state:?}");
        Ok(())
    })
    .await?;
    let members = rig.store().rollout_members(rollout).await?;
    ensure!(members.iter().all(|member| member.state == MemberState::Kept), "all are kept");
    eprintln!("the rest within {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_in_waves_and_stops_where_one_refuses() {
    in_waves(9, 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two hundred gateways take minutes; `make soak` runs it"]
async fn two_hundred_gateways_in_waves() {
    in_waves(200, 20).await.unwrap();
}
