//! Files of a sandbox: contents through the engine's archive calls, the rest by small scripts in the container.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::container::PathStatResponse;
use bollard::errors::Error;
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder};
use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncWriteExt as _;

use super::engine::{Engine, has_status};
use super::{container, errno, script};
use crate::provider::archive::{EntryKind, Reader};
use crate::provider::path_pattern::PathPattern;
use crate::provider::{ByteStream, DirPage, FileInfo, Page, ProviderError};

/// Most bytes that the entries of one directory may take to tell.
const MAX_LISTING: usize = 32 << 20;
/// Most bytes of paths that a pattern is tried on.
const MAX_WALK: usize = 32 << 20;
/// Most output of a script that tells little.
const MAX_OUTPUT: usize = 4096;

/// Go's bits of a file's mode (`io/fs`, `FileMode`), in which the engine tells it.
mod go {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const STICKY: u32 = 1 << 20;
    /// Directory, link, device, named pipe, socket, character device, irregular.
    pub const TYPE: u32 = DIRECTORY | SYMLINK | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
}

/// What the engine tells of a file.
pub struct Found(PathStatResponse);

impl Found {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.0.file_mode & go::DIRECTORY != 0
    }

    fn is_link(&self) -> bool {
        self.0.file_mode & go::SYMLINK != 0
    }

    fn is_regular(&self) -> bool {
        self.0.file_mode & go::TYPE == 0
    }

    /// Permission bits, `0o7777`.
    pub fn mode(&self) -> u32 {
        let special = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
        let set = special.iter().filter(|(bit, _)| self.0.file_mode & bit != 0);
        (self.0.file_mode & 0o777) | set.map(|(_, bit)| bit).sum::<u32>()
    }

    /// Nanoseconds since 1970, UTC.
    pub fn mtime_ns(&self) -> u64 {
        self.0.modification_time.as_deref().and_then(nanoseconds).unwrap_or(0)
    }

    fn info(&self, path: &str) -> FileInfo {
        FileInfo {
            name: name(path),
            path: path.to_owned(),
            size: if self.is_directory() {
                0
            } else {
                u64::try_from(self.0.size).unwrap_or(0)
            },
            is_dir: self.is_directory(),
            mtime_ns: self.mtime_ns(),
            mode: self.mode(),
        }
    }
}

/// Last component of a path.
fn name(path: &str) -> String {
    match path.rsplit('/').next() {
        Some("") | None => "/".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// A path without slashes at its end.
fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Nanoseconds since 1970 of a time as RFC 3339 writes it, with any offset; `None` before 1970.
fn nanoseconds(time: &str) -> Option<u64> {
    let (local, offset_minutes) = match time.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            match offset.as_bytes().first()? {
                b'+' => (local, minutes),
                b'-' => (local, -minutes),
                _ => return None,
            }
        }
    };
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
    let since = i128::try_from(since).ok()? - i128::from(offset_minutes) * 60_000_000_000;
    u64::try_from(since).ok()
}

/// A file, not followed if it is a link.
///
/// # Errors
/// [`ProviderError::FileNotFound`], [`ProviderError::BadPath`], [`ProviderError::SandboxNotFound`].
pub async fn look(engine: &Engine, container: &str, path: &str) -> Result<Found, ProviderError> {
    let connection = engine.connect().await?;
    let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
    match connection
        .docker
        .get_container_archive_info(container, Some(options))
        .await
    {
        Ok(found) => Ok(Found(found)),
        // The answer to a HEAD request has no body that could say what was not found.
        Err(error) if has_status(&error, 404) => {
            container::must_exist(engine, &connection, container).await?;
            Err(ProviderError::FileNotFound(path.to_owned()))
        }
        Err(error @ Error::DockerResponseServerError { .. }) => {
            let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
            let mut answer = connection.docker.download_from_container(container, Some(options));
            let error = answer.next().await.and_then(Result::err).unwrap_or(error);
            Err(path_failure(engine, path, error))
        }
        Err(error) => Err(engine.failure(error)),
    }
}

/// What an error of the engine means for a path.
pub fn path_failure(engine: &Engine, path: &str, error: Error) -> ProviderError {
    if let Error::DockerResponseServerError { message, .. } = &error {
        if message.contains("Could not find the file") {
            return ProviderError::FileNotFound(path.to_owned());
        }
        if let Some(failure) = errno::of_message(path, message) {
            return failure;
        }
    }
    engine.failure(error)
}

/// A file, followed if it is a link, and where it really is.
///
/// # Errors
/// See [`look`].
pub async fn follow(engine: &Engine, container: &str, path: &str) -> Result<(Found, String), ProviderError> {
    let path = trimmed(path);
    let found = look(engine, container, path).await?;
    if !found.is_link() {
        return Ok((found, path.to_owned()));
    }
    // The engine has followed all links of the way.
    let target = found.0.link_target;
    match look(engine, container, &target).await {
        Ok(found) if found.is_link() => Err(errno::of_reason(path, "too many levels of symbolic links")),
        Ok(found) => Ok((found, target)),
        Err(ProviderError::FileNotFound(_)) => Err(ProviderError::FileNotFound(path.to_owned())),
        Err(error) => Err(error),
    }
}

/// # Errors
/// Unless there is such a directory, to start a command in.
pub async fn must_be_directory(engine: &Engine, container: &str, path: &str) -> Result<(), ProviderError> {
    let no_directory = || ProviderError::Invalid(format!("workdir {path}: no such directory"));
    match follow(engine, container, path).await {
        Ok((found, _)) if found.is_directory() => Ok(()),
        Ok(_) | Err(ProviderError::FileNotFound(_) | ProviderError::BadPath { .. }) => {
            // What the kernel makes up is not among the files the engine knows.
            if ["/proc", "/sys", "/dev"]
                .iter()
                .any(|made_up| path.starts_with(made_up))
            {
                return Ok(());
            }
            Err(no_directory())
        }
        Err(error) => Err(error),
    }
}

/// One file or directory.
///
/// # Errors
/// See [`look`]; so for all functions here.
pub async fn stat(engine: &Engine, container: &str, path: &str) -> Result<FileInfo, ProviderError> {
    let (found, _) = follow(engine, container, path).await?;
    Ok(found.info(trimmed(path)))
}

/// A file's contents.
///
/// # Errors
/// See [`look`].
pub async fn read(engine: &Arc<Engine>, container: &str, path: &str) -> Result<ByteStream, ProviderError> {
    let (found, target) = follow(engine, container, path).await?;
    if found.is_directory() {
        return Err(errno::of_reason(path, "is a directory"));
    }
    if !found.is_regular() {
        return Err(errno::of_reason(path, "not a regular file"));
    }
    let mut reader = Reader::new(download(engine, container, &target).await?);
    match reader
        .next()
        .await
        .map_err(ProviderError::from)?
        .map(|entry| entry.kind)
    {
        Some(EntryKind::File { .. }) => {}
        // It was replaced meanwhile.
        _ => return Err(errno::of_reason(path, "not a regular file")),
    }
    let contents = stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.contents().await.map_err(ProviderError::from)?;
        Ok(piece.map(|piece| (piece, reader)))
    });
    Ok(contents.boxed())
}

/// The engine's archive of a file or a tree.
///
/// # Errors
/// When the engine does not answer; what it says of the path comes with the first piece.
pub async fn download(engine: &Arc<Engine>, container: &str, path: &str) -> Result<ByteStream, ProviderError> {
    let connection = engine.connect().await?;
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let pieces = connection.docker.download_from_container(container, Some(options));
    let engine = Arc::clone(engine);
    let path = path.to_owned();
    Ok(pieces
        .map(move |piece| piece.map_err(|error| path_failure(&engine, &path, error)))
        .boxed())
}

/// Creates or replaces a file, which is written beside the old one and then takes its place. Its contents go to the
/// script in pieces as they come; what breaks off lacks the token at its end, and leaves the old file as it was.
///
/// # Errors
/// See [`look`].
pub async fn write(
    engine: &Arc<Engine>,
    container: &str,
    path: &str,
    mode: Option<u32>,
    mut body: ByteStream,
) -> Result<u64, ProviderError> {
    const SCRIPT: &str = include_str!("scripts/write.sh");
    if path.ends_with('/') || path.ends_with("/.") {
        return Err(errno::of_reason(path, "is a directory"));
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ProviderError::Internal(format!("no random bytes: {error}")))?;
    let token = hex::encode(random);
    let unfinished = format!(".wisp-upload-{}", &token[..16]);
    let mode = mode.map(|mode| format!("{mode:05o}")).unwrap_or_default();
    let arguments = [path, &token, &unfinished, &mode];
    let mut launch = script::start(engine, container, SCRIPT, &arguments, true).await?;
    let Some(mut input) = launch.input.take() else {
        return Err(ProviderError::Internal("a script has no input".to_owned()));
    };
    // Dropped half-way, the script sees the end of its input, and cleans up.
    launch.let_go();
    let feed = async move {
        while let Some(piece) = body.next().await {
            let piece = piece?;
            if input.write_all(&piece).await.is_err() {
                // The script has ended, and says why.
                return Ok(());
            }
        }
        let _ = input.write_all(token.as_bytes()).await;
        let _ = input.shutdown().await;
        // Without the input the engine would take the script's output for unwanted.
        std::future::pending::<()>().await;
        Ok::<(), ProviderError>(())
    };
    let mut finished = std::pin::pin!(script::finish(launch, MAX_OUTPUT));
    let finished = tokio::select! {
        biased;
        finished = &mut finished => finished?,
        fed = feed => {
            fed?;
            finished.await?
        }
    };
    let size = String::from_utf8_lossy(&finished.output).trim().parse();
    match (finished.status, size) {
        (0, Ok(size)) => Ok(size),
        _ => Err(errno::of_script(path, &finished)),
    }
}

/// A page of the entries of a directory, in name order. The container lists all of it for each page.
///
/// # Errors
/// See [`look`].
pub async fn list(engine: &Arc<Engine>, container: &str, path: &str, page: &Page) -> Result<DirPage, ProviderError> {
    const SCRIPT: &str = include_str!("scripts/list.sh");
    let (found, _) = follow(engine, container, path).await?;
    if !found.is_directory() {
        return Err(errno::of_reason(path, "not a directory"));
    }
    let path = trimmed(path);
    let finished = script::run(engine, container, SCRIPT, &[path], MAX_LISTING).await?;
    if finished.status != 0 {
        return Err(errno::of_script(path, &finished));
    }
    page.of(parse_listing(path, &finished.output)?)
}

/// Reads what `list.sh` writes: for each entry `META/./NAME/` and a newline. A later one of the same name wins: it is
/// about what a link leads to.
fn parse_listing(directory: &str, listing: &[u8]) -> Result<Vec<(Vec<u8>, FileInfo)>, ProviderError> {
    let broken = || ProviderError::Internal(format!("the listing of {directory} cannot be read"));
    let base = directory.trim_end_matches('/');
    let mut fields = listing.split(|byte| *byte == b'/');
    let mut entries: HashMap<&[u8], FileInfo> = HashMap::new();
    while let Some(meta) = fields.next() {
        let meta = meta.strip_prefix(b"\n").unwrap_or(meta);
        if meta.is_empty() {
            break;
        }
        let (Some(b"."), Some(raw)) = (fields.next(), fields.next()) else {
            return Err(broken());
        };
        let meta = std::str::from_utf8(meta).map_err(|_| broken())?;
        let name = String::from_utf8_lossy(raw).into_owned();
        let path = format!("{base}/{name}");
        entries.insert(raw, parse_meta(meta, name, path).ok_or_else(broken)?);
    }
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    Ok(entries.into_iter().map(|(name, info)| (name.to_vec(), info)).collect())
}

/// Reads `MODE SIZE SECONDS DATE TIME.NANOSECONDS ZONE`.
fn parse_meta(meta: &str, name: String, path: String) -> Option<FileInfo> {
    const TYPE: u32 = 0o170_000;
    const DIRECTORY: u32 = 0o040_000;
    let mut words = meta.split(' ');
    let mode = u32::from_str_radix(words.next()?, 16).ok()?;
    let size: u64 = words.next()?.parse().ok()?;
    let seconds: i64 = words.next()?.parse().ok()?;
    let fraction = words
        .nth(1)
        .and_then(|time| time.split_once('.')?.1.parse::<u64>().ok());
    let nanoseconds = fraction.filter(|nanoseconds| *nanoseconds < 1_000_000_000).unwrap_or(0);
    let is_dir = mode & TYPE == DIRECTORY;
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Some(FileInfo {
        name,
        path,
        size: if is_dir { 0 } else { size },
        is_dir,
        mtime_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
        mode: mode & 0o7777,
    })
}

/// Removes a file, an empty directory, or with `recursive` a whole tree.
///
/// # Errors
/// See [`look`].
pub async fn delete(engine: &Arc<Engine>, container: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
    const SCRIPT: &str = concat!(include_str!("scripts/missing.sh"), include_str!("scripts/delete.sh"));
    let target = trimmed(path);
    if target == "/" {
        return Err(errno::of_reason(path, "device or resource busy"));
    }
    let how = if recursive { "recursive" } else { "" };
    let finished = script::run(engine, container, SCRIPT, &[target, how], MAX_OUTPUT).await?;
    done(path, &finished)
}

/// Renames, and makes the new parent directory if there is none.
///
/// # Errors
/// See [`look`].
pub async fn rename(engine: &Arc<Engine>, container: &str, from: &str, to: &str) -> Result<(), ProviderError> {
    const SCRIPT: &str = concat!(include_str!("scripts/missing.sh"), include_str!("scripts/rename.sh"));
    let (source, target) = (trimmed(from), trimmed(to));
    if source == "/" || target == "/" {
        return Err(errno::of_reason(to, "device or resource busy"));
    }
    let finished = script::run(engine, container, SCRIPT, &[source, target], MAX_OUTPUT).await?;
    let missing = finished.status == 102 || finished.status == 120 && finished.error == "missing";
    done(if missing { from } else { to }, &finished)
}

/// Sets permission bits.
///
/// # Errors
/// See [`look`].
pub async fn chmod(engine: &Arc<Engine>, container: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
    const SCRIPT: &str = concat!(
        include_str!("scripts/missing.sh"),
        // Five digits: GNU's chmod leaves a directory its set-ID bits otherwise.
        "[ -e \"$1\" ] || missing \"$1\"\nexec chmod -- \"$2\" \"$1\"\n"
    );
    let mode = format!("{mode:05o}");
    let finished = script::run(engine, container, SCRIPT, &[trimmed(path), &mode], MAX_OUTPUT).await?;
    done(path, &finished)
}

fn done(path: &str, finished: &script::Finished) -> Result<(), ProviderError> {
    match finished.status {
        0 => Ok(()),
        _ => Err(errno::of_script(path, finished)),
    }
}

/// Paths that match an absolute pattern, in order.
///
/// # Errors
/// See [`look`].
pub async fn glob(engine: &Arc<Engine>, container: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
    const SCRIPT: &str = include_str!("scripts/glob.sh");
    let pattern = PathPattern::new(pattern)?;
    let start = trimmed(pattern.start());
    match follow(engine, container, start).await {
        Ok((found, _)) if found.is_directory() => {}
        Ok(_) | Err(ProviderError::FileNotFound(_) | ProviderError::BadPath { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let depth = pattern
        .depth()
        .map_or_else(|| i32::MAX.to_string(), |depth| depth.to_string());
    let finished = script::run(engine, container, SCRIPT, &[start, &depth], MAX_WALK).await?;
    let mut matches = pattern.matches();
    for path in finished.output.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        let path = String::from_utf8_lossy(path);
        // From the root, `find` writes two slashes.
        let path = if start == "/" {
            path.strip_prefix('/')
                .filter(|path| path.starts_with('/'))
                .unwrap_or(&path)
        } else {
            &path
        };
        if !matches.offer(path.to_owned()) {
            break;
        }
    }
    matches.found()
}
