//! Requests a second and their latencies, as wrk sees them over keep-alive connections.

use anyhow::{Context, Result, ensure};

use crate::report::{Cell, Report};
use crate::route::Route;
use crate::world::World;

/// What wrk measured.
struct Load {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of processor time for a request, of the server and of the device's end.
    cost: Option<(f64, f64)>,
}

pub(crate) async fn measure(world: &World, seconds: u32, report: &mut Report) -> Result<()> {
    let names: Vec<&str> = world.pages.iter().map(|route| route.name).collect();
    let title = "HTTP over kept connections: requests/s (ratio to direct), p50 / p99 in ms, processor time of the server + of \
                 the device's end";
    let mut table = report.table(title, &names);
    for file in ["1k", "100k"] {
        for connections in [1, 16, 64] {
            let mut cells = Vec::new();
            let mut direct = 0.0;
            for route in &world.pages {
                let load = wrk(route, Ask { file, connections, close: false, seconds }, world).await?;
                if cells.is_empty() {
                    direct = load.per_second;
                }
                cells.push(load.cell(direct));
            }
            table.row(format!("{file}iB, {connections} connections"), cells);
        }
    }
    table.finish();
    Ok(())
}

/// A connection for each request.
pub(crate) async fn measure_new(world: &World, seconds: u32, report: &mut Report) -> Result<()> {
    let names: Vec<&str> = world.secure_pages.iter().map(|route| route.name).collect();
    let title = "HTTPS, 1 kiB, a new connection for each request (direct: nginx with TLS and the same kind of key): \
                 requests/s (ratio to direct), p50 / p99 in ms, processor time";
    let mut table = report.table(title, &names);
    for connections in [1, 16] {
        let mut cells = Vec::new();
        let mut direct = 0.0;
        for route in &world.secure_pages {
            let load = wrk(route, Ask { file: "1k", connections, close: true, seconds }, world).await?;
            if cells.is_empty() {
                direct = load.per_second;
            }
            cells.push(load.cell(direct));
        }
        table.row(format!("{connections} at a time"), cells);
    }
    table.finish();
    Ok(())
}

/// What wrk asks for.
struct Ask {
    file: &'static str,
    connections: u32,
    close: bool,
    seconds: u32,
}

impl Load {
    fn cell(&self, direct: f64) -> Cell {
        let Self { per_second, p50, p99, cost } = self;
        let cost = cost.map(|(server, end)| format!(", {server:.0} + {end:.0} µs CPU")).unwrap_or_default();
        Cell(format!("{per_second:.0} ({:.2}), {p50:.2} / {p99:.2}{cost}", per_second / direct))
    }
}

async fn wrk(route: &Route, ask: Ask, world: &World) -> Result<Load> {
    let Ask { file, connections, close, seconds } = ask;
    let threads = connections.min(2).to_string();
    let mut command = route.wrk(&world.folder)?;
    command.args(["-t", &threads, "-c", &connections.to_string(), "-d", &format!("{seconds}s"), "--latency"]);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    let before = world.cpu(route)?;
    let output = command.arg(format!("{}/{file}", route.origin)).kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains("Non-2xx"), "{}: not every answer was good:\n{text}", route.name);
    let mut load = parse(&text).with_context(|| format!("{}: wrk says:\n{text}", route.name))?;
    if let (Some(old), Some(new)) = (before, world.cpu(route)?) {
        let each = 1e6 / (load.per_second * f64::from(seconds));
        load.cost = Some(((new.0 - old.0) * each, (new.1 - old.1) * each));
    }
    Ok(load)
}

fn parse(text: &str) -> Result<Load> {
    let after = |word: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(word));
        line.and_then(|line| line.split_whitespace().last()).with_context(|| format!("no line {word}"))
    };
    Ok(Load {
        per_second: after("Requests/sec:")?.parse()?,
        p50: milliseconds(after("50%")?)?,
        p99: milliseconds(after("99%")?)?,
        cost: None,
    })
}

fn milliseconds(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    anyhow::bail!("`{text}` is no time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "  Latency Distribution\n     50%  612.00us\n     75%    1.00ms\n     90%    2.00ms\n     99%    1.20s \n\
                    Requests/sec:  24837.52\nTransfer/sec:     30.00MB\n";
        let load = parse(text).unwrap();
        assert_eq!((load.per_second, load.p50, load.p99), (24837.52, 0.612, 1200.0));
    }
}
