//! The clock of the engines: while guests execute, their epochs go on by one for each tick.
//!
//! A timer of the operating system ticks, and one thread waits for it. The timer is armed when a guest begins to execute
//! and disarmed when none does, so that guests that wait cost nothing, and a guest that ends within a tick wakes no thread:
//! a server with a hundred workers has a hundred of these clocks.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use wasmtime::Engine;

use super::pool::Pool;
use super::runtime::{ForeignEngines, TICK};

/// How long nobody executes before the memory that the pool keeps is given back.
const IDLE: Duration = Duration::from_secs(4);

/// The one thread that moves the engines' epochs forward.
pub struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

/// The timer, and who needs it.
struct Clock {
    timer: OwnedFd,
    /// Whether the timer runs. Changed together with the timer, in [`Self::turn`].
    armed: AtomicBool,
    /// Held for one system call.
    turn: Mutex<()>,
    /// Tasks of guests that are being polled.
    executing: AtomicUsize,
    /// How often the timer was armed.
    begun: AtomicU64,
    /// Tasks of guests.
    guests: AtomicUsize,
    stop: AtomicBool,
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// How a wait ended.
enum Waited {
    ForATick,
    /// Nothing came within the limit.
    InVain,
    Interrupted,
}

impl Clock {
    /// Starts the ticks, unless they come already.
    fn arm(&self) {
        if self.armed.load(Ordering::SeqCst) {
            return;
        }
        let _turn = self.turn.lock();
        if !self.armed.swap(true, Ordering::SeqCst) {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.set(TICK);
        }
    }

    /// Ends the ticks, unless a guest executes.
    fn disarm(&self) {
        let _turn = self.turn.lock();
        if !self.armed.swap(false, Ordering::SeqCst) {
            return;
        }
        // A guest that has begun before the line above, and so may have found the timer armed, is seen here. One that begins
        // after it waits for its turn to arm the timer.
        if self.executing.load(Ordering::SeqCst) > 0 {
            self.armed.store(true, Ordering::SeqCst);
        } else {
            self.set(Duration::ZERO);
        }
    }

    fn set(&self, interval: Duration) {
        let ticks = Itimerspec {
            it_interval: timespec(interval),
            it_value: timespec(interval),
        };
        // It fails for no timer that is open.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &ticks);
    }

    /// Waits for a tick, or for as long as `limit`.
    fn wait(&self, limit: Duration) -> Waited {
        let mut timer = [PollFd::new(&self.timer, PollFlags::IN)];
        match rustix::event::poll(&mut timer, Some(&timespec(limit))) {
            Ok(0) => Waited::InVain,
            // How many ticks have passed does not matter. There are none if the timer was disarmed meanwhile.
            Ok(_) => match rustix::io::read(&self.timer, &mut [0; 8]) {
                Ok(_) => Waited::ForATick,
                Err(_) => Waited::Interrupted,
            },
            Err(Errno::INTR) => Waited::Interrupted,
            // No such failure is known. The clock must go on.
            Err(_) => {
                std::thread::sleep(TICK);
                Waited::ForATick
            }
        }
    }
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the process has no more threads or descriptors.
    pub fn start(engines: Vec<Engine>, foreign: ForeignEngines, pool: Option<Arc<Pool>>) -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let clock = Arc::new(Clock {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            armed: AtomicBool::new(false),
            turn: Mutex::new(()),
            executing: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            guests: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&clock);
        let run = move || {
            let clock = of_thread;
            let mut seen = 0;
            while !clock.stop.load(Ordering::SeqCst) {
                match clock.wait(IDLE) {
                    Waited::ForATick => {}
                    Waited::InVain => {
                        // Guests that end within a tick leave no other trace.
                        let begun = clock.begun.load(Ordering::SeqCst);
                        if begun == seen {
                            pool.iter().for_each(|pool| pool.clear());
                        }
                        seen = begun;
                        continue;
                    }
                    Waited::Interrupted => continue,
                }
                let foreign = foreign.lock();
                for engine in engines.iter().chain(foreign.iter()) {
                    engine.increment_epoch();
                }
                drop(foreign);
                if let Some(pool) = &pool {
                    pool.engine().increment_epoch();
                }
                if clock.executing.load(Ordering::SeqCst) == 0 {
                    clock.disarm();
                }
            }
        };
        let thread = std::thread::Builder::new().name("wisp-epoch".into()).spawn(run)?;
        Ok(Self {
            clock,
            thread: Some(thread),
        })
    }

    /// The task of a guest, which the clock ticks for while it executes.
    pub fn ticked<F: Future<Output = ()>>(&self, task: F) -> impl Future<Output = ()> + use<F> {
        let guest = Guest::new(&self.clock);
        async move {
            // Dropped last.
            let guest = guest;
            let mut task = pin!(task);
            poll_fn(|context| {
                let _executing = guest.execute();
                task.as_mut().poll(context)
            })
            .await;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.stop.store(true, Ordering::SeqCst);
        // Wakes the thread.
        self.clock.set(TICK);
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; a panic in it has nothing left to harm.
            let _ = thread.join();
        }
    }
}

/// A guest, from when its task is made until it is dropped.
struct Guest(Arc<Clock>);

impl Guest {
    fn new(clock: &Arc<Clock>) -> Self {
        clock.guests.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(clock))
    }

    /// Keeps the ticks coming until the result is dropped.
    fn execute(&self) -> Executing<'_> {
        self.0.executing.fetch_add(1, Ordering::SeqCst);
        self.0.arm();
        Executing(&self.0)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.0.guests.fetch_sub(1, Ordering::SeqCst) == 1 {
            // At once, so that a guest that has ended within a tick has woken nobody.
            self.0.disarm();
        }
    }
}

/// A task is being polled.
struct Executing<'a>(&'a Clock);

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        self.0.executing.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Barrier;
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    use rustix::time::timerfd_gettime;

    use super::*;

    const ROUNDS: u32 = 50_000;

    fn is_armed(ticker: &Ticker) -> bool {
        ticker.clock.armed.load(Ordering::SeqCst)
    }

    fn ticker() -> Ticker {
        Ticker::start(Vec::new(), ForeignEngines::default(), None).unwrap()
    }

    fn poll_once(task: &mut Pin<Box<impl Future<Output = ()>>>) -> Poll<()> {
        task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn clock_ticks_while_a_guest_executes_and_stops_while_it_waits() {
        let engine = crate::new_engine().unwrap();
        let ticker = Ticker::start(vec![engine], ForeignEngines::default(), None).unwrap();
        assert!(!is_armed(&ticker));
        let mut task = Box::pin(ticker.ticked(async {
            // As a guest that computes.
            std::thread::sleep(Duration::from_millis(20));
            std::future::pending::<()>().await;
        }));
        assert!(poll_once(&mut task).is_pending());
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_armed(&ticker) {
            assert!(Instant::now() < deadline, "the clock ticks for a guest that waits");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(poll_once(&mut task).is_pending());
    }

    #[test]
    fn guest_that_ends_leaves_the_clock_disarmed_at_once() {
        let ticker = ticker();
        let clock = Arc::clone(&ticker.clock);
        let mut task = Box::pin(ticker.ticked(async { assert!(clock.armed.load(Ordering::SeqCst)) }));
        assert!(poll_once(&mut task).is_ready());
        assert!(!is_armed(&ticker));
    }

    #[test]
    fn clock_runs_on_for_one_guest_while_others_come_and_go() {
        let ticker = ticker();
        let clock = Arc::clone(&ticker.clock);
        let others = std::thread::scope(|scope| {
            let computing = scope.spawn(|| {
                let mut task = Box::pin(ticker.ticked(async { std::thread::sleep(Duration::from_millis(200)) }));
                poll_once(&mut task)
            });
            while clock.executing.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let mut others = 0;
            while !computing.is_finished() {
                let mut task = Box::pin(ticker.ticked(async {}));
                assert!(poll_once(&mut task).is_ready());
                drop(task);
                others += 1;
                let armed = is_armed(&ticker);
                assert!(armed || clock.executing.load(Ordering::SeqCst) == 0);
            }
            others
        });
        assert!(others > 0);
    }

    #[test]
    fn timer_runs_whenever_the_clock_says_that_it_is_armed() {
        let ticker = ticker();
        let clock = &ticker.clock;
        // It lives on, so that no end of a guest sets right what went wrong.
        let guest = Guest::new(clock);
        let (begin, end) = (Barrier::new(2), Barrier::new(2));
        let mut wrong = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    begin.wait();
                    clock.disarm();
                    end.wait();
                }
            });
            for round in 0..ROUNDS {
                begin.wait();
                // Each time at another moment of the other thread's call.
                (0..round % 64 * 4).for_each(|_| std::hint::spin_loop());
                drop(guest.execute());
                end.wait();
                let turn = clock.turn.lock();
                let runs = timerfd_gettime(&clock.timer).unwrap().it_interval.tv_nsec > 0;
                // A panic here would leave the other thread waiting.
                wrong += u32::from(clock.armed.load(Ordering::SeqCst) != runs);
                drop(turn);
            }
        });
        assert_eq!(wrong, 0);
    }
}
