//! The devices of `/dev`.

use super::errno::Errno;
use wisp_vfs::{self as vfs, Fs, NodeKind, ROOT};

/// A character device, identified in the file system by its Linux device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
    /// `/dev/full`.
    Full,
    /// `/dev/random` and `/dev/urandom`.
    Random,
    /// `/dev/tty`: there is no terminal.
    Tty,
    /// `/dev/wisp`: kernel calls for programs that cannot import them ([`super::control_file`]).
    Control,
}

/// Name under `/dev`, device, Linux device number (major << 8 | minor).
const DEVICES: [(&str, Device, u32); 7] = [
    ("null", Device::Null, 1 << 8 | 3),
    ("zero", Device::Zero, 1 << 8 | 5),
    ("full", Device::Full, 1 << 8 | 7),
    ("random", Device::Random, 1 << 8 | 8),
    ("urandom", Device::Random, 1 << 8 | 9),
    ("tty", Device::Tty, 5 << 8),
    // 60 is a major number reserved for local use.
    ("wisp", Device::Control, 60 << 8),
];

impl Device {
    /// The device with this number.
    pub fn from_number(rdev: u32) -> Option<Self> {
        DEVICES
            .iter()
            .find(|(_, _, number)| *number == rdev)
            .map(|(_, device, _)| *device)
    }

    /// Reads from the device.
    pub fn read(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Null | Self::Control => return Ok(0),
            Self::Zero | Self::Full => buffer.fill(0),
            Self::Random => getrandom::fill(buffer).map_err(|_| Errno::Io)?,
            Self::Tty => return Err(Errno::Nxio),
        }
        Ok(buffer.len())
    }

    /// Writes to the device.
    pub fn write(self, len: usize) -> Result<usize, Errno> {
        match self {
            Self::Full => Err(Errno::Nospc),
            Self::Tty => Err(Errno::Nxio),
            Self::Null | Self::Zero | Self::Random | Self::Control => Ok(len),
        }
    }
}

/// Puts `/dev` into a file system that is becoming an image.
pub fn install(fs: &Fs) -> Result<(), vfs::PathError> {
    fs.create_dir_all(ROOT, b"/dev", 0o755)?;
    for (name, _, rdev) in DEVICES {
        fs.mknod(ROOT, format!("/dev/{name}").as_bytes(), NodeKind::Device(rdev), 0o666)?;
    }
    for (fd, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        fs.symlink(
            format!("/dev/fd/{fd}").as_bytes(),
            ROOT,
            format!("/dev/{name}").as_bytes(),
        )?;
    }
    fs.create_dir_all(ROOT, b"/dev/shm", 0o1777)?;
    Ok(())
}
