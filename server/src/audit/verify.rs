//! Follows the chain from its start to its end, and says where it is broken first.

use std::collections::{HashMap, HashSet};

use super::{Action, Anchor, Hash, Mark, hash};
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
    /// An anchor without a number that was kept elsewhere fits no row.
    #[error("no row has the hash {0}: its row became too old and was taken away, or the chain was written anew")]
    Unknown(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies the chain, and that the anchors are rows of it.
pub async fn verify(store: &Store, anchors: &[Anchor]) -> Result<Whole, Broken> {
    loop {
        let before = store.audit_ends().await?.start;
        let walked = walk(store, anchors).await;
        // Rows that were taken away in the meantime, because they had become too old, were not missing.
        if walked.is_ok() || store.audit_ends().await?.start == before {
            return walked;
        }
    }
}

async fn walk(store: &Store, anchors: &[Anchor]) -> Result<Whole, Broken> {
    // What is written meanwhile is not looked at.
    let ends = store.audit_ends().await?;
    let mut at = ends.start.clone();
    let mut expected = Expected::new(anchors);
    expected.check(&at)?;
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
            expected.check(&at)?;
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
    expected.check_rest(ends.start.seq)?;
    Ok(Whole { rows: ends.end.seq - ends.start.seq, start: ends.start, end: ends.end })
}

/// Anchors that have not come by yet.
struct Expected<'a> {
    rows: HashMap<i64, &'a Hash>,
    hashes: HashSet<&'a str>,
}

impl<'a> Expected<'a> {
    fn new(anchors: &'a [Anchor]) -> Self {
        let (mut rows, mut hashes) = (HashMap::new(), HashSet::new());
        for anchor in anchors {
            match anchor {
                Anchor::Row(Mark { seq: 0, .. }) => {}
                Anchor::Row(mark) => drop(rows.insert(mark.seq, &mark.hash)),
                Anchor::Hash(hash) => drop(hashes.insert(hash.as_str())),
            }
        }
        Self { rows, hashes }
    }

    fn check(&mut self, at: &Mark) -> Result<(), Broken> {
        self.hashes.remove(at.hash.as_str());
        match self.rows.remove(&at.seq) {
            Some(hash) if *hash != at.hash => Err(Broken::Anchor(at.seq)),
            _ => Ok(()),
        }
    }

    /// Anchors of rows that were taken away with good reason say nothing any more.
    fn check_rest(self, start: i64) -> Result<(), Broken> {
        if let Some(hash) = self.hashes.into_iter().next() {
            return Err(Broken::Unknown(hash.to_owned()));
        }
        self.rows.into_keys().find(|seq| *seq > start).map_or(Ok(()), |seq| Err(Broken::Anchor(seq)))
    }
}

fn mark_in(details: &str) -> Option<Mark> {
    let details: serde_json::Value = serde_json::from_str(details).ok()?;
    details.get("anchor")?.as_str()?.parse().ok()
}
