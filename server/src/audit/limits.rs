//! Every number of the audit, with its reason.

use std::time::Duration;

/// Entries that wait to be written: a minute of a busy server's streams, a few megabytes at most.
pub(super) const QUEUE: usize = 4096;
/// Entries of one transaction: the disk is waited for once per transaction, and others wait for its end.
pub(super) const BATCH: usize = 256;
/// Rows that somebody who follows may be behind.
pub(super) const FOLLOWED: usize = 1024;
/// Longest wait for an entry to be written: longer than the database waits for other writers.
pub(super) const NOTE: Duration = Duration::from_secs(15);
/// While entries cannot be written, a look whether they can is taken this often.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
