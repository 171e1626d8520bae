//! The task that writes down what was counted, watches the caps, and forgets what is old.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_protocol::driver::ResetReason;
use linkspan_protocol::frame::Reset;
use linkspan_protocol::id::GatewayName;
use linkspan_protocol::text::size;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Level, Live, Standing, Traffic};
use crate::store::{By, Month, Store, StoreError, TrafficQuery};

/// How often open streams are looked at: the most by which a cap is overrun is what the line carries in this time.
const LOOK: Duration = Duration::from_secs(2);
/// How often what was counted is written down: as much is lost when the process is killed or the power fails.
const WRITE: Duration = Duration::from_secs(10);
/// How often months that are too old are forgotten.
const FORGET: Duration = Duration::from_hours(1);
/// Bytes that a stream which is open when the cap is reached may still carry: somebody at a terminal can finish, a
/// transfer cannot.
const LAST_BYTES: u64 = 64 * 1024;

impl Traffic {
    /// Keeps the books; never returns. Call [`write_down`](Self::write_down) once more when the last stream has ended.
    pub async fn keep(&self, store: &Store, keep_months: u32) {
        if let Err(error) = self.turn_month(store, self.month_now()).await {
            tracing::error!(error = error.in_full(), "what was used this month cannot be read; caps count from zero");
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut forgot) = (Instant::now(), None::<Instant>);
        self.read_caps(store).await;
        loop {
            look.tick().await;
            self.look();
            if written.elapsed() >= WRITE {
                self.read_caps(store).await;
                self.write_down(store).await;
                written = Instant::now();
            }
            let month = self.month_now();
            if month != self.book().month()
                && let Err(error) = self.turn_month(store, month).await
            {
                tracing::error!(error = error.in_full(), "the month is over, and the next one cannot be read");
            }
            if forgot.is_none_or(|at| at.elapsed() >= FORGET) {
                forget(store, month.back(keep_months)).await;
                forgot = Some(Instant::now());
            }
        }
    }

    /// Writes down what was counted; what cannot be written stays in mind.
    pub async fn write_down(&self, store: &Store) {
        self.collect();
        let batch = self.book().take();
        if batch.0.is_empty() && batch.1.is_empty() {
            return;
        }
        if let Err(error) = store.book_traffic(&batch.0, &batch.1).await {
            tracing::error!(error = error.in_full(), "traffic cannot be written down; it is tried again");
            self.book().put_back(batch);
        }
    }

    /// Takes over caps that were changed, by whomever.
    pub async fn read_caps(&self, store: &Store) {
        match store.data_caps().await {
            Ok(caps) => self.book().set_caps(caps),
            Err(error) => tracing::error!(error = error.in_full(), "the data caps cannot be read; the last ones stay"),
        }
    }

    /// Counts what has passed, says what is news about caps, and ends what is above one.
    fn look(&self) {
        let streams = self.collect();
        let news = self.book().judge(Timestamp::now());
        for (gateway, standing) in &news {
            tell(gateway, standing);
        }
        for live in streams {
            let standing = self.book().standing(&live.passage.gateway_name);
            if standing.level != Level::Reached {
                live.forgive();
            } else if live.carried_since_cap() > LAST_BYTES {
                live.cut(Reset::new(ResetReason::DataCap, used_up(&standing, &self.inner.zone)));
            }
        }
    }

    /// Books what open streams have carried since they were last looked at.
    fn collect(&self) -> Vec<std::sync::Arc<Live>> {
        let streams = self.open();
        let mut book = self.book();
        for live in &streams {
            let sum = live.take();
            book.add(&live.passage, sum);
            self.inner.meters.carried(sum);
        }
        drop(book);
        streams
    }

    async fn turn_month(&self, store: &Store, month: Month) -> Result<(), StoreError> {
        self.write_down(store).await;
        let by = By { gateway: true, ..By::default() };
        let all = TrafficQuery { from: month, to: month, tenant: None, gateway: None, device: None, person: None, by };
        let streams = store.traffic(&all).await?;
        let links = store.link_counts((month, month), None).await?;
        let streams: Vec<_> =
            streams.into_iter().filter_map(|(key, sum)| Some((key.gateway.parse().ok()?, sum.bytes()))).collect();
        let links: Vec<_> =
            links.into_iter().filter_map(|(_, name, count)| Some((name.parse().ok()?, count.bytes()))).collect();
        self.book().turn(month, &streams, &links);
        Ok(())
    }
}

async fn forget(store: &Store, before: Month) {
    match store.forget_traffic_before(before).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, %before, "old months of traffic were forgotten"),
        Err(error) => tracing::error!(error = error.in_full(), "old months of traffic cannot be forgotten"),
    }
}

fn tell(gateway: &GatewayName, standing: &Standing) {
    let Standing { month, used, cap, level } = standing;
    match level {
        Level::Free => tracing::info!(%gateway, %month, used, "data: below the cap again"),
        Level::Warned => {
            tracing::warn!(%gateway, %month, used, ?cap.warn, ?cap.hard, "data: more than the warning is used")
        }
        Level::Reached => {
            tracing::warn!(%gateway, %month, used, ?cap.hard, "data: the cap is reached; no more is carried");
        }
    }
}

/// What people are told whose connection is refused or cut.
pub(super) fn used_up(standing: &Standing, zone: &TimeZone) -> String {
    let hard = standing.cap.hard.unwrap_or_default();
    let until = standing.month.end(zone).map_or_else(String::new, |end| format!("; the next month begins {end}"));
    format!("{} of {} are used in {}{until}", size(standing.used), size(hard), standing.month)
}
