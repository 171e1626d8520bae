//! What an idle tunnel costs: bytes on the line with all headers, wake-ups and memory of the device's end.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::time::sleep;

use crate::field::{Field, Who};
use crate::memory::{resident, wakeups};
use crate::report::Report;
use crate::world::Programs;

const MONTH: f64 = 30.0 * 24.0 * 3600.0;
/// What the measurement itself, and connecting, cost is over by then.
const SETTLE: Duration = Duration::from_secs(15);

struct Idle {
    name: &'static str,
    bytes: u64,
    wakeups: u64,
    resident: u64,
    time: Duration,
}

/// Runs while other things are measured: it uses a line of its own, and counts.
pub(crate) struct Idling(Vec<JoinHandle<Result<Idle>>>);

/// Begins to watch each tunnel on a line of its own.
pub(crate) fn begin(programs: &Programs, folder: &Path, time: Duration) -> Idling {
    let mut who = vec![Who::Linkspan];
    who.extend(programs.rathole.is_some().then_some(Who::Rathole));
    let begin = |who| {
        let (programs, folder): (Programs, PathBuf) = (programs.clone(), folder.join(format!("idle-{who:?}")));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch(&programs, &folder, who, time))
        })
    };
    Idling(who.into_iter().map(begin).collect())
}

impl Idling {
    /// Waits for the end, and reports.
    pub(crate) fn finish(self, report: &mut Report) -> Result<()> {
        for watched in self.0 {
            let idle = watched.join().map_err(|_| anyhow!("a watcher panicked"))??;
            let per_second = idle.bytes as f64 / idle.time.as_secs_f64();
            report.line(
                "Idle",
                format!(
                    "{}: {:.2} MB in 30 days ({} bytes in {:.0} s, all headers from IP up); the device's end wakes up {:.2} \
                     times a minute and takes {:.1} MiB",
                    idle.name,
                    per_second * MONTH / 1e6,
                    idle.bytes,
                    idle.time.as_secs_f64(),
                    idle.wakeups as f64 * 60.0 / idle.time.as_secs_f64(),
                    idle.resident as f64 / 1048576.0,
                ),
            );
        }
        Ok(())
    }
}

async fn watch(programs: &Programs, folder: &Path, who: Who, time: Duration) -> Result<Idle> {
    let field = Field::start(programs, folder, who, "delay=25ms").await?;
    let (name, pid) = *field.clients.first().context("no tunnel")?;
    sleep(SETTLE).await;
    let (bytes, woken, begin) = (field.line_bytes()?, wakeups(pid)?, Instant::now());
    sleep(time).await;
    let (bytes, woken) = (field.line_bytes()? - bytes, wakeups(pid)? - woken);
    Ok(Idle { name, bytes, wakeups: woken, resident: resident(pid)?, time: begin.elapsed() })
}
