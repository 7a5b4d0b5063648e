//! What each owner may use.

use super::*;
use crate::provider::{Command, Stdin};
use crate::sandbox::{DenialReason, ExecRequest, Quota, QuotaSummary, TenantId};

fn at_most(max_sandboxes: usize) -> Quota {
    Quota {
        max_sandboxes: Some(max_sandboxes),
        ..Quota::default()
    }
}

fn limited(error: Result<impl Sized, SandboxError>) -> String {
    match error.err() {
        Some(SandboxError::LimitReached(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_creations_at_once_do_not_pass_a_limit() {
    let limits = Limits {
        max_sandboxes: 30,
        ..Limits::default()
    };
    let (manager, provider) = fresh(limits);
    manager
        .set_quota(&caller(), &user("ann"), at_most(10), action())
        .await
        .unwrap();
    let creations = |owner: &'static str| {
        let manager = manager.clone();
        (0..100).map(move |_| {
            let manager = manager.clone();
            tokio::spawn(async move { manager.create(&caller(), of(owner)).await.is_ok() })
        })
    };
    let anns: Vec<_> = creations("ann").collect();
    let made = futures_util::future::join_all(anns).await;
    assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 10);
    let others: Vec<_> = creations("").collect();
    let made = futures_util::future::join_all(others).await;
    assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 20);
    assert_eq!(provider.count(), 30);
}

#[tokio::test]
async fn a_quota_holds_for_its_owner_in_its_tenant_only() {
    let (manager, _) = fresh(Limits::default());
    manager
        .set_quota(&caller(), &user("ann"), at_most(1), action())
        .await
        .unwrap();
    let first = manager.create(&caller(), of("ann")).await.unwrap();
    let message = limited(manager.create(&caller(), of("ann")).await);
    assert!(
        message.contains("owner ann") && message.contains("at most 1"),
        "{message}"
    );
    manager.create(&caller(), of("bob")).await.unwrap();
    manager.create(&caller(), of("")).await.unwrap();
    let elsewhere = Caller {
        tenant: TenantId::parse("acme").unwrap(),
        ..Caller::default()
    };
    manager.create(&elsewhere, of("ann")).await.unwrap();
    manager.create(&elsewhere, of("ann")).await.unwrap();
    assert!(manager.quotas(&elsewhere).is_empty());
    assert!(manager.quota(&elsewhere, &user("ann")).is_err());
    // The header counts like the field.
    let ann = Caller {
        user: Some(user("ann")),
        ..Caller::default()
    };
    limited(manager.create(&ann, of("bob")).await);
    manager.destroy(&caller(), &first.id).await.unwrap();
    manager.create(&caller(), of("ann")).await.unwrap();
    manager.delete_quota(&caller(), &user("ann"), action()).await.unwrap();
    manager.create(&caller(), of("ann")).await.unwrap();
    assert!(manager.delete_quota(&caller(), &user("ann"), action()).await.is_err());
}

#[tokio::test]
async fn who_is_narrowed_to_a_user_sees_that_users_quota_only() {
    let (manager, _) = fresh(Limits::default());
    for owner in ["ann", "bob"] {
        manager
            .set_quota(&caller(), &user(owner), at_most(1), action())
            .await
            .unwrap();
    }
    let ann = Caller {
        user: Some(user("ann")),
        ..Caller::default()
    };
    assert_eq!(manager.quotas(&ann).len(), 1);
    assert!(manager.quota(&ann, &user("bob")).is_err());
    assert!(manager.quota_usage(&ann, &user("bob")).is_err());
    assert!(
        manager
            .set_quota(&ann, &user("bob"), at_most(5), action())
            .await
            .is_err()
    );
    assert!(manager.delete_quota(&ann, &user("bob"), action()).await.is_err());
    assert_eq!(manager.quotas(&caller()).len(), 2);
}

#[tokio::test]
async fn times_are_held_by_the_quota() {
    let (manager, _) = fresh(Limits::default());
    let minute = Duration::from_secs(60);
    let quota = Quota {
        max_sandboxes: None,
        max_ttl: Some(minute),
        max_exec_timeout: Some(Duration::from_secs(1)),
    };
    manager
        .set_quota(&caller(), &user("ann"), quota, action())
        .await
        .unwrap();
    let long = CreateRequest {
        ttl: Some(2 * minute),
        ..of("ann")
    };
    assert!(limited(manager.create(&caller(), long.clone()).await).contains("at most 1m0s"));
    let denied = manager.admission(&caller(), long).await.unwrap();
    assert_eq!((denied.allowed, denied.reason), (false, Some(DenialReason::MaxTtl)));
    assert_eq!(denied.max_ttl.0, minute);
    // Without a wish of their own, the quota is the default.
    let sandbox = manager.create(&caller(), of("ann")).await.unwrap();
    assert_eq!(sandbox.expires_at.duration_since(sandbox.created_at).unwrap(), minute);
    let extended = manager.extend(&caller(), &sandbox.id, 10 * minute).await.unwrap();
    let left = extended
        .expires_at
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(left <= minute, "{left:?}");
    let exec = |timeout: Option<Duration>| ExecRequest {
        command: Command::Shell("echo".to_owned()),
        env: std::collections::BTreeMap::new(),
        workdir: None,
        timeout,
        cpu_time: None,
        fuel: None,
        stdin: Stdin::default(),
        held: None,
    };
    limited(manager.exec(&caller(), &sandbox.id, exec(Some(minute))).await);
    assert!(manager.exec(&caller(), &sandbox.id, exec(None)).await.is_ok());
}

#[tokio::test]
async fn usage_and_summary_tell_what_holds() {
    let limits = Limits {
        max_sandboxes_per_owner: 7,
        ..Limits::default()
    };
    let (manager, _) = fresh(limits);
    let usage = manager.quota_usage(&caller(), &user("ann")).unwrap();
    assert_eq!((usage.active_sandboxes, usage.configured), (0, false));
    assert_eq!(usage.effective.max_sandboxes, Some(7));
    assert_eq!(usage.effective.max_ttl, Some(Duration::from_secs(24 * 3600)));
    let quota = Quota {
        max_ttl: Some(Duration::from_secs(5)),
        ..at_most(2)
    };
    manager
        .set_quota(&caller(), &user("ann"), quota, action())
        .await
        .unwrap();
    manager
        .set_quota(&caller(), &user("bob"), Quota::default(), action())
        .await
        .unwrap();
    manager.create(&caller(), of("ann")).await.unwrap();
    let usage = manager.quota_usage(&caller(), &user("ann")).unwrap();
    assert_eq!((usage.active_sandboxes, usage.configured), (1, true));
    assert_eq!(usage.effective.max_sandboxes, Some(2));
    assert_eq!(usage.effective.max_ttl, Some(Duration::from_secs(5)));
    let expected = QuotaSummary {
        total: 2,
        with_max_sandboxes: 1,
        with_max_ttl: 1,
        with_max_exec_timeout: 0,
    };
    assert_eq!(manager.quota_summary(&caller()), expected);
}
