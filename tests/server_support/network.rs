//! A network of its own for a test that cannot choose its port.
#![expect(unsafe_code, reason = "there is no safe call that enters a network namespace")]

use std::fs::File;
use std::io;
use std::net::TcpListener;

/// Holds a port for one test.
pub struct Port {
    /// The lock between tests, where they share the machine's network.
    _lock: Option<File>,
}

/// Reserves a port of the loopback address for the calling test. As root the thread, and all threads and processes it
/// starts from then on, move to a new network namespace, where every port is free. Others share the machine's ports:
/// tests take turns, and a port that another program holds fails the test with a message that says so.
#[track_caller]
pub fn reserve(port: u16) -> Port {
    if rustix::process::geteuid().is_root() {
        enter_namespace().expect("root enters a new network namespace");
        return Port { _lock: None };
    }
    let path = std::env::temp_dir().join(format!("wisp-test-port-{port}.lock"));
    let lock = File::create(path).expect("a lock file");
    lock.lock().expect("the lock");
    if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
        panic!(
            "this test needs port {port}: {error}. Stop the program that listens there (a `wisp serve`?), or run the \
             tests as root: then this test has a network of its own"
        );
    }
    Port { _lock: Some(lock) }
}

/// Moves the calling thread to a new network namespace whose loopback interface is up.
fn enter_namespace() -> io::Result<()> {
    let check = |result: libc::c_int| {
        if result == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    // SAFETY: the call takes no pointers, and this flag changes nothing but the network of this thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // SAFETY: an `ifreq` of zeros is valid; it is plain data.
    let mut loopback: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in loopback.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    loopback.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the descriptor is an open socket, and the pointer is to an `ifreq` that lives longer than the call.
    check(unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS,
            &raw const loopback,
        )
    })?;
    Ok(())
}
