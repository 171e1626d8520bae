//! Twenty seconds in which nothing passes, with and without another address afterwards: when it works again, and whether
//! streams that were open go on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use linkspan_tests::line::Way;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::field::{Field, Who};
use crate::report::{Cell, Report};
use crate::targets::Service;
use crate::visitor::{Connection, PATIENCE, Visitor};
use crate::world::Programs;

const DOWN: Duration = Duration::from_secs(20);
/// When in the outage the address changes.
const CHANGE: Duration = Duration::from_secs(5);

/// What was seen of one way: since the line works again.
struct Seen {
    new: Option<Duration>,
    old: Option<Duration>,
}

pub(crate) async fn measure(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let field = Field::start(programs, folder, Who::All, "delay=25ms").await?;
    let title = "After 20 s in which nothing passed: seconds from then to a new connection / to the answer on a stream that \
                 was open";
    let mut rows = Vec::new();
    for (name, moves) in [("the same address", false), ("another address", true)] {
        let cells = outage(&field, moves).await?.into_iter().map(Seen::cell).collect();
        rows.push((name, cells));
        field.line.set(Way::Both, "up")?;
    }
    let mut table = report.table(title, &field.names());
    for (name, cells) in rows {
        table.row(name.to_owned(), cells);
    }
    table.finish();
    Ok(())
}

async fn outage(field: &Field, moves: bool) -> Result<Vec<Seen>> {
    let (up, is_up) = watch::channel(None);
    let visitors = field.visitors.clone();
    let (ready, all_ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| field.public.inside_async(async move || look(visitors, is_up, ready).await));
        all_ready.recv_timeout(PATIENCE)?;
        field.line.set(Way::Both, "down")?;
        std::thread::sleep(CHANGE);
        if moves {
            field.change_address()?;
        }
        std::thread::sleep(DOWN - CHANGE);
        field.line.set(Way::Both, "up")?;
        up.send(Some(Instant::now()))?;
        looking.join().map_err(|_| anyhow!("a visitor panicked"))?
    })
}

async fn look(
    visitors: Vec<Visitor>,
    up: watch::Receiver<Option<Instant>>,
    ready: std::sync::mpsc::Sender<()>,
) -> Result<Vec<Seen>> {
    let mut olds = Vec::new();
    for visitor in &visitors {
        let mut old = visitor.open(Service::Echo).await?;
        old.keystroke().await?;
        olds.push(old);
    }
    ready.send(())?;
    let mut tasks = JoinSet::new();
    for (place, (visitor, old)) in visitors.into_iter().zip(olds).enumerate() {
        let up = up.clone();
        tasks.spawn(async move { (place, watch_one(visitor, old, up).await) });
    }
    let mut seen: Vec<(usize, Seen)> = tasks.join_all().await;
    seen.sort_by_key(|(place, _)| *place);
    Ok(seen.into_iter().map(|(_, seen)| seen).collect())
}

async fn watch_one(visitor: Visitor, mut old: Connection, mut up: watch::Receiver<Option<Instant>>) -> Seen {
    // Typed while nothing passes, as people do.
    sleep(Duration::from_secs(2)).await;
    let typed = timeout(DOWN + PATIENCE, old.keystroke());
    let mut new_up = up.clone();
    let new = async {
        let begin = new_up.wait_for(Option::is_some).await.ok()?.unwrap_or_else(Instant::now);
        while begin.elapsed() < PATIENCE {
            match timeout(Duration::from_secs(1), visitor.new_echo()).await {
                Ok(Ok(_)) => return Some(begin.elapsed()),
                Ok(Err(_)) => sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
        }
        None
    };
    let old = async {
        let answered = matches!(typed.await, Ok(Ok(_)));
        let begin = up.wait_for(Option::is_some).await.ok()?.unwrap_or_else(Instant::now);
        answered.then(|| begin.elapsed())
    };
    let (new, old) = tokio::join!(new, old);
    Seen { new, old }
}

impl Seen {
    fn cell(self) -> Cell {
        let new = self.new.map_or_else(|| format!("not within {}", PATIENCE.as_secs()), seconds);
        let old = self.old.map_or_else(|| "lost".to_owned(), seconds);
        Cell(format!("{new} / {old}"))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
