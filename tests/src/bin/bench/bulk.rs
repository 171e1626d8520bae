//! One big file each way, and the processor time that it costs at both ends; eight at once, and the gateway's memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::memory::resident;
use crate::report::{Cell, Report};
use crate::world::{BULK, World};

/// Transfers at once for the gateway's memory.
const EIGHT: usize = 8;

pub(crate) async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let file = world.folder.join("www/bulk");
    let names: Vec<&str> = world.pages.iter().map(|route| route.name).collect();
    let mut rows = [Vec::new(), Vec::new()];
    for (page, sink) in world.pages.iter().zip(&world.sinks) {
        for (row, route) in rows.iter_mut().zip([page, sink]) {
            let mut command = route.curl();
            if std::ptr::eq(route, page) {
                command.args(["-o", "/dev/null", "-w", "\n%{speed_download}", &format!("{}/bulk", page.origin)]);
            } else {
                command.arg("-T").arg(&file).args(["-H", "Expect:", "-w", "\n%{speed_upload}"]);
                command.arg(format!("{}/sink", sink.origin));
            }
            let before = world.cpu(route)?;
            let output = command.kill_on_drop(true).output().await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success(), "{}: {}", route.name, String::from_utf8_lossy(&output.stderr));
            let speed: f64 = text.lines().last().context("curl says nothing")?.trim().parse()?;
            let per_gib = |seconds: f64| seconds * 1073741824.0 / BULK as f64;
            let spent = match (before, world.cpu(route)?) {
                (Some(old), Some(new)) => {
                    format!(", {:.2} + {:.2} s CPU/GiB", per_gib(new.0 - old.0), per_gib(new.1 - old.1))
                }
                _ => String::new(),
            };
            row.push((speed, spent));
        }
    }
    let mut table = report
        .table("One big transfer: MB/s (ratio to direct), processor time of the server + of the device's end", &names);
    for (name, row) in ["from the device", "to the device"].into_iter().zip(rows) {
        let direct = row.first().map_or(1.0, |(speed, _)| *speed);
        let cell = |(speed, spent)| Cell(format!("{:.0} ({:.2}){spent}", speed / 1e6, speed / direct));
        table.row(name.to_owned(), row.into_iter().map(cell).collect());
    }
    table.finish();
    eight(world, report).await
}

/// Memory of the gateway while eight such transfers come from the device.
async fn eight(world: &World, report: &mut Report) -> Result<()> {
    let Some(route) = world.pages.iter().find(|route| route.name == "linkspan") else { return Ok(()) };
    let before = resident(world.pids.1)?;
    let mut transfers = JoinSet::new();
    for _ in 0..EIGHT {
        let mut command = route.curl();
        command.args(["-o", "/dev/null", &format!("{}/bulk", route.origin)]);
        transfers.spawn(async move { command.kill_on_drop(true).output().await });
    }
    let (mut most, mut running) = (0, EIGHT);
    // Looked at while all of them run; the first that ends, ends it.
    while running == EIGHT {
        most = most.max(resident(world.pids.1)?);
        sleep(Duration::from_millis(20)).await;
        while let Some(done) = transfers.try_join_next() {
            let output = done??;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            running -= 1;
        }
    }
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    let text = format!(
        "gateway, with {EIGHT} bulk transfers from the device: {:.1} MiB resident at most ({:.1} MiB before)",
        mib(most),
        mib(before)
    );
    report.line("Memory", text);
    Ok(())
}
