//! New connections when 50 ms lie between gateway and server, one way: one after the other, many at once, and how many
//! in a second.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::field::{Field, Who};
use crate::report::{Cell, Report, milliseconds};
use crate::visitor::Visitor;
use crate::world::Programs;

const ROUNDS: usize = 15;
const BURST: usize = 30;
const AT_ONCE: usize = 8;
const RATE_TIME: Duration = Duration::from_secs(4);

pub(crate) async fn measure(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let field = Field::start(programs, folder, Who::All, "delay=50ms").await?;
    let mut rows = [Vec::new(), Vec::new(), Vec::new()];
    for visitor in field.visitors.clone() {
        let (one, burst, rate) = field.public.inside_async(async move || {
            let (one, burst) = (one_by_one(&visitor).await?, at_once(&visitor).await?);
            Ok((one, burst, rate(&visitor).await?))
        })?;
        rows[0].push(Cell(milliseconds(one)));
        rows[1].push(Cell(milliseconds(burst)));
        rows[2].push(Cell(format!("{rate:.0}/s")));
    }
    let title = "New connection over a line of 50 ms each way: ms to the first byte of a page";
    let mut table = report.table(title, &field.names());
    let names = [
        "one after the other, median".to_owned(),
        format!("{BURST} at once, the last of them"),
        format!("in a second, {AT_ONCE} at a time"),
    ];
    for (name, row) in names.into_iter().zip(rows) {
        table.row(name, row);
    }
    table.finish();
    Ok(())
}

async fn one_by_one(visitor: &Visitor) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(visitor.first_byte().await?);
    }
    times.sort();
    Ok(times[ROUNDS / 2])
}

async fn at_once(visitor: &Visitor) -> Result<Duration> {
    let mut visits = JoinSet::new();
    for _ in 0..BURST {
        let visitor = visitor.clone();
        visits.spawn(async move { visitor.first_byte().await });
    }
    let mut longest = Duration::ZERO;
    while let Some(visit) = visits.join_next().await {
        longest = longest.max(visit??);
    }
    Ok(longest)
}

async fn rate(visitor: &Visitor) -> Result<f64> {
    let begin = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let visitor = visitor.clone();
        lanes.spawn(async move {
            let mut visits = 0;
            while begin.elapsed() < RATE_TIME {
                visitor.first_byte().await?;
                visits += 1;
            }
            anyhow::Ok(visits)
        });
    }
    let mut all = 0;
    while let Some(lane) = lanes.join_next().await {
        all += lane??;
    }
    Ok(f64::from(all) / begin.elapsed().as_secs_f64())
}
