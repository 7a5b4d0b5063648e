//! Holds a thread of another process, as a debugger does.

#![expect(unsafe_code, reason = "there is no safe way to be a debugger")]

use std::ptr;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Holds a thread until its process ends. Returns once it is held; the handle tells whether it was to the end.
pub fn hold(thread: i32) -> JoinHandle<bool> {
    let (held, is_held) = mpsc::channel();
    // All that a debugger does is done by one thread.
    let holding = std::thread::spawn(move || {
        let nothing = ptr::null_mut::<libc::c_void>();
        let mut status = 0;
        // SAFETY: the calls take numbers, and a place for a status that lives long enough.
        unsafe {
            assert_eq!(
                libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing),
                0,
                "it cannot be debugged"
            );
            assert_eq!(
                libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing),
                0,
                "it cannot be stopped"
            );
            assert_eq!(libc::waitpid(thread, &raw mut status, libc::__WALL), thread);
            assert!(libc::WIFSTOPPED(status), "{status:#x}");
            held.send(()).expect("somebody waits");
            // A thread that is held ends with its process, and stays until its debugger has seen that.
            libc::waitpid(thread, &raw mut status, libc::__WALL) == thread && !libc::WIFSTOPPED(status)
        }
    });
    is_held.recv().expect("the thread is held");
    holding
}
