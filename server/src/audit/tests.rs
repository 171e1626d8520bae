//! The audit against a real database: order, durability, several writers, a disk that is full.

use super::*;
use crate::store::tests::{fill_up, fresh, make_room};

fn entry(n: usize) -> Entry {
    Entry::new(Action::STREAM_END, Actor::new(ActorKind::Person, "anna")).with("n", n)
}

async fn rows(store: &Store) -> i64 {
    store.audit_ends().await.unwrap().end.seq
}

#[tokio::test]
async fn what_was_noted_is_on_disk_and_what_waits_is_written_at_the_end() {
    let (_dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    audit.note(entry(0)).await.unwrap();
    assert_eq!(rows(&store).await, 1);
    for n in 0..1000 {
        audit.note_later(entry(n));
    }
    audit.close().await;
    assert_eq!(rows(&store).await, 1001);
    assert_eq!(audit.note(entry(0)).await, Err(NotRecorded), "it is closed");
    assert_eq!(audit.lost(), 0);
}

#[tokio::test]
async fn who_follows_sees_rows_in_the_order_of_the_chain() {
    let (_dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    let mut followed = audit.follow();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100 {
        let audit = audit.clone();
        all.spawn(async move { audit.note(entry(n)).await });
    }
    all.join_all().await;
    let mut before = Mark { seq: 0, hash: Hash::zero() };
    for _ in 0..100 {
        let row = followed.recv().await.unwrap();
        assert_eq!(row.mark, next(&before, &row.record));
        before = row.mark.clone();
    }
    assert_eq!(store.audit_ends().await.unwrap().end, before);
}

#[tokio::test]
async fn several_writers_keep_one_chain() {
    let (_dir, store) = fresh().await;
    let writers: Vec<Audit> = (0..4).map(|_| Audit::start(store.clone())).collect();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..200 {
        let audit = writers[n % 4].clone();
        all.spawn(async move { audit.note(entry(n)).await });
    }
    assert!(all.join_all().await.into_iter().all(|written| written == Ok(())));
    assert_eq!(rows(&store).await, 200);
}

#[tokio::test]
async fn on_a_full_disk_changes_are_refused_and_streams_are_counted() {
    let (_dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    assert_eq!(audit.usable().await, Ok(()));
    // Pages that were half empty take a few more, alone or two at a time. A connection on which a write has failed is not
    // used again, and the one in its place knows of no bound.
    let mut refused = 0;
    for _ in 0..10_000 {
        fill_up(&store).await;
        let fits = audit.note(entry(0)).await.is_ok();
        fill_up(&store).await;
        let fits = audit.written(Job::Look).await.is_ok() || fits;
        refused = if fits { 0 } else { refused + 1 };
        if refused == 2 {
            break;
        }
    }
    assert_eq!(refused, 2, "times in a row");
    fill_up(&store).await;
    let before = (rows(&store).await, audit.lost());
    for n in 0..10 {
        audit.note_later(entry(n));
    }
    assert_eq!(audit.note(entry(0)).await, Err(NotRecorded));
    assert_eq!((rows(&store).await, audit.lost()), (before.0, before.1 + 11));

    make_room(&store).await;
    let mut followed = audit.follow();
    let deadline = Instant::now() + 10 * limits::LOOK_AGAIN;
    while audit.usable().await.is_err() {
        assert!(Instant::now() < deadline, "there is room, and nobody has noticed");
        tokio::task::yield_now().await;
    }
    let told = followed.recv().await.unwrap();
    assert_eq!(told.record.action, "audit.lost");
    assert!(told.record.details.contains("\"entries\":13"), "the last of those that filled it up, too: {told:?}");
    audit.note(entry(1)).await.unwrap();
    assert_eq!(followed.recv().await.unwrap().mark.seq, told.mark.seq + 1);
}
