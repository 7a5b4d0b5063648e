//! Attacks of all groups at random, several at once, on one server for a long time.
//!
//! `HOSTILE_MIXED_SECONDS=7200 cargo test --release --test hostile` runs this alone. What each attack achieves is not
//! judged here, because they disturb each other. What must hold: the bystander's answers are right all the time, the
//! server lives and does not panic, and its memory comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::attack::Attack;
use crate::bounds;
use crate::measure::{LONGEST, act, until_given_back};
use crate::probe::Probe;
use crate::scene::{Scene, Stage, TOKIO};

/// Attacks that run at once.
const LANES: u64 = 3;
/// How often the figures so far are printed.
const REPORT: Duration = Duration::from_secs(300);

/// How long to go on, if the mixed form is asked for.
pub fn time() -> Option<Duration> {
    let seconds = std::env::var("HOSTILE_MIXED_SECONDS").ok()?;
    Some(Duration::from_secs_f64(
        seconds.parse().expect("HOSTILE_MIXED_SECONDS is a number"),
    ))
}

/// Mixes the attacks for `time` and judges what they leave.
pub fn run(stage: &Stage, attacks: &Arc<Vec<Attack>>, time: Duration) -> Result<(), Failed> {
    let scene = stage.scene();
    let fresh = scene.private_kib();
    let health = Probe::of_health(scene.address);
    let bystander = Probe::of_bystander(scene.address, &scene.key_b, scene.bystander.clone());
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (scene, attacks, done) = (Arc::clone(&scene), Arc::clone(attacks), Arc::clone(&done));
            TOKIO.spawn(async move {
                let mut random = 0x9e37_79b9_7f4a_7c15 * (lane + 1);
                while started.elapsed() < time {
                    let attack = &attacks[pick(&mut random, attacks.len())];
                    let doing = tokio::spawn(act(Arc::clone(&scene), attack));
                    // One that panics has met with what another did to the same tenant.
                    let _ = tokio::time::timeout(LONGEST, doing).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut peak = 0;
    let mut reported = Instant::now();
    while started.elapsed() < time {
        std::thread::sleep(Duration::from_secs(1));
        let now = scene.private_kib();
        peak = peak.max(now);
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            println!(
                "{:.0?}: {} attacks, private memory {} MiB, peak {} MiB",
                started.elapsed(),
                done.load(Ordering::Relaxed),
                now >> 10,
                peak >> 10
            );
        }
    }
    for lane in lanes {
        TOKIO.block_on(lane).expect("a lane does not panic");
    }
    let (bystander, health) = (bystander.stop(), health.stop());
    destroy_all(&scene);
    let bounds = bounds::Bounds::get();
    let settled = Instant::now();
    let left = until_given_back(&scene, fresh + (bounds.kept_mib << 10), bounds.back_within);
    println!(
        "mixed: {} attacks in {:.0?}; bystander p99 {:.1?} max {:.0?}, /health max {:.0?}; private memory fresh {} MiB, \
         peak {} MiB, left {} MiB after {:.1?}",
        done.load(Ordering::Relaxed),
        started.elapsed(),
        bystander.quantile(0.99),
        bystander.max(),
        health.max(),
        fresh >> 10,
        peak >> 10,
        left >> 10,
        settled.elapsed()
    );
    println!("private memory of each process, KiB: {:?}", scene.private_kib_of_each());
    for latencies in [bystander, health] {
        if let Some(what) = latencies.wrong {
            return Err(format!("a wrong answer: {what}").into());
        }
    }
    if scene.log().contains("panicked") {
        return Err("the server panicked".into());
    }
    if left > fresh + (bounds.kept_mib << 10) {
        return Err(format!("{} MiB stayed, over {}", (left - fresh) >> 10, bounds.kept_mib).into());
    }
    Ok(())
}

/// Removes the sandboxes that attacks which were cut off have left, all but the one that requests name.
fn destroy_all(scene: &Scene) {
    TOKIO.block_on(async {
        loop {
            let listed = scene.a.get("/sandboxes?limit=100").await;
            let sandboxes = listed.json().as_array().cloned().unwrap_or_default();
            let ids: Vec<String> = sandboxes
                .iter()
                .filter_map(|sandbox| sandbox["id"].as_str().map(str::to_owned))
                .filter(|id| id != scene.named_id())
                .collect();
            if ids.is_empty() {
                return;
            }
            for id in ids {
                scene.a.delete(&format!("/sandboxes/{id}")).await;
            }
        }
    });
}

/// A number below `end` (xorshift64).
fn pick(random: &mut u64, end: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    usize::try_from(*random >> 16).unwrap_or_default() % end
}
