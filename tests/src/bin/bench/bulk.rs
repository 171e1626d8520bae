//! One big file each way, and the processor time that it costs at both ends.

use anyhow::{Context, Result, ensure};

use crate::memory::cpu_seconds;
use crate::report::{Cell, Report};
use crate::route::Route;
use crate::world::{BULK, World};

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
            let before = cpu(world, route)?;
            let output = command.kill_on_drop(true).output().await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success(), "{}: {}", route.name, String::from_utf8_lossy(&output.stderr));
            let speed: f64 = text.lines().last().context("curl says nothing")?.trim().parse()?;
            let spent = cpu(world, route)?.map(|now| now - before.unwrap_or_default());
            let spent = spent.map(|s| format!(", {:.2} s CPU/GiB", s * 1073741824.0 / BULK as f64)).unwrap_or_default();
            row.push((speed, spent));
        }
    }
    let mut table =
        report.table("One big transfer: MB/s (ratio to direct), processor time of both tunnel ends", &names);
    for (name, row) in ["from the device", "to the device"].into_iter().zip(rows) {
        let direct = row.first().map_or(1.0, |(speed, _)| *speed);
        let cell = |(speed, spent)| Cell(format!("{:.0} ({:.2}){spent}", speed / 1e6, speed / direct));
        table.row(name.to_owned(), row.into_iter().map(cell).collect());
    }
    table.finish();
    Ok(())
}

/// Processor time so far of the two programs that make up a route.
fn cpu(world: &World, route: &Route) -> Result<Option<f64>> {
    let (a, b) = match (route.name, &world.rathole) {
        ("linkspan", _) => world.pids,
        ("direct", _) | (_, None) => return Ok(None),
        (_, Some(rathole)) => (rathole.server.pid(), rathole.client.pid()),
    };
    Ok(Some(cpu_seconds(a)? + cpu_seconds(b)?))
}
