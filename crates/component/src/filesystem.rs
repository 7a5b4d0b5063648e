//! `wasi:filesystem` over the files of the sandbox: by the kernel's own paths, quota and rules, the same as for modules.

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTableError, ResourceType, WasmList};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, IoError};
use wisp_kernel::{DirectoryList, Errno, File, FileStat, Opening};
use wisp_vfs::{MAX_PATH, TimeChange};

use super::process::State;
use super::streams::{CHUNK, Failed, FileWriter, Output, Reader};

/// Most bytes of one `write`; more is a short write, which every caller must expect.
const MAX_WRITE: usize = 1 << 20;

/// An open file as a resource.
pub(super) struct Descriptor(File);

/// A directory that is being listed, as a resource.
pub(super) struct DirectoryStream(DirectoryList);

type Context<'a> = StoreContextMut<'a, State>;
/// What a function returns to the guest.
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Own<T> = Resource<T>;

/// Why a function does not succeed.
enum Failure {
    /// The guest is told.
    Errno(Errno),
    /// The process ends.
    Trap(wasmtime::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(Failure::Errno(errno)) => Ok((Err(error_code(errno)),)),
        Err(Failure::Trap(error)) => Err(error),
    }
}

impl State {
    fn file(&self, descriptor: &Own<Descriptor>) -> Result<File, Failure> {
        Ok(self.table.get(descriptor)?.0.clone())
    }

    /// Gives the guest an open file.
    fn add_file(&mut self, file: File) -> Result<Own<Descriptor>, Failure> {
        if self.open_files >= self.process.max_files() {
            return Err(Errno::Mfile.into());
        }
        let descriptor = self.table.push(Descriptor(file))?;
        self.open_files += 1;
        Ok(descriptor)
    }
}

/// Runs the body of a function of a descriptor that does not wait.
fn on_file<T>(
    mut context: Context<'_>,
    descriptor: &Own<Descriptor>,
    body: impl FnOnce(&mut State, &File) -> Result<T, Failure>,
) -> Answer<T> {
    let state = context.data_mut();
    answer(state.file(descriptor).and_then(|file| body(state, &file)))
}

/// A path of the guest.
fn checked(path: &str) -> Result<&[u8], Errno> {
    if path.len() > MAX_PATH {
        Err(Errno::Nametoolong)
    } else if path.contains('\0') {
        Err(Errno::Inval)
    } else {
        Ok(path.as_bytes())
    }
}

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Defines `wasi:filesystem`.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:filesystem/preopens@0.2.12")?.func_wrap(
        "get-directories",
        |mut context: Context<'_>, (): ()| {
            let state = context.data_mut();
            let directories = state.process.directories().map(|(file, name)| (file, name.to_owned()));
            let directories: Vec<_> = directories.collect();
            let mut preopens = Vec::new();
            for (file, name) in directories {
                state.open_files += 1;
                preopens.push((state.table.push(Descriptor(file))?, name));
            }
            Ok((preopens,))
        },
    )?;
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.resource(
        "descriptor",
        ResourceType::host::<Descriptor>(),
        |mut context: Context<'_>, rep| {
            let state = context.data_mut();
            state.table.delete(Own::<Descriptor>::new_own(rep))?;
            state.open_files -= 1;
            Ok(())
        },
    )?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<DirectoryStream>(),
        |mut context: Context<'_>, rep| {
            context.data_mut().table.delete(Own::<DirectoryStream>::new_own(rep))?;
            Ok(())
        },
    )?;
    add_streams(linker)?;
    add_contents(linker)?;
    add_attributes(linker)?;
    add_paths(linker)?;
    add_directories(linker)
}

fn types(linker: &mut Linker<State>) -> wasmtime::Result<wasmtime::component::LinkerInstance<'_, State>> {
    linker.instance("wasi:filesystem/types@0.2.12")
}

/// Functions that make streams.
fn add_streams(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = types(linker)?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |context: Context<'_>, (descriptor, offset): (Own<Descriptor>, u64)| {
            on_file(context, &descriptor, |state, file| {
                require(file.access().0 && !file.is_directory(), Errno::Badf)?;
                let stream: DynInputStream = Box::new(Reader::new(file.clone(), offset));
                Ok(state.table.push(stream)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |context: Context<'_>, (descriptor, offset): (Own<Descriptor>, u64)| {
            on_file(context, &descriptor, |state, file| {
                write_stream(state, file, Some(offset))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |state, file| write_stream(state, file, None))
        },
    )?;
    types.func_wrap(
        "filesystem-error-code",
        |mut context: Context<'_>, (error,): (Resource<IoError>,)| {
            let error = context.data_mut().table.get(&error)?;
            let code = error.downcast_ref::<Failed>().map(|failed| error_code(failed.0));
            Ok((code,))
        },
    )
}

fn write_stream(state: &mut State, file: &File, offset: Option<u64>) -> Result<Resource<DynOutputStream>, Failure> {
    require(file.access().1, Errno::Badf)?;
    let stream: DynOutputStream = if file.is_seekable() {
        Box::new(FileWriter::new(file.clone(), offset))
    } else {
        Box::new(Output::new(Some(state.process.writer(file.clone(), CHUNK as u64)?)))
    };
    Ok(state.table.push(stream)?)
}

fn require(holds: bool, errno: Errno) -> Result<(), Errno> {
    if holds { Ok(()) } else { Err(errno) }
}

/// Functions that move bytes.
fn add_contents(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = types(linker)?;
    types.func_wrap(
        "[method]descriptor.read",
        |context: Context<'_>, (descriptor, len, offset): (Own<Descriptor>, u64, u64)| {
            on_file(context, &descriptor, |_, file| {
                let len = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
                let mut buffer = vec![0; len];
                let count = file.read_at(offset, &mut buffer)?;
                buffer.truncate(count);
                Ok((buffer, count == 0))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write",
        |context: Context<'_>, (descriptor, bytes, offset): (Own<Descriptor>, WasmList<u8>, u64)| {
            let file = match context.data().file(&descriptor) {
                Ok(file) => file,
                Err(failure) => return answer(Err(failure)),
            };
            // The bytes stay where they are, in the guest's memory.
            let bytes = bytes.as_le_slice(&context);
            answer(write(&file, &bytes[..bytes.len().min(MAX_WRITE)], offset).map_err(Failure::from))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.advise",
        |context: Context<'_>, (descriptor, _, _, _): (Own<Descriptor>, u64, u64, Advice)| {
            on_file(context, &descriptor, |_, _| Ok(()))
        },
    )?;
    for name in ["[method]descriptor.sync-data", "[method]descriptor.sync"] {
        types.func_wrap(name, |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |_, _| Ok(()))
        })?;
    }
    types.func_wrap(
        "[method]descriptor.set-size",
        |context: Context<'_>, (descriptor, size): (Own<Descriptor>, u64)| {
            on_file(context, &descriptor, |_, file| Ok(file.set_len(size)?))
        },
    )
}

/// Writes as much as there is room for; the error if there is none.
fn write(file: &File, bytes: &[u8], offset: u64) -> Result<u64, Errno> {
    let mut total = 0;
    for part in bytes.chunks(CHUNK) {
        let at = offset.checked_add(total).ok_or(Errno::Fbig)?;
        match file.write_at(Some(at), part) {
            Ok((written, _)) => {
                total += written as u64;
                if written < part.len() {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// Functions that tell or change what is known of a file.
fn add_attributes(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = types(linker)?;
    types.func_wrap(
        "[method]descriptor.get-flags",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |_, file| {
                let (readable, writable) = file.access();
                let flags = [
                    (readable, DescriptorFlags::READ),
                    (writable, DescriptorFlags::WRITE),
                    (file.is_directory(), DescriptorFlags::MUTATE_DIRECTORY),
                ];
                let set = flags.into_iter().filter(|(holds, _)| *holds);
                Ok(set.fold(DescriptorFlags::empty(), |all, (_, flag)| all | flag))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.get-type",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |_, file| Ok(file_type(file.stat()?.mode)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.stat",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |_, file| Ok(descriptor_stat(&file.stat()?)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.stat-at",
        |context: Context<'_>, (descriptor, flags, path): (Own<Descriptor>, PathFlags, String)| {
            on_file(context, &descriptor, |state, directory| {
                let stat = state.process.stat_at(directory, checked(&path)?, follows(flags))?;
                Ok(descriptor_stat(&stat))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.set-times",
        |context: Context<'_>, (descriptor, accessed, modified): (Own<Descriptor>, NewTimestamp, NewTimestamp)| {
            on_file(context, &descriptor, |state, file| {
                let times = (time_change(accessed)?, time_change(modified)?);
                Ok(state.process.set_times(file, times)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.set-times-at",
        |context: Context<'_>,
         (descriptor, flags, path, accessed, modified): (
            Own<Descriptor>,
            PathFlags,
            String,
            NewTimestamp,
            NewTimestamp,
        )| {
            on_file(context, &descriptor, |state, directory| {
                let times = (time_change(accessed)?, time_change(modified)?);
                Ok(state
                    .process
                    .set_times_at(directory, checked(&path)?, follows(flags), times)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.is-same-object",
        |mut context: Context<'_>, (descriptor, other): (Own<Descriptor>, Own<Descriptor>)| {
            let table = &context.data_mut().table;
            Ok((table.get(&descriptor)?.0.is_same(&table.get(&other)?.0),))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.metadata-hash",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |_, file| Ok(metadata_hash(&file.stat()?)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.metadata-hash-at",
        |context: Context<'_>, (descriptor, flags, path): (Own<Descriptor>, PathFlags, String)| {
            on_file(context, &descriptor, |state, directory| {
                let stat = state.process.stat_at(directory, checked(&path)?, follows(flags))?;
                Ok(metadata_hash(&stat))
            })
        },
    )
}

/// Functions that name files by paths.
fn add_paths(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = types(linker)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut context: Context<'_>,
         (descriptor, path_flags, path, open_flags, flags): (
            Own<Descriptor>,
            PathFlags,
            String,
            OpenFlags,
            DescriptorFlags,
        )| {
            Box::new(async move {
                let opening = Opening {
                    follow: follows(path_flags),
                    flags: open_flags.as_array()[0],
                    read: flags.contains(DescriptorFlags::READ),
                    write: flags.contains(DescriptorFlags::WRITE),
                };
                answer(open(context.data_mut(), &descriptor, path, opening).await)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.create-directory-at",
        |context: Context<'_>, (descriptor, path): (Own<Descriptor>, String)| {
            on_file(context, &descriptor, |state, directory| {
                Ok(state.process.make_directory(directory, checked(&path)?)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.remove-directory-at",
        |context: Context<'_>, (descriptor, path): (Own<Descriptor>, String)| {
            on_file(context, &descriptor, |state, directory| {
                Ok(state.process.remove_directory(directory, checked(&path)?)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.unlink-file-at",
        |context: Context<'_>, (descriptor, path): (Own<Descriptor>, String)| {
            on_file(context, &descriptor, |state, directory| {
                Ok(state.process.unlink(directory, checked(&path)?)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.readlink-at",
        |context: Context<'_>, (descriptor, path): (Own<Descriptor>, String)| {
            on_file(context, &descriptor, |state, directory| {
                let target = state.process.read_link(directory, checked(&path)?)?;
                Ok(String::from_utf8(target).map_err(|_| Errno::Ilseq)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.symlink-at",
        |context: Context<'_>, (descriptor, target, path): (Own<Descriptor>, String, String)| {
            on_file(context, &descriptor, |state, directory| {
                let (target, path) = (checked(&target)?, checked(&path)?);
                Ok(state.process.make_symlink(target, directory, path)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.link-at",
        |context: Context<'_>,
         (descriptor, flags, old, new_descriptor, new): (
            Own<Descriptor>,
            PathFlags,
            String,
            Own<Descriptor>,
            String,
        )| {
            on_file(context, &descriptor, |state, directory| {
                let new_directory = state.file(&new_descriptor)?;
                let (old, new) = ((directory, checked(&old)?), (&new_directory, checked(&new)?));
                Ok(state.process.link(old, follows(flags), new)?)
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.rename-at",
        |context: Context<'_>,
         (descriptor, old, new_descriptor, new): (Own<Descriptor>, String, Own<Descriptor>, String)| {
            on_file(context, &descriptor, |state, directory| {
                let new_directory = state.file(&new_descriptor)?;
                let (old, new) = ((directory, checked(&old)?), (&new_directory, checked(&new)?));
                Ok(state.process.rename(old, new)?)
            })
        },
    )
}

async fn open(
    state: &mut State,
    descriptor: &Own<Descriptor>,
    path: String,
    opening: Opening,
) -> Result<Own<Descriptor>, Failure> {
    let directory = state.file(descriptor)?;
    if state.open_files >= state.process.max_files() {
        return Err(Errno::Mfile.into());
    }
    let path = checked(&path)?;
    let file = state.process.open_at(&directory, path, opening).await?;
    state.add_file(file)
}

/// Functions that list directories.
fn add_directories(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = types(linker)?;
    types.func_wrap(
        "[method]descriptor.read-directory",
        |context: Context<'_>, (descriptor,): (Own<Descriptor>,)| {
            on_file(context, &descriptor, |state, directory| {
                let list = state.process.list(directory)?;
                Ok(state.table.push(DirectoryStream(list))?)
            })
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut context: Context<'_>, (stream,): (Own<DirectoryStream>,)| {
            let stream = context.data_mut().table.get_mut(&stream)?;
            let Some((mode, name)) = stream.0.next_entry() else {
                return Ok((Ok(None),));
            };
            let Ok(name) = String::from_utf8(name) else {
                return Ok((Err(ErrorCode::IllegalByteSequence),));
            };
            let type_ = file_type(mode);
            Ok((Ok(Some(DirectoryEntry { type_, name })),))
        },
    )
}

fn file_type(mode: u32) -> DescriptorType {
    match mode & 0o170_000 {
        0o100_000 => DescriptorType::RegularFile,
        0o040_000 => DescriptorType::Directory,
        0o120_000 => DescriptorType::SymbolicLink,
        0o020_000 => DescriptorType::CharacterDevice,
        0o010_000 => DescriptorType::Fifo,
        _ => DescriptorType::Unknown,
    }
}

fn descriptor_stat(stat: &FileStat) -> DescriptorStat {
    DescriptorStat {
        type_: file_type(stat.mode),
        link_count: stat.nlink,
        size: stat.size,
        data_access_timestamp: Some(datetime(stat.atime)),
        data_modification_timestamp: Some(datetime(stat.mtime)),
        status_change_timestamp: Some(datetime(stat.ctime)),
    }
}

/// Files differ in their numbers, and there is one file system.
fn metadata_hash(stat: &FileStat) -> MetadataHashValue {
    MetadataHashValue {
        lower: stat.ino,
        upper: u64::from(stat.mode & 0o170_000),
    }
}

/// A time in nanoseconds since 1970.
fn datetime(nanoseconds: u64) -> Datetime {
    let time = Duration::from_nanos(nanoseconds);
    Datetime {
        seconds: time.as_secs(),
        nanoseconds: time.subsec_nanos(),
    }
}

fn time_change(new: NewTimestamp) -> Result<TimeChange, Errno> {
    match new {
        NewTimestamp::NoChange => Ok(TimeChange::Keep),
        NewTimestamp::Now => Ok(TimeChange::Now),
        NewTimestamp::Timestamp(time) => {
            let nanoseconds = time.seconds.checked_mul(1_000_000_000);
            let nanoseconds = nanoseconds.and_then(|whole| whole.checked_add(time.nanoseconds.into()));
            nanoseconds.map(TimeChange::At).ok_or(Errno::Overflow)
        }
    }
}

/// WASI 0.2's word for an error. Those it has none for are as near as they can be.
fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Acces => ErrorCode::Access,
        Errno::Again => ErrorCode::WouldBlock,
        Errno::Badf => ErrorCode::BadDescriptor,
        Errno::Busy => ErrorCode::Busy,
        Errno::Exist => ErrorCode::Exist,
        Errno::Fbig => ErrorCode::FileTooLarge,
        Errno::Ilseq => ErrorCode::IllegalByteSequence,
        Errno::Intr => ErrorCode::Interrupted,
        Errno::Inval | Errno::Fault | Errno::TooBig => ErrorCode::Invalid,
        Errno::Isdir => ErrorCode::IsDirectory,
        Errno::Loop => ErrorCode::Loop,
        // There is no word for too many open files.
        Errno::Mfile => ErrorCode::Quota,
        Errno::Mlink => ErrorCode::TooManyLinks,
        Errno::Nametoolong => ErrorCode::NameTooLong,
        Errno::Noent => ErrorCode::NoEntry,
        Errno::Nomem => ErrorCode::InsufficientMemory,
        Errno::Nospc => ErrorCode::InsufficientSpace,
        Errno::Notdir => ErrorCode::NotDirectory,
        Errno::Notempty => ErrorCode::NotEmpty,
        Errno::Nosys | Errno::Notsup => ErrorCode::Unsupported,
        Errno::Nxio => ErrorCode::NoSuchDevice,
        Errno::Overflow => ErrorCode::Overflow,
        Errno::Perm => ErrorCode::NotPermitted,
        Errno::Pipe => ErrorCode::Pipe,
        Errno::Rofs => ErrorCode::ReadOnly,
        Errno::Spipe => ErrorCode::InvalidSeek,
        Errno::Xdev => ErrorCode::CrossDevice,
        _ => ErrorCode::Io,
    }
}
