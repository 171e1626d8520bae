//! `linkspan-server gateway traffic|cap`: what gateways have used, and how much they may.

use clap::Args;
use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use linkspan_protocol::text::{size, size_of};
use linkspan_server::config::Config;
use linkspan_server::store::{By, DataCap, LinkCount, Month, Store, TrafficQuery, TrafficSum};

use super::{DATA, Exit, ListForm, NO_USER, json_line, note, out};

/// What `gateway traffic` is asked.
#[derive(Debug, Args)]
pub(crate) struct TrafficOf {
    /// Only this gateway.
    name: Option<GatewayName>,
    /// The month, like 2026-11; the current one, unless said.
    #[arg(long)]
    month: Option<Month>,
    #[command(flatten)]
    form: ListForm,
}

/// What `gateway cap` is asked.
#[derive(Debug, Args)]
pub(crate) struct CapOf {
    /// The gateway.
    name: GatewayName,
    /// Warn from so much on in a month: `400 MB`, `1.5 GB`; or `none`.
    #[arg(long, value_parser = bound)]
    warn: Option<Bound>,
    /// Carry no more from so much on in a month; or `none`.
    #[arg(long, value_parser = bound)]
    hard: Option<Bound>,
    /// Until then the cap does not count: a time like 2026-11-25T12:00:00Z, `month-end`, or `now` to end it.
    #[arg(long, value_name = "TIME", value_parser = lift)]
    lift_until: Option<Lift>,
}

impl CapOf {
    /// The gateway it is about.
    pub(super) fn gateway(&self) -> &GatewayName {
        &self.name
    }
}

/// So many bytes, or no bound.
type Bound = Option<u64>;

/// Until when a cap is lifted.
#[derive(Clone, Copy, Debug)]
enum Lift {
    MonthEnd,
    Until(Timestamp),
}

fn bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(None);
    }
    size_of(text).map(Some).ok_or_else(|| "write a number and a unit, such as `500 MB`, or `none`".to_owned())
}

fn lift(text: &str) -> Result<Lift, String> {
    match text {
        "month-end" => Ok(Lift::MonthEnd),
        "now" => Ok(Lift::Until(Timestamp::now())),
        time => {
            time.parse().map(Lift::Until).map_err(|_| "write a time like 2026-11-25T12:00:00Z, or `month-end`".into())
        }
    }
}

/// What each gateway used in a month.
pub(super) async fn traffic(store: &Store, config: &Config, asked: TrafficOf) -> Result<(), Exit> {
    let month = asked.month.unwrap_or_else(|| Month::of(Timestamp::now(), &config.traffic.zone));
    let name = asked.name.as_ref().map(ToString::to_string);
    if let Some(name) = &asked.name {
        known(store, name).await?;
    }
    let by = By { gateway: true, ..By::default() };
    let wanted =
        TrafficQuery { from: month, to: month, tenant: None, gateway: name.clone(), device: None, person: None, by };
    let sums = store.traffic(&wanted).await?;
    let links = store.link_counts((month, month), name.as_deref()).await?;
    let caps = store.data_caps().await?;
    let rows =
        store.gateways().await?.into_iter().filter(|gateway| asked.name.as_ref().is_none_or(|n| *n == gateway.name));
    let rows: Vec<Row> = rows
        .map(|gateway| Row {
            sum: sums
                .iter()
                .find(|(key, _)| key.gateway == gateway.name.as_str())
                .map(|(_, sum)| *sum)
                .unwrap_or_default(),
            link: links.iter().find(|(_, of, _)| of == gateway.name.as_str()).map(|(.., count)| *count),
            cap: caps.iter().find(|(of, _)| *of == gateway.name).map(|(_, cap)| *cap).unwrap_or_default(),
            gateway: gateway.name,
        })
        .collect();
    if asked.form.json {
        return out(&json_line(&rows.iter().map(|row| row.json(month)).collect()));
    }
    out(&rows.iter().map(Row::line).collect::<String>())
}

struct Row {
    gateway: GatewayName,
    sum: TrafficSum,
    link: Option<LinkCount>,
    cap: DataCap,
}

impl Row {
    fn json(&self, month: Month) -> serde_json::Value {
        serde_json::json!({
            "gateway": self.gateway,
            "month": month.to_string(),
            "link": self.link.map(|link| serde_json::json!({
                "sent": link.sent, "received": link.received, "told": link.told.to_string(),
            })),
            "streams": { "up": self.sum.up, "down": self.sum.down, "streams": self.sum.streams },
            "cap": { "warn": self.cap.warn, "hard": self.cap.hard, "lifted_until": self.cap.lifted_until.map(|at| at.to_string()) },
        })
    }

    fn line(&self) -> String {
        let link = match self.link {
            Some(link) => format!("link {} sent, {} received", size(link.sent), size(link.received)),
            None => "link not told".to_owned(),
        };
        let cap = self.cap.hard.map_or_else(String::new, |hard| format!("; cap {}", size(hard)));
        format!(
            "{:<32} {link}; streams {} up, {} down{cap}\n",
            self.gateway.as_str(),
            size(self.sum.up),
            size(self.sum.down)
        )
    }
}

/// Changes what is named of a gateway's cap; says what counts now.
pub(super) async fn cap(store: &Store, config: &Config, asked: CapOf) -> Result<(), Exit> {
    known(store, &asked.name).await?;
    let caps = store.data_caps().await?;
    let mut cap = caps.into_iter().find(|(of, _)| *of == asked.name).map(|(_, cap)| cap).unwrap_or_default();
    cap.warn = asked.warn.unwrap_or(cap.warn);
    cap.hard = asked.hard.unwrap_or(cap.hard);
    if let (Some(warn), Some(hard)) = (cap.warn, cap.hard)
        && warn > hard
    {
        return Err(Exit::says(DATA, "the warning is above the cap, so it would never be reached"));
    }
    cap.lifted_until = match asked.lift_until {
        Some(Lift::Until(at)) => Some(at),
        Some(Lift::MonthEnd) => Month::of(Timestamp::now(), &config.traffic.zone).end(&config.traffic.zone),
        None => cap.lifted_until,
    };
    if !store.set_data_cap(&asked.name, &cap).await? {
        return Err(missing(&asked.name));
    }
    let told = |bound: Option<u64>| bound.map_or_else(|| "none".to_owned(), size);
    let lifted = cap.lifted_until.map_or_else(String::new, |at| format!(", lifted until {at}"));
    note(format_args!("gateway {}: warning {}, cap {}{lifted}", asked.name, told(cap.warn), told(cap.hard)));
    Ok(())
}

async fn known(store: &Store, name: &GatewayName) -> Result<(), Exit> {
    let there = store.gateway(name).await?.is_some();
    if there { Ok(()) } else { Err(missing(name)) }
}

fn missing(name: &GatewayName) -> Exit {
    Exit::says(NO_USER, format_args!("there is no gateway {name}"))
}
