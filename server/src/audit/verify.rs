//! Follows the chain from its start to its end, and says where it is broken first.

use std::collections::HashMap;

use super::{Action, Hash, Mark, hash};
use crate::store::{AuditSearch, Store, StoreError};

/// Rows read at once.
const AT_ONCE: usize = 1000;

/// A chain that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Rows that are kept.
    pub rows: i64,
    /// The last row that was taken away at the start.
    pub start: Mark,
    /// The last row.
    pub end: Mark,
}

/// Why a chain is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A row does not say any more what it said, or stands where another one stood.
    #[error("row {0} was changed, or does not follow the row before it")]
    Changed(i64),
    /// Rows are not there any more.
    #[error("row {0} is missing")]
    Missing(i64),
    /// Rows at the end are not there any more, or were added by somebody else.
    #[error("the chain ends with row {found}, but it was written up to row {written}")]
    End {
        /// The last row there is.
        found: i64,
        /// The last row that was written.
        written: i64,
    },
    /// Rows at the start were taken away, and no row says so.
    #[error("the rows up to {0} were taken away, but no entry says so")]
    Start(i64),
    /// An anchor that was kept elsewhere does not fit.
    #[error("row {0} is not the one of the anchor: the chain was written anew")]
    Anchor(i64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies the chain, and that the anchors are rows of it.
pub async fn verify(store: &Store, anchors: &[Mark]) -> Result<Whole, Broken> {
    loop {
        let before = store.audit_ends().await?.start;
        let walked = walk(store, anchors).await;
        // Rows that were taken away in the meantime, because they had become too old, were not missing.
        if walked.is_ok() || store.audit_ends().await?.start == before {
            return walked;
        }
    }
}

async fn walk(store: &Store, anchors: &[Mark]) -> Result<Whole, Broken> {
    // What is written meanwhile is not looked at.
    let ends = store.audit_ends().await?;
    let mut at = ends.start.clone();
    let mut expected: HashMap<i64, &Hash> = anchors.iter().map(|anchor| (anchor.seq, &anchor.hash)).collect();
    expected.remove(&0);
    check_anchor(&mut expected, &at)?;
    let mut pruned: Option<Mark> = None;
    'rows: loop {
        let rows = store.audit_after(&AuditSearch::default(), at.seq, AT_ONCE).await?;
        let last = rows.len() < AT_ONCE;
        for row in rows {
            if row.mark.seq > ends.end.seq {
                break 'rows;
            }
            if row.mark.seq != at.seq + 1 {
                return Err(Broken::Missing(at.seq + 1));
            }
            if row.mark.hash != hash(&at.hash, row.mark.seq, &row.record) {
                return Err(Broken::Changed(row.mark.seq));
            }
            if row.record.action == Action::AUDIT_PRUNE.as_str() {
                pruned = mark_in(&row.record.details);
            }
            at = row.mark;
            check_anchor(&mut expected, &at)?;
        }
        if last {
            break;
        }
    }
    if at != ends.end {
        return Err(Broken::End { found: at.seq, written: ends.end.seq });
    }
    if ends.start.seq > 0 && pruned.as_ref() != Some(&ends.start) {
        return Err(Broken::Start(ends.start.seq));
    }
    // Anchors of rows that were taken away with good reason say nothing any more.
    if let Some(seq) = expected.into_keys().find(|seq| *seq > ends.start.seq) {
        return Err(Broken::Anchor(seq));
    }
    Ok(Whole { rows: ends.end.seq - ends.start.seq, start: ends.start, end: ends.end })
}

fn check_anchor(expected: &mut HashMap<i64, &Hash>, at: &Mark) -> Result<(), Broken> {
    match expected.remove(&at.seq) {
        Some(hash) if *hash != at.hash => Err(Broken::Anchor(at.seq)),
        _ => Ok(()),
    }
}

fn mark_in(details: &str) -> Option<Mark> {
    let details: serde_json::Value = serde_json::from_str(details).ok()?;
    details.get("anchor")?.as_str()?.parse().ok()
}
