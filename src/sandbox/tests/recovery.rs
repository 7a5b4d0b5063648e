//! What a server does with what an earlier one left.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::sandbox::{ExecRequest, Recovered, SandboxState};

fn exec() -> ExecRequest {
    ExecRequest {
        command: crate::provider::Command::Shell("echo hi".to_owned()),
        env: BTreeMap::new(),
        workdir: None,
        timeout: None,
        cpu_time: None,
        fuel: None,
        stdin: crate::provider::Stdin::default(),
        held: None,
    }
}

/// Changes the database as nobody should.
fn meddle(machine: &Machine, sql: &str) {
    let db = rusqlite::Connection::open(machine.dir.path().join("wisp.db")).unwrap();
    db.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn sandboxes_survive_with_everything_that_was_said_about_them() {
    let machine = Machine::new();
    let first = machine.boot();
    let asker = Caller {
        tenant: crate::sandbox::TenantId::parse("acme").unwrap(),
        ..Caller::default()
    };
    let request = CreateRequest {
        image: Some("python:3.12".to_owned()),
        memory_mb: Some(256),
        vcpus: Some(2),
        ttl: Some(Duration::from_secs(600)),
        metadata: BTreeMap::from([("purpose".to_owned(), "test".to_owned())]),
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        owner: Some(user("ann")),
        ..CreateRequest::default()
    };
    let created = first.create(&asker, request).await.unwrap();
    let extended = first
        .extend(&asker, &created.id, Duration::from_secs(3600))
        .await
        .unwrap();
    assert!(extended.expires_at > created.expires_at);
    let second = machine.boot();
    let found = second.recover().await.unwrap();
    assert_eq!(
        found,
        Recovered {
            recovered: 1,
            in_error: 0,
            removed: 0
        }
    );
    let recovered = second.get(&asker, &created.id).unwrap();
    assert_eq!(format!("{recovered:?}"), format!("{extended:?}"));
    assert!(second.exec(&asker, &created.id, exec()).await.is_ok());
    let stranger = second.get(&caller(), &created.id);
    assert!(matches!(stranger, Err(SandboxError::NotFound(_))));
    assert_eq!(second.quota_usage(&asker, &user("ann")).unwrap().active_sandboxes, 1);
    second.destroy(&asker, &created.id).await.unwrap();
    assert_eq!(machine.provider.count(), 0);
    assert_eq!(machine.boot().recover().await.unwrap(), Recovered::default());
}

#[tokio::test]
async fn expired_and_orphaned_sandboxes_are_removed() {
    let machine = Machine::new();
    let first = machine.boot();
    create(&first).await;
    let request = CreateRequest {
        ttl: Some(Duration::from_millis(1)),
        ..CreateRequest::default()
    };
    // Gone before it can be looked at, perhaps.
    let _ = first.create(&caller(), request).await;
    machine
        .provider
        .create("default", "sb_orphan", &create(&first).await.spec)
        .await
        .unwrap();
    assert_eq!(machine.provider.count(), 4);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let second = machine.boot();
    let found = second.recover().await.unwrap();
    assert_eq!((found.recovered, found.in_error), (2, 0));
    assert_eq!(machine.provider.count(), 2);
    assert_eq!(machine.store().sandboxes().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_that_cannot_be_brought_back_is_an_error_and_the_others_are_not() {
    let machine = Machine::new();
    let first = machine.boot();
    let (good, lost, damaged) = (create(&first).await, create(&first).await, create(&first).await);
    machine.provider.lose(lost.id.as_str());
    machine.provider.damaged.lock().insert(damaged.id.to_string());
    let second = machine.boot();
    let found = second.recover().await.unwrap();
    assert_eq!((found.recovered, found.in_error, found.removed), (1, 2, 0));
    assert_eq!(second.get(&caller(), &good.id).unwrap().state, SandboxState::Running);
    for (id, reason) in [(&lost.id, "lost it"), (&damaged.id, "could not be brought back")] {
        let shown = second.get(&caller(), id).unwrap();
        assert_eq!(shown.state, SandboxState::Error);
        let error = shown.error.unwrap();
        assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        let refused = second.exec(&caller(), id, exec()).await.err().unwrap();
        assert!(matches!(refused, SandboxError::Unusable { .. }), "{refused}");
        assert!(second.extend(&caller(), id, Duration::from_secs(60)).await.is_err());
    }
    // What is left of it is kept for whoever wants to look into it, until it is destroyed.
    assert!(machine.provider.ids().contains(damaged.id.as_str()));
    second.destroy(&caller(), &lost.id).await.unwrap();
    second.destroy(&caller(), &damaged.id).await.unwrap();
    assert_eq!(second.list(&caller()).await.len(), 1);
    assert_eq!(machine.provider.count(), 1);
    assert_eq!(machine.store().sandboxes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_record_harms_no_other() {
    let machine = Machine::new();
    let first = machine.boot();
    let (good, spec, tenant, foreign) = (
        create(&first).await,
        create(&first).await,
        create(&first).await,
        create(&first).await,
    );
    meddle(
        &machine,
        &format!(
            "UPDATE sandboxes SET spec = '{{\"image\":' WHERE id = '{}';
             UPDATE sandboxes SET tenant = 'a b' WHERE id = '{}';
             UPDATE sandboxes SET provider = 'firecracker' WHERE id = '{}';
             INSERT INTO sandboxes SELECT '../etc', tenant, owner, provider, spec, metadata, created_at, expires_at
                 FROM sandboxes WHERE id = '{}'",
            spec.id, tenant.id, foreign.id, good.id
        ),
    );
    let second = machine.boot();
    let found = second.recover().await.unwrap();
    assert_eq!((found.recovered, found.in_error), (1, 4));
    assert_eq!(second.get(&caller(), &good.id).unwrap().state, SandboxState::Running);
    let error = |view: SandboxView| {
        assert_eq!(view.state, SandboxState::Error);
        view.error.unwrap()
    };
    let shown = error(second.get(&caller(), &spec.id).unwrap());
    assert!(shown.contains("specification"), "{shown}");
    let shown = error(second.get(&caller(), &foreign.id).unwrap());
    assert!(shown.contains("no provider firecracker"), "{shown}");
    // Whose it is cannot be told, so nobody but an administrator sees it.
    assert!(second.get(&caller(), &tenant.id).is_err());
    let admin = Caller {
        all_tenants: true,
        ..Caller::default()
    };
    assert!(error(second.get(&admin, &tenant.id).unwrap()).contains("tenant"));
    for view in second.list(&admin).await {
        second.destroy(&admin, &view.id).await.unwrap();
    }
    let left = machine.store().sandboxes().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].id, "../etc");
}

#[tokio::test]
async fn sandboxes_of_a_provider_that_is_away_come_back_with_it() {
    let machine = Machine::new();
    let engine = Arc::new(FakeProvider::named("docker"));
    let first = machine.boot_with(Limits::default(), vec![engine.clone()]);
    let near = create(&first).await;
    let on_docker = || CreateRequest {
        provider: Some("docker".to_owned()),
        ..CreateRequest::default()
    };
    let kept = first.create(&caller(), on_docker()).await.unwrap();
    let unwanted = first.create(&caller(), on_docker()).await.unwrap();
    engine.create("default", "sb_orphan", &kept.spec).await.unwrap();

    engine.away.store(true, Ordering::SeqCst);
    let second = machine.boot_with(Limits::default(), vec![engine.clone()]);
    let found = second.recover().await.unwrap();
    assert_eq!((found.recovered, found.in_error), (1, 2));
    assert_eq!(second.get(&caller(), &near.id).unwrap().state, SandboxState::Running);
    create(&second).await;
    let shown = second.get(&caller(), &kept.id).unwrap();
    assert!(shown.error.unwrap().contains("docker cannot be reached"));
    let refused = second.exec(&caller(), &kept.id, exec()).await.err().unwrap();
    assert!(matches!(refused, SandboxError::Waiting { .. }), "{refused}");
    // One made now would look like nobody's once the provider is back.
    assert!(second.create(&caller(), on_docker()).await.is_err());
    assert!(second.destroy(&caller(), &unwanted.id).await.is_err());
    assert!(second.get(&caller(), &unwanted.id).is_err());

    engine.away.store(false, Ordering::SeqCst);
    eventually(|| {
        let view = second.get(&caller(), &kept.id);
        view.is_ok_and(|view| view.state == SandboxState::Running)
    })
    .await;
    assert!(!engine.ids().contains("sb_orphan"));
    second.create(&caller(), on_docker()).await.unwrap();
    assert!(second.exec(&caller(), &kept.id, exec()).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_hold_up_the_start() {
    let machine = Machine::new();
    let engine = Arc::new(FakeProvider::named("docker"));
    let first = machine.boot_with(Limits::default(), vec![engine.clone()]);
    let near = create(&first).await;
    let on_docker = CreateRequest {
        provider: Some("docker".to_owned()),
        ..CreateRequest::default()
    };
    let far = first.create(&caller(), on_docker).await.unwrap();
    engine.hangs.store(true, Ordering::SeqCst);
    let second = machine.boot_with(Limits::default(), vec![engine.clone()]);
    let started = Instant::now();
    let found = second.recover().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!((found.recovered, found.in_error), (1, 1));
    assert_eq!(second.get(&caller(), &near.id).unwrap().state, SandboxState::Running);
    engine.hangs.store(false, Ordering::SeqCst);
    eventually(|| {
        let view = second.get(&caller(), &far.id);
        view.is_ok_and(|view| view.state == SandboxState::Running)
    })
    .await;
}

#[tokio::test]
async fn work_that_finishes_after_its_server_died_is_removed_later() {
    let machine = Machine::new();
    let kept = create(&machine.boot()).await;
    let second = machine.boot();
    second.recover().await.unwrap();
    *machine.provider.late.lock() = ["sb_late".to_owned(), kept.id.to_string()].into();
    create(&second).await;
    eventually(|| !machine.provider.late.lock().contains("sb_late")).await;
    assert!(machine.provider.late.lock().contains(kept.id.as_str()));
    assert_eq!(second.list(&caller()).await.len(), 2);
}

#[tokio::test]
async fn a_store_that_cannot_write_refuses_creations_and_leaves_the_rest_alone() {
    let machine = Machine::new();
    let manager = machine.boot();
    let before = create(&manager).await;
    meddle(
        &machine,
        "CREATE TRIGGER full BEFORE INSERT ON sandboxes BEGIN SELECT RAISE(FAIL, 'disk full'); END",
    );
    let refused = manager.create(&caller(), CreateRequest::default()).await;
    assert!(matches!(refused, Err(SandboxError::Store(_))), "{refused:?}");
    assert_eq!(machine.provider.count(), 1);
    assert_eq!(manager.list(&caller()).await.len(), 1);
    assert!(manager.exec(&caller(), &before.id, exec()).await.is_ok());
    meddle(
        &machine,
        "DROP TRIGGER full;
         CREATE TRIGGER full BEFORE DELETE ON sandboxes BEGIN SELECT RAISE(FAIL, 'disk full'); END",
    );
    // What it holds may be what fills the disk.
    assert!(manager.destroy(&caller(), &before.id).await.is_err());
    assert!(manager.get(&caller(), &before.id).is_err());
    assert_eq!(machine.provider.count(), 0);
    meddle(&machine, "DROP TRIGGER full");
    while manager.count_on(&caller(), "wasm").await > 0 {
        manager.sweep().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(machine.store().sandboxes().await.unwrap(), []);
}

#[tokio::test]
async fn quotas_survive() {
    let machine = Machine::new();
    let first = machine.boot();
    let quota = crate::sandbox::Quota {
        max_sandboxes: Some(1),
        max_ttl: Some(Duration::from_secs(60)),
        max_exec_timeout: None,
    };
    first.set_quota(&caller(), &user("ann"), quota, action()).await.unwrap();
    let set = first.set_quota(&caller(), &user("ann"), quota, action()).await.unwrap();
    let second = machine.boot();
    second.recover().await.unwrap();
    assert_eq!(second.quotas(&caller()), [set]);
    second.create(&caller(), of("ann")).await.unwrap();
    assert!(second.create(&caller(), of("ann")).await.is_err());
}
