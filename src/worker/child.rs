//! The life of a worker: `wisp worker`, a process that runs the sandboxes of one tenant.
//!
//! It begins with one thread and whatever rights the server has. It loads its images, waits for its assignment, gives up
//! all rights it does not need ([`super::confine`]), and only then starts threads and listens to anybody's guests.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::confine;
use super::protocol::{FromWorker, MAX_CALL_BYTES, ProtocolError, ToWorker, encode, read_blocking};
use super::serve;
use crate::image::ImageStore;
use crate::kernel::{Runtime, give_memory_back};
use crate::provider::wasm::{PreloadedImages, WasmProvider};
use crate::vfs;

/// How often the watchdog looks.
const LOOK: Duration = Duration::from_millis(100);
/// How often, at most, memory that was freed is given back to the system.
const TRIM: Duration = Duration::from_secs(2);
/// How long a process may execute without a break after it was killed.
const UNSTOPPABLE: Duration = Duration::from_millis(250);
/// Exit status of a worker whose watchdog ended it: that of a software error in sysexits.h.
const GAVE_UP: i32 = 70;

/// What the server starts a worker with.
#[derive(Debug, Clone)]
pub struct WorkerArgs {
    /// The directory of the image store.
    pub cache: PathBuf,
    /// Names of the images to load.
    pub images: Vec<String>,
    /// Whether execs may have a budget of fuel.
    pub counts_fuel: bool,
    /// The server's process.
    pub parent: u32,
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The server's end of the connection.
    #[error("the connection to the server failed")]
    Protocol(#[from] ProtocolError),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] crate::kernel::RuntimeError),
    /// The images.
    #[error("{0}")]
    Images(String),
    /// It could not be confined.
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
}

/// Runs a worker on the connection that is its standard input. To be called before there are other threads.
///
/// # Errors
/// When the server goes, or the worker cannot be what the server wants.
pub fn run(args: &WorkerArgs) -> Result<(), WorkerError> {
    confine::prefer_to_be_killed();
    vfs::free_on_this_thread(true);
    let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = Runtime::without_threads(args.counts_fuel)?;
    let store = Arc::new(ImageStore::open(&args.cache).map_err(images)?);
    let preloaded = PreloadedImages::load(&runtime, &store, &args.images);
    drop(store);
    let loaded = FromWorker::Loaded {
        images: preloaded.identities(),
    };
    stream.write_all(&encode(&loaded)?)?;
    let ToWorker::Assign(assignment) = read_blocking(&mut stream, MAX_CALL_BYTES)? else {
        return Err(ProtocolError::Unexpected("no assignment").into());
    };
    // tokio makes a pair of sockets for signals with its first runtime, and sockets are out of reach afterwards.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    // rustix looks the page size up once, in a file that is out of reach afterwards.
    let _ = rustix::param::page_size();
    let confinement = confine::confine(&assignment, args.parent)?;
    vfs::free_on_this_thread(false);
    runtime.start(assignment.guest_threads)?;
    stream.write_all(&encode(&FromWorker::Ready { confinement })?)?;
    // The directory of the sandboxes is the working directory by now; its own path may be out of reach.
    let provider =
        WasmProvider::of_images(Arc::clone(&runtime), preloaded).keeping_files_in(PathBuf::from("."), assignment.fsync);
    // One thread, this one: what is passed between its tasks wakes no other thread. Work on files that may take long has
    // threads of its own, and guests have theirs.
    let conversation = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provider = Arc::new(provider);
    watch(Arc::clone(&provider))?;
    stream.set_nonblocking(true)?;
    let result = conversation.block_on(serve::serve(stream, provider, runtime));
    // Nothing is worth waiting for: what was acknowledged is on the disk.
    conversation.shutdown_background();
    Ok(result?)
}

/// Ends the worker when a process cannot be killed, because a host call it is in does not return: better all sandboxes of
/// a tenant come back a moment later than a deadline that does not hold. Gives memory back in between.
fn watch(provider: Arc<WasmProvider>) -> Result<(), std::io::Error> {
    let watching = move || {
        // Seen twice: this process may itself have been kept from executing.
        let mut seen = false;
        let (mut trimmed, mut calls) = (Instant::now(), 0);
        loop {
            std::thread::sleep(LOOK);
            // What calls have freed stays in the allocator's arenas otherwise.
            if trimmed.elapsed() >= TRIM && calls != serve::calls_so_far() {
                calls = serve::calls_so_far();
                give_memory_back();
                trimmed = Instant::now();
            }
            let before = std::mem::replace(&mut seen, provider.has_unstoppable(UNSTOPPABLE));
            if seen && before {
                tracing::error!("a process that was killed does not end; the worker gives up");
                std::process::exit(GAVE_UP);
            }
        }
    };
    std::thread::Builder::new()
        .name("wisp-watchdog".to_owned())
        .spawn(watching)?;
    Ok(())
}

fn images(error: crate::image::ImageError) -> WorkerError {
    WorkerError::Images(error.to_string())
}
