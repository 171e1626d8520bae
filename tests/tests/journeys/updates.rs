//! Other versions of the gateway: real programs, signed by signify, fetched by a real gateway, tried, kept or returned from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use linkspan_tests::programs::{Binaries, GatewayConfig};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::origin::Origin;
use crate::site::GATEWAY;
use crate::world::{RETURN, World};

/// Whoever makes releases, on a machine of their own.
struct Releases {
    folder: TempDir,
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

impl Releases {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-releases-").tempdir()?;
        let key = |name: &str| folder.path().join(name);
        run(Command::new("signify-openbsd")
            .args(["-G", "-n", "-p"])
            .arg(key("release.pub"))
            .arg("-s")
            .arg(key("release.sec")))?;
        Ok(Self { folder })
    }

    fn key(&self) -> Result<String> {
        let text = fs::read_to_string(self.folder.path().join("release.pub"))?;
        Ok(text.lines().nth(1).context("no key")?.to_owned())
    }

    /// The gateway that was built, under another version, and with another change if so.
    fn gateway(&self, version: &str, change: Option<(&str, &str)>) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("gateway-{version}"));
        run(Command::new("strip").arg("-o").arg(&file).arg(Binaries::beside_me()?.path("linkspan-gateway")?))?;
        let mut program = fs::read(&file)?;
        let own = env!("CARGO_PKG_VERSION");
        let agent = |version: &str| format!("linkspan-gateway/{version}");
        replace(&mut program, &agent(own), &agent(version))?;
        if let Some((from, to)) = change {
            replace(&mut program, from, to)?;
        }
        fs::write(&file, program)?;
        Ok(file)
    }

    /// A program, signed: the bundle as it is handed to the server.
    fn bundle(&self, world: &World, program: &Path, version: &str) -> Result<PathBuf> {
        let target = world.target()?;
        let file = program.to_str().context("a name")?;
        let head = world.server.ask(&["update", "head", file, version, &target], None)?;
        let (head_file, bundle) = (self.folder.path().join("head"), program.with_extension("bundle"));
        fs::write(&head_file, &head)?;
        let key = self.folder.path().join("release.sec");
        run(Command::new("signify-openbsd").args(["-S", "-s"]).arg(key).arg("-m").arg(&head_file))?;
        let signature = fs::read(self.folder.path().join("head.sig"))?;
        fs::write(&bundle, [&signature, head.as_bytes(), b"\n", &fs::read(program)?].concat())?;
        Ok(bundle)
    }

    /// Makes a release and hands it to the server.
    fn publish(&self, world: &World, version: &str, change: Option<(&str, &str)>) -> Result<PathBuf> {
        let bundle = self.bundle(world, &self.gateway(version, change)?, version)?;
        world.add(&bundle)?;
        Ok(bundle)
    }
}

/// In place, so that the program stays one.
fn replace(program: &mut [u8], from: &str, to: &str) -> Result<()> {
    assert_eq!(from.len(), to.len());
    let mut found = false;
    for at in 0..program.len() - from.len() {
        if program[at..].starts_with(from.as_bytes()) {
            program[at..at + to.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
    }
    ensure!(found, "there is no {from} in the program");
    Ok(())
}

/// A service manager: starts it again as often as it ends.
fn watched_over(folder: &Path, binaries: &Binaries) -> Result<Binaries> {
    let real = binaries.path("linkspan-gateway")?;
    script(folder, &format!("while ! {} \"$@\"; do sleep 0.1; done", real.display()))
}

fn script(folder: &Path, text: &str) -> Result<Binaries> {
    let folder = folder.join("program");
    fs::create_dir_all(&folder)?;
    let file = folder.join("linkspan-gateway");
    fs::write(&file, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(Binaries::in_folder(&folder))
}

impl World {
    fn add(&self, bundle: &Path) -> Result<String> {
        self.server.ask(&["update", "add", bundle.to_str().context("a name")?], None)
    }

    fn target(&self) -> Result<String> {
        let state = self.status()?;
        Ok(state["update"]["target"].as_str().context("no target")?.to_owned())
    }

    /// Begins an update; its id.
    fn begin(&self, version: &str, more: &[&str]) -> Result<String> {
        let mut words = vec!["update", "begin", version, GATEWAY];
        for (option, value) in [("--rate", "16384"), ("--deadline", "60s")] {
            if !more.contains(&option) {
                words.extend([option, value]);
            }
        }
        words.extend(more);
        Ok(self.server.ask(&words, None)?.trim().to_owned())
    }

    fn member(&self, update: &str) -> Result<Value> {
        let told: Value = serde_json::from_str(&self.server.ask(&["update", "status", update, "--json"], None)?)?;
        Ok(told["members"][0].clone())
    }

    async fn update_ended(&self, update: &str) -> Result<Value> {
        until("the end of the update", 2 * RETURN, async || {
            let member = self.member(update)?;
            let state = member["state"].as_str().context("no state")?;
            ensure!(["kept", "failed", "skipped"].contains(&state), "{member}");
            Ok(member)
        })
        .await
    }

    /// The gateway runs as that version, and says so.
    async fn is_version(&self, version: &str) -> Result<()> {
        until(&format!("version {version}"), RETURN, async || {
            let (status, seen) = (self.status()?, self.seen().await?);
            ensure!(status["version"] == version, "{status}");
            ensure!(seen["online"] == true && seen["agent"] == format!("linkspan-gateway/{version}"), "{seen}");
            Ok(())
        })
        .await
    }

    fn updates_folder(&self) -> PathBuf {
        self.folder().join("gateway/gateway.updates")
    }

    /// No program lies beside the installed one.
    fn is_unchanged(&self) -> Result<()> {
        for slot in ["loading", "next", "adopted"] {
            ensure!(!self.updates_folder().join(slot).exists(), "there is a program: {slot}");
        }
        Ok(())
    }

    fn has_key(&self, releases: &Releases) -> Result<()> {
        fs::copy(releases.folder.path().join("release.pub"), self.folder().join("server/release.pub"))?;
        Ok(())
    }
}

async fn world(
    releases: &Releases,
    gateway: impl FnOnce(&Path, &Binaries) -> Result<Binaries>,
    devices: impl FnOnce(GatewayConfig) -> GatewayConfig,
) -> Result<World> {
    let policy = format!("\n[policy]\nupdate_key = \"{}\"\n", releases.key()?);
    let world = World::start_with(gateway, |config| devices(config).lines(&policy)).await?;
    world.has_key(releases)?;
    Ok(world)
}

fn as_built(_: &Path, binaries: &Binaries) -> Result<Binaries> {
    Ok(binaries.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_becomes_another_version_and_stays_it_until_one_is_installed() {
    let (releases, plc) = (Releases::new().unwrap(), Origin::echo().await);
    let at = plc.address;
    let devices = |config: GatewayConfig| config.device("plc1", "", &[("raw", "tcp", at)]);
    let mut world = world(&releases, as_built, devices).await.unwrap();
    let own = env!("CARGO_PKG_VERSION");
    world.is_version(own).await.unwrap();
    releases.publish(&world, "0.1.7", None).unwrap();
    let pid = world.gateway.process().pid();
    let update = world.begin("0.1.7", &["--wait"]).unwrap();
    assert_eq!(world.member(&update).unwrap()["state"], "kept");
    world.is_version("0.1.7").await.unwrap();
    assert_eq!(world.status().unwrap()["update"]["installed"], own);
    let mut stream = until("a stream", RETURN, async || world.stream("plc1", "raw").await).await.unwrap();
    stream.send(b"new").await.unwrap();
    assert_eq!(stream.receive_exactly(3).await.unwrap(), b"new");
    assert!(world.gateway.process().still_runs().is_ok(), "process {pid} became the new version");

    // After a power cut it is the new one again; the same once more is no update.
    world.gateway.restart().unwrap();
    world.is_version("0.1.7").await.unwrap();
    let again = world.begin("0.1.7", &["--wait"]).unwrap();
    assert_eq!(world.member(&again).unwrap()["attempts"], 0);

    // Whoever installs another program last has the last word.
    let order = world.updates_folder().join("adopted.order");
    let text = fs::read_to_string(&order).unwrap().replace(&format!("\n{own}\n"), "\n0.0.1\n");
    fs::write(&order, text).unwrap();
    world.gateway.restart().unwrap();
    world.is_version(own).await.unwrap();
    world.is_unchanged().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_or_does_not_fit_changes_nothing() {
    let (releases, others) = (Releases::new().unwrap(), Releases::new().unwrap());
    let mut world = world(&releases, as_built, |config| config).await.unwrap();
    let pid = world.gateway.process().pid();
    // The server itself takes nothing that its key has not signed.
    let bundle = others.bundle(&world, &others.gateway("0.1.7", None).unwrap(), "0.1.7").unwrap();
    let told = world.add(&bundle).unwrap_err().to_string();
    assert!(told.contains("another key"), "{told}");
    let good = releases.bundle(&world, &releases.gateway("0.1.8", None).unwrap(), "0.1.8").unwrap();
    let mut cut = fs::read(&good).unwrap();
    cut.pop();
    fs::write(&good, &cut).unwrap();
    let told = world.add(&good).unwrap_err().to_string();
    assert!(told.contains("cut short"), "{told}");

    // One that was taken over has another key: the gateway has not.
    world.has_key(&others).unwrap();
    world.add(&bundle).unwrap();
    let refused = async |version: &str, check: &str| {
        let ended = world.update_ended(&world.begin(version, &[]).unwrap()).await.unwrap();
        assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &check.into()), "{ended}");
        world.is_unchanged().unwrap();
        ended["detail"].as_str().unwrap().to_owned()
    };
    assert!(refused("0.1.7", "signature").await.contains("another key"));

    world.has_key(&releases).unwrap();
    releases.publish(&world, "0.0.9", None).unwrap();
    assert!(refused("0.0.9", "version").await.contains("it is 0.0.9"));

    // Spoilt behind the server's back: what comes is not what was signed.
    releases.publish(&world, "0.1.9", None).unwrap();
    for file in fs::read_dir(world.folder().join("server/updates")).unwrap() {
        let file = file.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        replace(&mut bytes, "linkspan-gateway/", "linkspan-gateway:").unwrap();
        fs::write(&file, bytes).unwrap();
    }
    refused("0.1.9", "hash").await;
    world.is_version(env!("CARGO_PKG_VERSION")).await.unwrap();
    assert_eq!(world.gateway.process().pid(), pid);
    assert!(world.gateway.process().still_runs().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_after_the_server_and_the_gateway_were_away() {
    let releases = Releases::new().unwrap();
    let mut world = world(&releases, as_built, |config| config).await.unwrap();
    let bundle = releases.publish(&world, "0.1.7", None).unwrap();
    let size = fs::metadata(bundle).unwrap().len();
    // Of 10 MB, some 2 in each second.
    let update = world.begin("0.1.7", &["--rate", "2048"]).unwrap();
    let loading = world.updates_folder().join("loading");
    let reached = async |what: &str, bytes: u64| {
        until(what, RETURN, async || {
            let here = fs::metadata(&loading)?.len();
            ensure!(here >= bytes, "{here} bytes");
            Ok(here)
        })
        .await
        .unwrap()
    };
    reached("a third", size / 3).await;
    world.server.restart().await.unwrap();
    reached("a half", size / 2).await;
    let before = fs::metadata(&loading).unwrap().len();
    world.gateway.restart().unwrap();
    world.wait_until_online(true).await.unwrap();
    let after = reached("what was there", 1).await;
    assert!(after + 65_536 >= before, "{before} bytes were there, and {after} are");
    let ended = world.update_ended(&update).await.unwrap();
    assert_eq!((&ended["state"], &ended["attempts"]), (&"kept".into(), &1.into()), "{ended}");
    world.is_version("0.1.7").await.unwrap();
    // What was there was not sent again: the link has carried little more than the program.
    let carried = world.status().unwrap()["data"]["received"].as_u64().unwrap();
    assert!(carried < size + size / 5, "{carried} bytes were carried for {size}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_finds_no_link_or_does_not_run_gives_way_to_the_one_before() {
    let releases = Releases::new().unwrap();
    let world = world(&releases, watched_over, |config| config).await.unwrap();
    let own = env!("CARGO_PKG_VERSION");
    // A gateway that speaks a language which the server does not.
    releases.publish(&world, "0.1.7", Some(("linkspan.1", "linkspan.9"))).unwrap();
    let ended = world.update_ended(&world.begin("0.1.7", &["--deadline", "5s"]).unwrap()).await.unwrap();
    assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &"link".into()), "{ended}");
    assert!(ended["detail"].as_str().unwrap().starts_with("version 0.1.7 has no link in time: "), "{ended}");
    world.is_version(own).await.unwrap();
    world.is_unchanged().unwrap();

    // A program that ends at once, each time.
    let nothing = releases.folder.path().join("false");
    fs::copy("/bin/false", &nothing).unwrap();
    world.add(&releases.bundle(&world, &nothing, "0.1.8").unwrap()).unwrap();
    let ended = world.update_ended(&world.begin("0.1.8", &[]).unwrap()).await.unwrap();
    assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &"start".into()), "{ended}");
    assert!(ended["detail"].as_str().unwrap().contains("ended 3 times"), "{ended}");
    // And one that is none.
    let text = releases.folder.path().join("text");
    fs::write(&text, "no program at all").unwrap();
    world.add(&releases.bundle(&world, &text, "0.1.9").unwrap()).unwrap();
    let ended = world.update_ended(&world.begin("0.1.9", &[]).unwrap()).await.unwrap();
    assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &"start".into()), "{ended}");
    world.is_version(own).await.unwrap();
    world.is_unchanged().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "waits for the kernel's alarm, half a minute after the deadline: make soak"]
async fn a_version_that_hangs_is_ended_and_gives_way() {
    let releases = Releases::new().unwrap();
    let world = world(&releases, watched_over, |config| config).await.unwrap();
    let sleeper = releases.folder.path().join("sleeper");
    fs::write(&sleeper, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    world.add(&releases.bundle(&world, &sleeper, "0.1.7").unwrap()).unwrap();
    let ended = world.update_ended(&world.begin("0.1.7", &["--deadline", "5s"]).unwrap()).await.unwrap();
    assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &"start".into()), "{ended}");
    assert!(ended["detail"].as_str().unwrap().contains("had its time"), "{ended}");
    world.is_version(env!("CARGO_PKG_VERSION")).await.unwrap();
}

/// A flash of 16 MB of its own for what comes in.
fn small_flash(folder: &Path, binaries: &Binaries) -> Result<Binaries> {
    let (real, updates) = (binaries.path("linkspan-gateway")?, folder.join("gateway/gateway.updates"));
    fs::create_dir_all(&updates)?;
    let mount = format!("mount -t tmpfs -o size=16m none {} && exec {} \"$@\"", updates.display(), real.display());
    script(folder, &format!("exec unshare --mount sh -c '{mount}' sh \"$@\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_flash_is_told_and_changes_nothing() {
    let releases = Releases::new().unwrap();
    let mut world = world(&releases, small_flash, |config| config).await.unwrap();
    releases.publish(&world, "0.1.7", None).unwrap();
    let pid = world.gateway.process().pid().to_string();
    let inside =
        |command: &str| run(Command::new("nsenter").args(["--mount", "--target", &pid, "sh", "-c", command])).map(drop);
    let updates = world.updates_folder();
    let refused = async |update: &str| {
        let ended = world.update_ended(update).await.unwrap();
        assert_eq!((&ended["state"], &ended["check"]), (&"failed".into(), &"disk".into()), "{ended}");
        ended["detail"].as_str().unwrap().to_owned()
    };
    // There is no room before the first byte.
    inside(&format!("head -c 8000000 /dev/zero > {}/other", updates.display())).unwrap();
    let told = refused(&world.begin("0.1.7", &[]).unwrap()).await;
    assert!(told.contains("updates needs ") && told.contains(" kB and has "), "{told}");
    // There was, and others have taken it meanwhile.
    inside(&format!("rm {}/other", updates.display())).unwrap();
    let update = world.begin("0.1.7", &["--rate", "2048"]).unwrap();
    until("a beginning", PATIENCE, async || {
        let loaded = world.status()?["update"]["loaded"].as_u64();
        ensure!(loaded.is_some_and(|loaded| loaded > 1_000_000), "{loaded:?}");
        Ok(())
    })
    .await
    .unwrap();
    // dd ends with an error, since it is to fill it up.
    inside(&format!("head -c 16000000 /dev/zero > {}/other 2>/dev/null || :", updates.display())).unwrap();
    let told = refused(&update).await;
    assert!(told.contains("it cannot be written: "), "{told}");
    inside(&format!("! ls {}/loading {}/next 2>/dev/null", updates.display(), updates.display())).unwrap();
    world.is_version(env!("CARGO_PKG_VERSION")).await.unwrap();
    // With room again, it is done.
    inside(&format!("rm {}/other", updates.display())).unwrap();
    let done = world.update_ended(&world.begin("0.1.7", &[]).unwrap()).await.unwrap();
    assert_eq!(done["state"], "kept", "{done}");
    assert!(world.gateway.process().still_runs().is_ok());
}
