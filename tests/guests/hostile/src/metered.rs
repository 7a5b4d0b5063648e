//! Programs whose fuel is counted. Run by `tests/fuel.rs`.

use std::hint::black_box;

use guests::{
    ANY, IGNORE, ROOT, SIGKILL, Start, Status, call, close, fork, kill, mkdir, pipe, read, sigaction, sleep, wait,
    write,
};

use crate::costly::size;
use crate::{say, spin};

/// Stages of a pipeline.
const STAGES: usize = 8;

/// Runs the program of this name; false if there is none.
pub fn run(name: &str) -> bool {
    match name {
        "work" => work(),
        "children-in-turn" => {
            for _ in 0..3 {
                finish(Start::role("work"));
            }
            fork(work, &[]).expect("forking");
            wait(ANY, 0).expect("waiting");
        }
        "children-at-once" => {
            let started = (0..4).map(|_| Start::role("work").spawn().expect("spawning"));
            let started: Vec<u32> = started.collect();
            for child in started {
                wait(child as i32, 0).expect("waiting");
            }
        }
        "replaced" => {
            work();
            panic!("not replaced: {:?}", Start::role("work").exec());
        }
        "work-and-yield" => {
            for _ in 0..20 {
                work();
                call!(preview1::sched_yield()).expect("yielding");
            }
        }
        "child-before-work" => {
            finish(Start::role("work"));
            for _ in 0..20 {
                work();
            }
            // A call that does not wait: nothing looks at the fuel before it.
            mkdir(ROOT, "tmp/reached").expect("a directory");
        }
        "fill-and-copy" => fill_and_copy(size(1) << 20),
        "say-for-ever" => {
            for line in 0u64.. {
                work();
                say(&line.to_string());
            }
        }
        "children-for-ever" => loop {
            finish(Start::role("work"));
            say("a child has ended");
        },
        "ignore-signals" => {
            for signal in (1..32).filter(|signal| ![SIGKILL, 19].contains(signal)) {
                sigaction(signal, IGNORE).expect("ignoring");
            }
            spin();
        }
        "pipeline" => pipeline(),
        "pass-on" => pass_on(),
        "kill-child" => kill_child(300),
        "kill-children" => loop {
            kill_child(2);
        },
        "leave-and-succeed" => {
            Start::role("ignore-signals").new_group().spawn().expect("spawning");
            say("started");
        }
        _ => return false,
    }
    true
}

/// The same instructions each time.
fn work() {
    let mut sum = 0u32;
    for number in 0..10_000u32 {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
    }
    black_box(sum);
}

fn finish(child: Start) {
    assert_eq!(child.run(), Ok(Status::Exited(0)));
}

/// Starts a process that computes, and kills it after a while.
fn kill_child(after_ms: u64) {
    let child = fork(spin, &[]).expect("forking");
    sleep(after_ms);
    kill(child as i32, SIGKILL).expect("killing");
    wait(child as i32, 0).expect("waiting");
}

/// Fills memory and copies it, once each.
fn fill_and_copy(bytes: usize) {
    let mut memory = vec![0u8; 2 * bytes];
    let (low, high) = memory.split_at_mut(bytes);
    black_box(&mut *low).fill(black_box(1));
    black_box(&mut *high).copy_from_slice(black_box(low));
    black_box(&memory);
}

/// Many processes that pass bytes on for ever.
fn pipeline() {
    let (first, mut from) = pipe().expect("a pipe");
    let feed = from;
    from = first;
    for _ in 0..STAGES {
        let (reader, writer) = pipe().expect("a pipe");
        Start::role("pass-on")
            .descriptor(0, from)
            .descriptor(1, writer)
            .spawn()
            .expect("spawning");
        close(writer).expect("closing");
        from = reader;
    }
    let bytes = [b'x'; 512];
    loop {
        write(feed, &bytes).expect("writing");
        read(from, 512).expect("reading");
    }
}

/// A stage of [`pipeline`].
fn pass_on() {
    loop {
        let bytes = read(0, 512).expect("reading");
        if bytes.is_empty() {
            return;
        }
        write(1, &bytes).expect("writing");
    }
}
