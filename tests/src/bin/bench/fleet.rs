//! Many gateways: the memory that each costs the server, what all cost at rest, and all of them coming back at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::crowd::Crowd;
use crate::memory::{cpu_seconds, resident};
use crate::report::{Report, milliseconds, percentile};
use crate::world::{Programs, server_url};

/// Longest wait for a crowd to connect.
const ARRIVE: Duration = Duration::from_secs(180);
/// The same when all come at once.
const RETURN: Duration = Duration::from_secs(120);
/// How long servers are watched at rest.
const REST: Duration = Duration::from_secs(30);
/// Between two requests of people.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(50);

/// Memory of a server for each idle gateway, and how it rests.
pub(crate) async fn measure(programs: &Programs, folder: &Path, count: u32, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut server = Server::start(&programs.server, ServerSetup::new(&folder.join("server"))?).await?;
    let secret = server.add_gateway("real")?;
    let config = GatewayConfig::new("real", &secret, &server_url(&server), &server.ca_file());
    let mut gateway = Gateway::start(&programs.gateway, &folder.join("gateway"), &config)?;
    let before = settled(server.process().pid()).await?;
    let begin = Instant::now();
    let mut crowd = Crowd::start(&server, &folder.join("server"), count, 1).await?;
    let registered = begin.elapsed();
    crowd.connected(ARRIVE).await?;
    let took = begin.elapsed() - registered;
    let pid = server.process().pid();
    let after = settled(pid).await?;
    ensure!(crowd.told().lost == 0, "a simulated gateway lost its link: {:?}", crowd.told());
    let each = after.saturating_sub(before) / u64::from(count);
    report.line(
        "Many",
        format!(
            "server, resident memory for each connected idle gateway: {:.1} KiB ({count} gateways, {:.1} MiB before)",
            kib(each),
            kib(before) / 1024.0
        ),
    );
    let rate = f64::from(count) / took.as_secs_f64();
    report.line("Many", format!("connecting them: {rate:.0} a second, with the simulation on the same processors"));
    let own = resident(gateway.process().pid())?;
    report.line("Many", format!("one real gateway, idle and connected: {:.1} MiB resident", kib(own) / 1024.0));
    Ok(())
}

/// All gateways of one server are held for a while, lose it at once, and come back.
pub(crate) async fn measure_storm(
    programs: &Programs,
    folder: &Path,
    (count, hold): (u32, Duration),
    report: &mut Report,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut server = Server::start(&programs.server, ServerSetup::new(&folder.join("server"))?).await?;
    let mut crowd = Crowd::start(&server, &folder.join("server"), count, 1).await?;
    crowd.connected(ARRIVE).await?;
    held(&mut server, &crowd, (count, hold), report).await?;
    let (https, token) = (server.https()?, server.sign_in().await?);
    let url = format!("{}/api/v1/session", server.console());
    let lost_before = crowd.told().lost;
    let begin = Instant::now();
    server.process().kill()?;
    // The gateways do not wait until the server answers, but dial from now on.
    server.restart().await?;
    let restarted = begin.elapsed();
    let people = People::come(https, url, token);
    let [half, most, all] = crowd.all_back(lost_before, RETURN).await?.map(|time| (time - begin).as_secs_f64());
    let each = 1e6 * cpu_seconds(server.process().pid())? / f64::from(count);
    let asked = people.leave().await?;
    let [one, two, three, more] = crowd.told().back;
    let text = format!(
        "kill -9 of a server with {count} gateways and restart: it answers again after {:.1} s; half of them are back \
         after {half:.1} s, nine tenths after {most:.1} s, all after {all:.1} s; {one} took one try, {two} two, {three} three, \
         {more} more; the server spent {each:.0} µs of processor time on each",
        restarted.as_secs_f64(),
    );
    report.line("Many", text);
    asked.tell(report);
    Ok(())
}

/// Several servers on this machine, each with as many gateways as its descriptors allow.
pub(crate) async fn measure_many(
    programs: &Programs,
    folder: &Path,
    (servers, count): (u8, u32),
    report: &mut Report,
) -> Result<()> {
    let (mut all, mut memory, mut before) = (Vec::new(), 0, 0);
    let begin = Instant::now();
    for number in 1..=servers {
        let folder = folder.join(number.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut server = Server::start(&programs.server, ServerSetup::new(&folder)?).await?;
        before += settled(server.process().pid()).await?;
        let mut crowd = Crowd::start(&server, &folder, count, number).await?;
        crowd.connected(ARRIVE).await?;
        all.push((server, crowd));
    }
    let took = begin.elapsed();
    let mut spent = 0.0;
    for (server, _) in &mut all {
        memory += settled(server.process().pid()).await?;
        spent -= cpu_seconds(server.process().pid())?;
    }
    let rest = Instant::now();
    sleep(REST).await;
    for (server, crowd) in &mut all {
        spent += cpu_seconds(server.process().pid())?;
        ensure!(crowd.told().lost == 0, "a simulated gateway lost its link: {:?}", crowd.told());
    }
    let gateways = u64::from(servers) * u64::from(count);
    let text = format!(
        "{servers} servers on this machine with {count} gateways each, {gateways} together: {:.1} KiB resident for each, {:.0} \
         MiB in all; connected within {:.0} s; at rest {:.1} % of a core for all servers together",
        kib(memory.saturating_sub(before) / gateways),
        kib(memory) / 1024.0,
        took.as_secs_f64(),
        100.0 * spent / rest.elapsed().as_secs_f64()
    );
    report.line("Many", text);
    Ok(())
}

/// Holds a crowd: nobody may get lost, and the server has little to do.
async fn held(server: &mut Server, crowd: &Crowd, (count, hold): (u32, Duration), report: &mut Report) -> Result<()> {
    let pid = server.process().pid();
    settled(pid).await?;
    let (spent, begin) = (cpu_seconds(pid)?, Instant::now());
    sleep(hold).await;
    let share = (cpu_seconds(pid)? - spent) / begin.elapsed().as_secs_f64();
    let told = crowd.told();
    ensure!(told.connected == u64::from(count), "{} of {count} are still connected", told.connected);
    let text = format!(
        "{count} gateways held for {:.0} s: {} lost their link; the server took {:.1} % of a core",
        begin.elapsed().as_secs_f64(),
        told.lost,
        100.0 * share
    );
    report.line("Many", text);
    Ok(())
}

/// People who use the API while gateways come back, each time over a new connection.
struct People {
    leave: CancellationToken,
    asked: JoinHandle<Asked>,
}

#[derive(Default)]
struct Asked {
    times: Vec<Duration>,
    failed: usize,
}

impl People {
    fn come(https: Https, url: String, token: String) -> Self {
        let leave = CancellationToken::new();
        let left = leave.clone();
        #[expect(clippy::disallowed_methods, reason = "its handle is awaited")]
        let asked = tokio::spawn(async move {
            let mut asked = Asked::default();
            while !left.is_cancelled() {
                let begin = Instant::now();
                match https.get_api(&url, &token).await {
                    Ok(answer) if answer.status.is_success() => asked.times.push(begin.elapsed()),
                    Ok(_) | Err(_) => asked.failed += 1,
                }
                sleep(BETWEEN_REQUESTS).await;
            }
            asked
        });
        Self { leave, asked }
    }

    async fn leave(self) -> Result<Asked> {
        self.leave.cancel();
        Ok(self.asked.await?)
    }
}

impl Asked {
    fn tell(mut self, report: &mut Report) {
        let (requests, failed) = (self.times.len(), self.failed);
        let mut at = |percent| milliseconds(percentile(&mut self.times, percent));
        let text = format!(
            "API meanwhile, a new connection for each request: {requests} answered, {failed} failed; p50 {}, p99 {}, longest \
             {} ms",
            at(50),
            at(99),
            at(100)
        );
        report.line("Many", text);
    }
}

/// Resident memory once it no longer changes.
async fn settled(pid: u32) -> Result<u64> {
    let mut last = 0;
    wait::until("the server's memory to settle", Duration::from_secs(20), async || {
        sleep(Duration::from_millis(500)).await;
        let now = resident(pid)?;
        let difference = now.abs_diff(last);
        last = now;
        ensure!(difference < 64 << 10, "it changed by {difference} bytes");
        Ok(now)
    })
    .await
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
