//! Many sandboxes, looked at while they change.

use super::*;

#[tokio::test]
async fn listing_of_many_sandboxes_shows_each_once_and_oldest_first() {
    let (manager, _) = fresh(Limits {
        max_sandboxes: 10_000,
        max_total_memory_mb: Some(0),
        max_total_disk_mb: Some(0),
        ..Limits::default()
    });
    let mut ids = Vec::new();
    for _ in 0..3000 {
        ids.push(create(&manager).await.id);
    }
    let listed: Vec<_> = manager.list(&caller()).await.into_iter().map(|view| view.id).collect();
    assert!(listed == ids);
    // Those that end while the list is told are left out, and nothing else is.
    let mut listing = manager.listing(&caller());
    let first = listing.next().await.unwrap().id;
    manager.destroy(&caller(), &ids[1]).await.unwrap();
    manager.destroy(&caller(), &ids[2500]).await.unwrap();
    let mut rest = Vec::new();
    while let Some(view) = listing.next().await {
        rest.push(view.id);
    }
    assert_eq!((first, rest.len()), (ids[0].clone(), 2997));
    let mut paged = Vec::new();
    loop {
        let page = manager.page(&caller(), paged.last().cloned(), 700).await;
        paged.extend(page.views.into_iter().map(|view| view.id));
        if !page.more {
            break;
        }
    }
    assert_eq!(paged.len(), 2998);
    assert!(paged.is_sorted());
    let counts = manager.counts().await;
    assert_eq!(counts.iter().map(|count| count.count).sum::<usize>(), 2998);
}
