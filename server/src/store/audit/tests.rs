//! What somebody with the database in their hands may do to the audit, and what shows of it.

use std::time::{Duration, Instant};

use super::*;
use crate::audit::keep::prune;
use crate::audit::{Action, Actor, ActorKind, Anchor, Audit, Broken, Entry, Target, verify};
use crate::store::tests::fresh;

async fn written(rows: usize) -> (tempfile::TempDir, Store) {
    let (dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    for n in 0..rows {
        let entry = Entry::new(Action::GATEWAY_ADD, Actor::new(ActorKind::Person, "anna"));
        audit.note(entry.on(Target::gateway(format!("site{n}")))).await.unwrap();
    }
    audit.close().await;
    (dir, store)
}

async fn run(store: &Store, sql: &'static str) {
    assert!(sqlx::query(sql).execute(&store.pool).await.unwrap().rows_affected() > 0, "{sql}");
}

async fn broken(store: &Store) -> String {
    verify(store, &[]).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_row_that_was_changed_shows() {
    for sql in [
        "UPDATE audit SET actor = 'otto' WHERE seq = 4",
        "UPDATE audit SET at = at + 1 WHERE seq = 4",
        "UPDATE audit SET result = 'failed' WHERE seq = 4",
        "UPDATE audit SET details = '{\"x\":1}' WHERE seq = 4",
        "UPDATE audit SET hash = '1111111111111111111111111111111111111111111111111111111111111111' WHERE seq = 4",
    ] {
        let (_dir, store) = written(9).await;
        verify(&store, &[]).await.unwrap();
        run(&store, sql).await;
        assert_eq!(broken(&store).await, "row 4 was changed, or does not follow the row before it", "{sql}");
    }
}

#[tokio::test]
async fn a_row_that_was_removed_shows() {
    let (_dir, store) = written(9).await;
    run(&store, "DELETE FROM audit WHERE seq = 4").await;
    assert_eq!(broken(&store).await, "row 4 is missing");
    // And if the others close the gap.
    run(&store, "UPDATE audit SET seq = seq - 1 WHERE seq > 4").await;
    assert_eq!(broken(&store).await, "row 4 was changed, or does not follow the row before it");
}

#[tokio::test]
async fn rows_that_were_swapped_show() {
    let (_dir, store) = written(9).await;
    for sql in [
        "UPDATE audit SET seq = -4 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = 5",
        "UPDATE audit SET seq = 5 WHERE seq = -4",
    ] {
        run(&store, sql).await;
    }
    assert_eq!(broken(&store).await, "row 4 was changed, or does not follow the row before it");
}

#[tokio::test]
async fn an_end_that_was_cut_off_shows() {
    let (_dir, store) = written(9).await;
    let anchor = store.audit_ends().await.unwrap().end;
    run(&store, "DELETE FROM audit WHERE seq > 6").await;
    assert_eq!(broken(&store).await, "the chain ends with row 6, but it was written up to row 9");
    // Somebody may make the mark fit; an anchor that was kept elsewhere still tells.
    run(&store, "UPDATE audit_marks SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6) WHERE mark = 'end'")
        .await;
    verify(&store, &[]).await.unwrap();
    assert!(matches!(verify(&store, &[anchor.into()]).await, Err(Broken::Anchor(9))));
}

#[tokio::test]
async fn a_chain_that_was_written_anew_does_not_fit_the_anchor() {
    let (_dir, store) = written(9).await;
    let anchor = store.audit_ends().await.unwrap().end;
    let hash = [Anchor::Hash(anchor.hash.clone())];
    let (_other_dir, other) = written(9).await;
    verify(&other, &[]).await.unwrap();
    assert!(matches!(verify(&other, &[anchor.clone().into()]).await, Err(Broken::Anchor(9))));
    assert!(matches!(verify(&other, &hash).await, Err(Broken::Unknown(_))));
    verify(&store, &[anchor.into()]).await.unwrap();
    verify(&store, &hash).await.unwrap();
}

#[tokio::test]
async fn what_is_left_after_old_rows_are_taken_away_is_whole() {
    let (_dir, store) = written(9).await;
    run(&store, "UPDATE audit_marks SET seq = 0 WHERE mark = 'start'").await;
    let cut = Timestamp::now() + Duration::from_secs(60);
    assert_eq!(prune(&store, Timestamp::UNIX_EPOCH).await.unwrap(), 0, "none is that old");
    assert_eq!(prune(&store, cut).await.unwrap(), 9);
    let whole = verify(&store, &[]).await.unwrap();
    assert_eq!((whole.start.seq, whole.end.seq, whole.rows), (9, 10, 1), "one row says what was taken away");
    let rows = store.search_audit(&AuditSearch::default(), None, 10).await.unwrap();
    assert_eq!((rows[0].record.action.as_str(), rows.len()), ("audit.prune", 1));
    let audit = Audit::start(store.clone());
    audit.note(Entry::new(Action::SERVER_START, Actor::system())).await.unwrap();
    verify(&store, &[]).await.unwrap();
    // A start that nobody has noted down shows.
    run(&store, "DELETE FROM audit WHERE seq = 10").await;
    run(&store, "UPDATE audit_marks SET seq = 10, hash = (SELECT hash FROM audit WHERE seq = 11) WHERE mark = 'start'")
        .await;
    assert!(verify(&store, &[]).await.is_err());
}

#[tokio::test]
async fn none_is_taken_away_that_is_younger_than_one_before_it() {
    let (_dir, store) = written(9).await;
    // A clock that was wrong for a while.
    run(&store, "UPDATE audit SET at = 0 WHERE seq IN (1, 2, 5)").await;
    assert_eq!(prune(&store, Timestamp::from_second(1).unwrap()).await.unwrap(), 2);
    assert_eq!(store.audit_ends().await.unwrap().start.seq, 2);
}

#[tokio::test]
async fn a_destination_begins_where_it_was_left() {
    let (_dir, store) = written(3).await;
    assert_eq!(store.audit_forwarded("syslog").await.unwrap(), 3, "what was before is not sent");
    store.set_audit_forwarded("syslog", 2).await.unwrap();
    assert_eq!(store.audit_forwarded("syslog").await.unwrap(), 2);
    assert_eq!(store.audit_forwarded("webhook").await.unwrap(), 3);
}

#[tokio::test]
#[ignore = "writes a million rows: make bench-audit"]
async fn a_million_rows_are_searched_quickly() {
    const ROWS: usize = 1_000_000;
    let (_dir, store) = fresh().await;
    let began = Instant::now();
    for chunk in 0..ROWS / 5000 {
        let records: Vec<Record> = (0..5000).map(|n| record(chunk * 5000 + n)).collect();
        store.append_audit(&records.iter().collect::<Vec<_>>()).await.unwrap();
    }
    let wrote = began.elapsed();
    let by = |search: AuditSearch| search;
    let searches = [
        ("newest", by(AuditSearch::default())),
        ("actor", by(AuditSearch { actor: Some("person77".into()), ..AuditSearch::default() })),
        ("nobody", by(AuditSearch { actor: Some("nobody".into()), ..AuditSearch::default() })),
        ("action", by(AuditSearch { action: Some("stream.end".into()), ..AuditSearch::default() })),
        ("first word", by(AuditSearch { action: Some("gateway".into()), ..AuditSearch::default() })),
        ("device", by(AuditSearch { device: Some("plc4242".into()), ..AuditSearch::default() })),
        ("denied", by(AuditSearch { result: Some("denied".into()), ..AuditSearch::default() })),
        (
            "old times",
            by(AuditSearch {
                from: Timestamp::from_second(1_700_000_000).ok(),
                until: Timestamp::from_second(1_700_000_050).ok(),
                ..AuditSearch::default()
            }),
        ),
    ];
    for (what, search) in searches {
        let began = Instant::now();
        let rows = store.search_audit(&search, None, 100).await.unwrap();
        let took = began.elapsed();
        eprintln!("{what:<12} {:>4} rows in {took:?}", rows.len());
        assert!(took < Duration::from_millis(500), "{what}: {took:?}");
    }
    let began = Instant::now();
    verify(&store, &[]).await.unwrap();
    eprintln!("written in {wrote:?}, verified in {:?}", began.elapsed());
}

fn record(n: usize) -> Record {
    let action = if n.is_multiple_of(1000) { Action::GATEWAY_ADD } else { Action::STREAM_END };
    let entry = Entry::new(action, Actor::new(ActorKind::Person, format!("person{}", n % 500)));
    let entry = entry.on(Target::service(format!("site{}", n % 3000), format!("plc{}", n % 10_000), "ssh"));
    let entry = if n.is_multiple_of(5000) { entry.denied("no grant allows this") } else { entry };
    entry.record(Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(n).unwrap() * 100).unwrap())
}
