//! Creations that wait for room.

use super::*;
use crate::config::AdmissionMode;
use crate::duration::GoDuration;
use crate::sandbox::{DenialReason, Quota};

fn queueing(max_sandboxes: usize) -> Limits {
    Limits {
        max_sandboxes,
        admission: AdmissionMode::Queue,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_creation_waits_for_room_and_the_next_one_for_its_turn() {
    let (manager, provider) = fresh(queueing(1));
    let first = create(&manager).await;
    let decision = manager.admission(&caller(), of("")).await.unwrap();
    assert_eq!((decision.allowed, decision.queueable), (false, true));
    assert_eq!(decision.reason, Some(DenialReason::MaxSandboxes));
    let waiting = |owner: &'static str| {
        let manager = manager.clone();
        tokio::spawn(async move { manager.create(&caller(), of(owner)).await })
    };
    let second = waiting("");
    eventually(|| manager.queued() == 1).await;
    let third = waiting("ann");
    eventually(|| manager.queued() == 2).await;
    manager.destroy(&caller(), &first.id).await.unwrap();
    let second = second.await.unwrap().unwrap();
    // Its time to live began when it was made, not when it was asked for.
    assert!(second.created_at >= first.created_at);
    assert_eq!((manager.queued(), third.is_finished()), (1, false));
    manager.destroy(&caller(), &second.id).await.unwrap();
    third.await.unwrap().unwrap();
    assert_eq!(provider.count(), 1);
}

#[tokio::test]
async fn a_higher_quota_lets_in_who_waits() {
    let (manager, _) = fresh(queueing(10));
    let at_most = |max| Quota {
        max_sandboxes: Some(max),
        ..Quota::default()
    };
    manager
        .set_quota(&caller(), &user("ann"), at_most(1), action())
        .await
        .unwrap();
    manager.create(&caller(), of("ann")).await.unwrap();
    let waiting = {
        let manager = manager.clone();
        tokio::spawn(async move { manager.create(&caller(), of("ann")).await })
    };
    eventually(|| manager.queued() == 1).await;
    let decision = manager.admission(&caller(), of("ann")).await.unwrap();
    assert_eq!(decision.reason, Some(DenialReason::MaxSandboxesPerOwner));
    // Others are not held up by it.
    manager.create(&caller(), of("bob")).await.unwrap();
    manager
        .set_quota(&caller(), &user("ann"), at_most(2), action())
        .await
        .unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn waiting_ends_at_the_timeout() {
    let limits = Limits {
        queue_timeout: GoDuration(Duration::from_millis(50)),
        max_queued: 1,
        ..queueing(1)
    };
    let (manager, _) = fresh(limits);
    create(&manager).await;
    let asker = caller();
    let waiting = manager.create(&asker, of(""));
    let refused = async {
        while manager.queued() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!manager.admission(&caller(), of("")).await.unwrap().queueable);
        manager.create(&caller(), of("")).await
    };
    let (waited, refused) = tokio::join!(waiting, refused);
    let message = |result: Result<SandboxView, SandboxError>| match result {
        Err(SandboxError::LimitReached(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(message(waited).contains("waited 50ms"));
    assert!(message(refused).contains("1 others wait already"));
    assert_eq!(manager.queued(), 0);
}

#[tokio::test]
async fn a_client_that_goes_and_a_server_that_stops_empty_the_queue() {
    let (manager, provider) = fresh(queueing(1));
    let first = create(&manager).await;
    let waiting = || {
        let manager = manager.clone();
        tokio::spawn(async move { manager.create(&caller(), of("")).await })
    };
    let gone = waiting();
    eventually(|| manager.queued() == 1).await;
    gone.abort();
    eventually(|| manager.queued() == 0).await;
    manager.destroy(&caller(), &first.id).await.unwrap();
    assert_eq!(provider.count(), 0);
    create(&manager).await;
    let stopped = waiting();
    eventually(|| manager.queued() == 1).await;
    manager.close();
    let refused = stopped.await.unwrap();
    assert!(matches!(refused, Err(SandboxError::ShuttingDown)), "{refused:?}");
    assert_eq!((manager.queued(), provider.count()), (0, 1));
}
