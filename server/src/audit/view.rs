//! A row as programs and tables are given it: JSON lines, and CSV that no spreadsheet takes for a formula (pure).

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Row;

/// A row of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowView {
    /// Its number in the chain of all organisations; null for who reads those of one.
    pub seq: Option<i64>,
    /// When.
    #[schema(format = DateTime)]
    pub time: String,
    /// The organisation; null for what concerns the whole server.
    pub tenant: Option<String>,
    /// `person`, `service`, `visitor`, `gateway`, `shell`, `system` or `stranger`.
    pub actor_kind: String,
    /// Who; of a stranger, the name they claimed.
    pub actor: String,
    /// From which address.
    pub address: Option<String>,
    /// With which program, as it said itself.
    pub client: Option<String>,
    /// What was done.
    pub action: String,
    /// The kind of thing it was done to.
    pub target_kind: Option<String>,
    /// Its name.
    pub target: Option<String>,
    /// The gateway concerned.
    pub gateway: Option<String>,
    /// The device concerned.
    pub device: Option<String>,
    /// The service concerned.
    pub service: Option<String>,
    /// `ok`, `denied` or `failed`.
    pub result: String,
    /// Why, if it was not done.
    pub reason: Option<String>,
    /// More about it.
    #[schema(value_type = Object)]
    pub details: Box<RawValue>,
    /// Bytes from the device.
    pub bytes_up: Option<i64>,
    /// Bytes to the device.
    pub bytes_down: Option<i64>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The hash over this row and the one before it.
    pub hash: String,
}

impl From<&Row> for RowView {
    fn from(Row { mark, record }: &Row) -> Self {
        let record = record.clone();
        Self {
            seq: Some(mark.seq),
            time: time(record.at),
            tenant: record.tenant,
            actor_kind: record.actor_kind,
            actor: record.actor,
            address: record.address,
            client: record.client,
            action: record.action,
            target_kind: record.target_kind,
            target: record.target,
            gateway: record.gateway,
            device: record.device,
            service: record.service,
            result: record.result,
            reason: record.reason,
            details: RawValue::from_string(record.details).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            bytes_up: record.bytes_up,
            bytes_down: record.bytes_down,
            duration_ms: record.duration_ms,
            hash: mark.hash.to_string(),
        }
    }
}

impl RowView {
    /// As one organisation reads it: the number would tell how much the others do.
    pub fn of_one(row: &Row) -> Self {
        Self { seq: None, ..Self::from(row) }
    }
}

/// The first line of a table.
pub const CSV_HEAD: &str = "seq,time,tenant,actor_kind,actor,address,client,action,target_kind,target,gateway,device,\
     service,result,reason,details,bytes_up,bytes_down,duration_ms,hash\r\n";

/// A row as a line of JSON.
pub fn json_line(row: &RowView) -> String {
    // Plain values are always written.
    let mut line = serde_json::to_string(row).unwrap_or_default();
    line.push('\n');
    line
}

/// A row as a line of a table (RFC 4180).
pub fn csv_line(row: &RowView) -> String {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells = [
        number(row.seq),
        row.time.clone(),
        text(&row.tenant),
        row.actor_kind.clone(),
        row.actor.clone(),
        text(&row.address),
        text(&row.client),
        row.action.clone(),
        text(&row.target_kind),
        text(&row.target),
        text(&row.gateway),
        text(&row.device),
        text(&row.service),
        row.result.clone(),
        text(&row.reason),
        row.details.get().to_owned(),
        number(row.bytes_up),
        number(row.bytes_down),
        number(row.duration_ms),
        row.hash.clone(),
    ];
    let mut line = cells.map(|text| cell(&text)).join(",");
    line.push_str("\r\n");
    line
}

/// What begins like a formula gets an apostrophe in front, which spreadsheets show as text.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mut quoted = String::from("\"");
    // Writing to a String does not fail.
    let _ = write!(quoted, "{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""));
    quoted
}

fn time(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Actor, ActorKind, Entry, Hash, Mark, Origin};
    use super::*;

    fn row(name: &str) -> RowView {
        let origin = Origin { address: None, client: Some(name.to_owned()) };
        let entry = Entry::new(Action::SESSION_BEGIN, Actor::new(ActorKind::Stranger, name)).from(&origin);
        let record = entry.denied(name).with("x", name).record(Timestamp::UNIX_EPOCH);
        RowView::from(&Row { mark: Mark { seq: 1, hash: Hash::zero() }, record })
    }

    #[test]
    fn no_cell_is_a_formula() {
        for evil in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(\"http://evil\",\"x\")"] {
            let line = csv_line(&row(evil));
            assert_eq!(line.matches("\r\n").count(), 1, "{line}");
            for cell in line.trim_matches(['"', '\r', '\n']).split("\",\"") {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{evil}: {line}");
            }
        }
    }

    #[test]
    fn a_table_has_as_many_cells_as_its_head() {
        let line = csv_line(&row("plain"));
        assert_eq!(line.matches("\",\"").count(), CSV_HEAD.matches(',').count());
        assert!(line.contains("\"1970-01-01T00:00:00.000Z\""), "{line}");
        assert_eq!(csv_line(&row("a\"b")).matches("a\"\"b").count(), 3);
        let of_one = csv_line(&RowView { seq: None, ..row("plain") });
        assert_eq!(of_one.matches("\",\"").count(), CSV_HEAD.matches(',').count());
        assert!(of_one.starts_with("\"\",\"1970"), "{of_one}");
    }

    #[test]
    fn a_line_of_json_is_one_line_and_holds_what_the_row_holds() {
        let line = json_line(&row("a\nb\"c\u{1b}"));
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["actor"], &value["details"]["x"]),
            (&"a\\u{a}b\"c\\u{1b}".into(), &"a\\u{a}b\"c\\u{1b}".into())
        );
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
    }
}
