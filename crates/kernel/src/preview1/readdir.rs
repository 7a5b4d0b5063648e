//! Reading directories.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::MODULE;
use crate::budget::Budget;
use crate::descriptor::{Directory, Kind, Listing, lock};
use crate::errno::Errno;
use crate::fuel::settled;
use crate::process::{Process, answer, with_memory};
use crate::procfs;
use crate::slice::Slices;
use crate::stat::{Filetype, entry_type};
use wisp_vfs::DirEntry;

/// Bytes of a preview1 `dirent` before the name.
const HEADER_BYTES: usize = 24;
/// Cookies of the entries `.` and `..`; those of the directory follow.
const DOTS: u64 = 2;
/// Charged for each entry of a listing while it is read: the entry and its name stay in memory, however the directory
/// changes meanwhile. An upper bound for names of the greatest length.
pub const ENTRY_BYTES: u64 = 384;

/// Entries that are returned, or passed over, between two chances for others to run.
const STEP: usize = 512;

/// Defines the function of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_readdir",
        |mut caller: Caller<'_, Process>, (fd, buffer, capacity, cookie, out): (u32, u32, u32, u64, u32)| {
            Box::new(async move {
                settled!(
                    caller,
                    answer(fd_readdir(&mut caller, fd, buffer, capacity, cookie, out).await)
                )
            })
        },
    )?;
    Ok(())
}

async fn fd_readdir(
    caller: &mut Caller<'_, Process>,
    fd: u32,
    buffer: u32,
    capacity: u32,
    mut cookie: u64,
    out: u32,
) -> Result<(), Errno> {
    let file = Arc::clone(caller.data().descriptors.get(fd)?);
    let mut used = 0;
    let mut slices = Slices::start();
    loop {
        let next = with_memory(caller, |memory, process| {
            let mut page = Page::new(memory.slice_mut(buffer, capacity)?, used);
            let next = match &file.kind {
                Kind::Directory(directory) => list(&process.kernel.budget, directory, cookie, &mut page)?,
                Kind::ProcDirectory(directory) => {
                    list_served(process, directory, cookie, &mut page);
                    None
                }
                _ => return Err(Errno::Notdir),
            };
            used = page.used;
            Ok(next)
        })?;
        match next {
            Some(next) => cookie = next,
            None => return with_memory(caller, |memory, _| memory.write_u32(out, used as u32)),
        }
        slices.pause().await;
    }
}

/// The guest's buffer, filled entry by entry. The last entry may be cut, which tells the guest to come again.
struct Page<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Page<'a> {
    /// The buffer, of which this much is filled.
    fn new(bytes: &'a mut [u8], used: usize) -> Self {
        Self { bytes, used }
    }

    /// Adds an entry; `false` when the buffer is full.
    fn add(&mut self, next: u64, ino: u64, filetype: Filetype, name: &[u8]) -> bool {
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&next.to_le_bytes());
        header[8..16].copy_from_slice(&ino.to_le_bytes());
        header[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        header[20] = filetype as u8;
        self.put(&header) && self.put(name)
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        let room = self.bytes.len() - self.used;
        let count = bytes.len().min(room);
        self.bytes[self.used..self.used + count].copy_from_slice(&bytes[..count]);
        self.used += count;
        count == bytes.len()
    }
}

/// Lists a directory from `cookie` on. Returns where to go on, unless the buffer is full or there is no more.
fn list(budget: &Arc<Budget>, directory: &Directory, cookie: u64, page: &mut Page<'_>) -> Result<Option<u64>, Errno> {
    let mut slot = lock(&directory.listing);
    if cookie == 0 || slot.is_none() {
        *slot = None;
        let entries = directory.handle.read_dir()?;
        let held = (entries.len() as u64).saturating_mul(ENTRY_BYTES);
        let charge = budget.charge(held).map_err(|_| Errno::Nomem)?;
        *slot = Some(Listing::new(entries, charge));
    }
    let Some(listing) = slot.as_mut() else { return Ok(None) };
    if cookie == 0 && !page.add(1, directory.handle.ino().0, Filetype::Directory, b".") {
        return Ok(None);
    }
    if cookie <= 1 && !page.add(DOTS, listing.entries.parent().0, Filetype::Directory, b"..") {
        return Ok(None);
    }
    // Entries from here on: those after the name that an earlier page or step ended with, if it is not beyond.
    let first = cookie.max(DOTS);
    let resume = listing.resume.take().filter(|(at, _)| *at <= first);
    let mut next = resume.as_ref().map_or(DOTS, |(at, _)| *at);
    let mut entries: Box<dyn Iterator<Item = DirEntry<'_>>> = match &resume {
        Some((_, name)) => Box::new(listing.entries.after(name)),
        None => Box::new(listing.entries.iter()),
    };
    let mut last = None;
    let mut full = false;
    let mut complete = false;
    for _ in 0..STEP {
        let Some(entry) = entries.next() else {
            complete = true;
            break;
        };
        if next >= first && !page.add(next + 1, entry.ino.0, entry_type(entry.kind), entry.name) {
            full = true;
            break;
        }
        next += 1;
        last = Some(entry.name);
    }
    let last = last.map(|name| (next, name.to_vec()));
    drop(entries);
    listing.resume = last.or(resume);
    if complete {
        // Read to the end: nothing is held for a descriptor that merely stays open.
        *slot = None;
    }
    Ok((!full && !complete).then_some(next.max(cookie)))
}

fn list_served(process: &Process, directory: &procfs::Directory, cookie: u64, page: &mut Page<'_>) {
    let mut all = vec![(b".".to_vec(), true), (b"..".to_vec(), true)];
    all.extend(procfs::entries(process, directory));
    let skip = usize::try_from(cookie).unwrap_or(usize::MAX);
    for (next, (name, is_directory)) in (1..).zip(all).skip(skip) {
        let filetype = if is_directory {
            Filetype::Directory
        } else {
            Filetype::RegularFile
        };
        if !page.add(next, 1, filetype, &name) {
            break;
        }
    }
}
