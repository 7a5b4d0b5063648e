//! Files of a sandbox, straight from its file system.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::kept_files::Files;
use crate::provider::page::cursor;
use crate::provider::path_pattern::PathPattern;
use crate::provider::{ByteStream, DirPage, FileInfo, Page, ProviderError};
use crate::vfs::{DirSnapshot, Error, FileKind, Fs, Handle, MAX_PATH, OpenOptions, PathError, ROOT, Stat, WalkLimits};

/// Bytes of one piece of a file that is read.
const CHUNK: usize = 64 << 10;

/// Bytes of an upload that may be in memory before they go to the disk.
const MAX_RESIDENT: u64 = 1 << 20;

/// A directory of up to this many entries, none of them a link, is listed at once: some 50 µs. Anything larger is worth
/// the way to another thread.
const INLINE_ENTRIES: usize = 128;

/// Most files that a pattern may look at, and most bytes of their paths.
const MAX_VISITS: usize = 1_000_000;
const MAX_VISITED_BYTES: usize = 64 << 20;
/// Files looked at before it is asked again whether anybody waits.
const VISITS_AT_ONCE: usize = 256;

/// A page of a listing ends after this long, however few entries it has: to follow a link takes up to 3 ms.
const PAGE_TIME: Duration = Duration::from_millis(50);

/// A file's contents.
pub fn read(files: &Files, path: &str) -> Result<ByteStream, ProviderError> {
    let handle = files
        .fs()
        .open(ROOT, path.as_bytes(), &OpenOptions::default())
        .map_err(|error| failure(path, error))?;
    must_be_regular(path, &handle)?;
    let size = handle.size().map_err(|error| failure(path, error.into()))?;
    let (path, handle, files) = (path.to_owned(), Arc::new(handle), files.clone());
    let chunks = stream::try_unfold(0, move |offset| {
        let (path, handle, files) = (path.clone(), Arc::clone(&handle), files.clone());
        let next = move || next_chunk(&handle, offset).map_err(|error| failure(&path, error.into()));
        async move {
            // A large file may have to come from the disk; a small one is not worth the way to another thread.
            let chunk = if size > CHUNK as u64 {
                files.work(next).await?
            } else {
                next()?
            };
            Ok(chunk.map(|bytes| {
                let end = offset + bytes.len() as u64;
                (bytes, end)
            }))
        }
    });
    Ok(chunks.boxed())
}

/// Refuses what is no regular file.
pub fn must_be_regular(path: &str, handle: &Handle) -> Result<(), ProviderError> {
    match handle.stat().map_err(|error| failure(path, error.into()))?.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(failure(path, Error::IsDir.into())),
        _ => Err(bad_path(path, "not a regular file")),
    }
}

fn next_chunk(handle: &Handle, offset: u64) -> Result<Option<Bytes>, Error> {
    let left = usize::try_from(handle.size()?.saturating_sub(offset))
        .unwrap_or(CHUNK)
        .min(CHUNK);
    let mut buffer = BytesMut::zeroed(left);
    let count = handle.read_at(offset, &mut buffer)?;
    buffer.truncate(count);
    Ok((count > 0).then(|| buffer.freeze()))
}

/// Creates or replaces a file. A file that is replaced keeps its contents until all of the new ones are there, so that a
/// transfer that breaks off leaves it as it was.
pub async fn write(files: &Files, path: &str, mode: Option<u32>, mut body: ByteStream) -> Result<u64, ProviderError> {
    let fs = files.fs();
    let failed = |error: PathError| failure(path, error);
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." {
        return Err(failed(Error::IsDir.into()));
    }
    let directory = if parent.is_empty() {
        ROOT
    } else {
        fs.create_dir_all(ROOT, parent.as_bytes(), 0o755).map_err(failed)?
    };
    let existing = match fs.stat_at(directory, name.as_bytes(), false) {
        Ok(stat) => Some(stat),
        Err(PathError::Fs(Error::NotFound)) => None,
        Err(error) => return Err(failed(error)),
    };
    let replaces = match existing.map(|stat| stat.kind) {
        None | Some(FileKind::Regular) => true,
        Some(FileKind::Directory) => return Err(failed(Error::IsDir.into())),
        // A link is written through; what it leads to, and anything else, is looked at once it is open.
        Some(_) => false,
    };
    let new_mode = mode.or(existing.map(|stat| stat.mode)).unwrap_or(0o644);
    let handle = if replaces {
        fs.open_unnamed(new_mode).map_err(|error| failed(error.into()))?
    } else {
        let options = OpenOptions {
            create: true,
            truncate: true,
            mode: new_mode,
            ..OpenOptions::default()
        };
        fs.open(directory, name.as_bytes(), &options).map_err(failed)?
    };
    must_be_regular(path, &handle)?;
    let handle = Arc::new(handle);
    let (mut written, mut spilled) = (0, 0);
    while let Some(bytes) = body.next().await {
        let mut rest = &bytes?[..];
        while !rest.is_empty() {
            let count = handle.write_at(written, rest).map_err(|error| failed(error.into()))?;
            written += count as u64;
            rest = &rest[count..];
        }
        if written - spilled >= MAX_RESIDENT {
            files.spill(&handle, spilled).await?;
            spilled = written;
        }
    }
    if replaces {
        fs.give_name(&handle, directory, name.as_bytes()).map_err(failed)?;
    } else if mode.is_some() {
        fs.chmod(handle.ino(), new_mode).map_err(|error| failed(error.into()))?;
    }
    Ok(written)
}

/// A page of the entries of a directory, in name order.
pub async fn list(files: &Files, path: &str, page: &Page) -> Result<DirPage, ProviderError> {
    let options = OpenOptions {
        directory: true,
        ..OpenOptions::default()
    };
    let after = page.after_name()?.unwrap_or_default();
    let handle = files
        .fs()
        .open(ROOT, path.as_bytes(), &options)
        .map_err(|error| failure(path, error))?;
    let entries = handle.read_dir().map_err(|error| failure(path, error.into()))?;
    let is_small = entries.len() <= INLINE_ENTRIES && entries.iter().all(|entry| entry.kind != FileKind::Symlink);
    let (base, limit) = (path.trim_end_matches('/').to_owned(), page.size());
    let tell = move || Ok(tell_page(&handle, &entries, &after, &base, limit));
    // Also what is left of a large directory that was removed meanwhile is dropped elsewhere.
    if is_small { tell() } else { files.work(tell).await }
}

fn tell_page(handle: &Handle, entries: &DirSnapshot, after: &[u8], base: &str, limit: usize) -> DirPage {
    let fs = handle.fs();
    let start = Instant::now();
    let mut infos = Vec::new();
    let mut last: Option<&[u8]> = None;
    for entry in entries.after(after) {
        if let Some(last) = last
            && (infos.len() == limit || start.elapsed() > PAGE_TIME)
        {
            return DirPage {
                entries: infos,
                next: Some(cursor(last)),
            };
        }
        last = Some(entry.name);
        // What a link points to, or the link itself when that leads nowhere. An entry removed meanwhile is left out.
        let stat = match entry.kind {
            FileKind::Symlink => fs
                .stat_at(handle.ino(), entry.name, true)
                .or_else(|_| Ok(fs.stat(entry.ino)?)),
            _ => fs.stat(entry.ino).map_err(PathError::from),
        };
        let name = String::from_utf8_lossy(entry.name);
        infos.extend(stat.ok().map(|stat| info(format!("{base}/{name}"), &stat)));
    }
    DirPage {
        entries: infos,
        next: None,
    }
}

/// One file or directory.
pub fn stat(fs: &Fs, path: &str) -> Result<FileInfo, ProviderError> {
    let stat = fs
        .stat_at(ROOT, path.as_bytes(), true)
        .map_err(|error| failure(path, error))?;
    let trimmed = path.trim_end_matches('/');
    Ok(info(
        if trimmed.is_empty() {
            "/".to_owned()
        } else {
            trimmed.to_owned()
        },
        &stat,
    ))
}

/// Removes a file, an empty directory, or with `recursive` a whole tree.
pub fn delete(fs: &Fs, path: &str, recursive: bool) -> Result<(), ProviderError> {
    let failed = |error| failure(path, error);
    let bytes = path.as_bytes();
    if recursive {
        return fs.remove_all(ROOT, bytes).map_err(failed);
    }
    match fs.unlink(ROOT, bytes) {
        Err(PathError::Fs(Error::IsDir)) => fs.rmdir(ROOT, bytes).map_err(failed),
        result => result.map_err(failed),
    }
}

/// Renames, and makes the new parent directory if there is none.
pub fn rename(fs: &Fs, from: &str, to: &str) -> Result<(), ProviderError> {
    fs.stat_at(ROOT, from.as_bytes(), false)
        .map_err(|error| failure(from, error))?;
    if let Some((parent, _)) = to.trim_end_matches('/').rsplit_once('/')
        && !parent.is_empty()
    {
        fs.create_dir_all(ROOT, parent.as_bytes(), 0o755)
            .map_err(|error| failure(to, error))?;
    }
    fs.rename(ROOT, from.as_bytes(), ROOT, to.as_bytes())
        .map_err(|error| failure(to, error))
}

/// Sets permission bits.
pub fn chmod(fs: &Fs, path: &str, mode: u32) -> Result<(), ProviderError> {
    let ino = fs
        .lookup(ROOT, path.as_bytes(), true)
        .map_err(|error| failure(path, error))?;
    fs.chmod(ino, mode).map_err(|error| failure(path, error.into()))
}

/// Paths that match an absolute pattern, in order. The walk ends soon after this is dropped.
pub async fn glob(files: &Files, pattern: &str) -> Result<Vec<String>, ProviderError> {
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    let (fs, pattern) = (files.fs().clone(), pattern.to_owned());
    files.work(move || find(&fs, &pattern, MAX_VISITS, &cancelled)).await
}

/// Walks where a pattern can match, and looks at no more than `max_visits` files.
fn find(
    fs: &Fs,
    pattern: &str,
    max_visits: usize,
    cancelled: &CancellationToken,
) -> Result<Vec<String>, ProviderError> {
    let pattern = PathPattern::new(pattern)?;
    let start = pattern.start();
    let base = start.trim_end_matches('/');
    // A longer path cannot be used, so it is not told.
    let path_len = MAX_PATH.saturating_sub(base.len() + 1);
    let limits = WalkLimits {
        depth: pattern.depth().unwrap_or(usize::MAX),
        path_len,
    };
    let mut matches = pattern.matches();
    let (mut visits, mut bytes) = (0, 0);
    let walked = fs.walk_within(ROOT, start.as_bytes(), limits, |entry| {
        visits += 1;
        bytes += entry.path.len();
        if visits > max_visits || bytes > MAX_VISITED_BYTES {
            return ControlFlow::Break(ProviderError::LimitReached(format!(
                "the pattern would look at more than {max_visits} files or {} MiB of paths; begin it with a longer \
                 directory",
                MAX_VISITED_BYTES >> 20
            )));
        }
        if visits % VISITS_AT_ONCE == 0 && cancelled.is_cancelled() {
            return ControlFlow::Break(ProviderError::Unavailable("nobody waits for the answer".to_owned()));
        }
        if entry.path.is_empty() || entry.path.len() > path_len {
            return ControlFlow::Continue(());
        }
        if matches.offer(format!("{base}/{}", String::from_utf8_lossy(entry.path))) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(ProviderError::LimitReached(String::new()))
        }
    });
    match walked {
        // Of too many matches the pattern tells itself.
        Ok(ControlFlow::Break(ProviderError::LimitReached(reason))) if reason.is_empty() => {}
        Ok(ControlFlow::Break(error)) => return Err(error),
        Ok(ControlFlow::Continue(())) | Err(PathError::Fs(Error::NotFound | Error::NotDir)) => {}
        Err(error) => return Err(failure(start, error)),
    }
    matches.found()
}

fn info(path: String, stat: &Stat) -> FileInfo {
    let name = match path.rsplit('/').next() {
        Some("") | None => "/".to_owned(),
        Some(name) => name.to_owned(),
    };
    FileInfo {
        name,
        path,
        size: if stat.kind == FileKind::Directory { 0 } else { stat.size },
        is_dir: stat.kind == FileKind::Directory,
        mtime_ns: stat.mtime,
        mode: stat.mode,
    }
}

/// What a failure of the file system is to clients.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every caller has the error and nothing else to do with it"
)]
pub fn failure(path: &str, error: PathError) -> ProviderError {
    match error {
        PathError::Fs(Error::NotFound) => ProviderError::FileNotFound(path.to_owned()),
        PathError::Fs(Error::NoSpace) => {
            ProviderError::LimitReached(format!("{path}: no space left: the sandbox has used its disk_mb"))
        }
        PathError::Fs(Error::Io) => ProviderError::Internal(format!("{path}: stored file data cannot be read")),
        PathError::Fs(error) => bad_path(path, &error.to_string()),
        PathError::Mounted { .. } => bad_path(path, "is made up by the kernel; read it with a command"),
    }
}

fn bad_path(path: &str, reason: &str) -> ProviderError {
    ProviderError::BadPath {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{Limits, NodeKind};

    fn files() -> (Fs, Files) {
        let fs = Fs::new(Limits {
            max_bytes: 1 << 20,
            max_inodes: 1000,
        });
        fs.mkdir(ROOT, b"/dir", 0o755).unwrap();
        (fs.clone(), Files::in_memory(fs))
    }

    fn body(chunks: Vec<Result<Bytes, ProviderError>>) -> ByteStream {
        stream::iter(chunks).boxed()
    }

    async fn contents(fs: &Fs, path: &str) -> Vec<u8> {
        let chunks: Vec<_> = read(&Files::in_memory(fs.clone()), path)
            .unwrap()
            .map(|chunk| chunk.unwrap().to_vec())
            .collect()
            .await;
        chunks.concat()
    }

    #[tokio::test]
    async fn writes_through_links_reach_regular_files_only() {
        let (fs, files) = files();
        fs.symlink(b"/dir", ROOT, b"/to-dir").unwrap();
        fs.mknod(ROOT, b"/pipe", NodeKind::Fifo, 0o644).unwrap();
        for path in ["/to-dir", "/pipe"] {
            // An empty body as well, which never gets as far as a write; and the mode is not set either.
            let result = write(&files, path, Some(0o600), body(Vec::new())).await;
            assert!(
                matches!(result, Err(ProviderError::BadPath { .. })),
                "{path}: {result:?}"
            );
        }
        assert_eq!(fs.stat_at(ROOT, b"/dir", true).unwrap().mode, 0o755);
    }

    #[tokio::test]
    async fn a_link_to_a_file_is_written_through() {
        let (fs, files) = files();
        write(&files, "/dir/file", None, body(vec![Ok("old".into())]))
            .await
            .unwrap();
        fs.symlink(b"/dir/file", ROOT, b"/link").unwrap();
        write(&files, "/link", None, body(vec![Ok("new".into())]))
            .await
            .unwrap();
        assert_eq!(contents(&fs, "/dir/file").await, b"new");
    }

    #[tokio::test]
    async fn a_transfer_that_breaks_off_leaves_the_old_file() {
        let (fs, files) = files();
        write(&files, "/dir/file", None, body(vec![Ok("old".into())]))
            .await
            .unwrap();
        let broken = vec![Ok("new".into()), Err(ProviderError::Invalid("gone".to_owned()))];
        assert!(write(&files, "/dir/file", None, body(broken)).await.is_err());
        assert_eq!(contents(&fs, "/dir/file").await, b"old");
        assert_eq!(list(&files, "/dir", &Page::default()).await.unwrap().entries.len(), 1);
    }

    #[tokio::test]
    async fn a_directory_is_listed_in_pages_without_gaps() {
        let (fs, files) = files();
        for number in 0..300 {
            let kind = NodeKind::Fifo;
            fs.mknod(ROOT, format!("/dir/{number:03}").as_bytes(), kind, 0o644)
                .unwrap();
        }
        fs.symlink(b"nowhere", ROOT, b"/dir/link").unwrap();
        fs.symlink(b"nowhere", ROOT, b"/dir/\xff\xfe").unwrap();
        let mut page = Page { after: None, limit: 7 };
        let mut names = Vec::new();
        for _ in 0..200 {
            let found = list(&files, "/dir/", &page).await.unwrap();
            assert!(found.entries.len() <= 7);
            names.extend(found.entries.into_iter().map(|info| info.path));
            let Some(next) = found.next else { break };
            page.after = Some(next);
        }
        let mut expected: Vec<String> = (0..300).map(|number| format!("/dir/{number:03}")).collect();
        expected.extend(["/dir/link".to_owned(), "/dir/\u{fffd}\u{fffd}".to_owned()]);
        assert_eq!(names, expected);
    }

    fn find_at_most(fs: &Fs, pattern: &str, max_visits: usize) -> Result<Vec<String>, ProviderError> {
        find(fs, pattern, max_visits, &CancellationToken::new())
    }

    #[test]
    fn a_pattern_looks_only_where_it_can_match() {
        let (fs, _) = files();
        fs.create_dir_all(ROOT, b"/dir/a/b/c/d", 0o755).unwrap();
        // The start, and one level below.
        assert_eq!(find_at_most(&fs, "/dir/*", 2).unwrap(), ["/dir/a"]);
        let all = find_at_most(&fs, "/dir/**", 100).unwrap();
        assert_eq!(all, ["/dir/a", "/dir/a/b", "/dir/a/b/c", "/dir/a/b/c/d"]);
        let limited = find_at_most(&fs, "/dir/**", 4);
        assert!(matches!(limited, Err(ProviderError::LimitReached(_))), "{limited:?}");
    }

    #[test]
    fn glob_skips_paths_that_are_too_long_and_stops_with_its_client() {
        let fs = Fs::new(Limits {
            max_bytes: 1 << 30,
            max_inodes: 10_000,
        });
        let mut directory = ROOT;
        for _ in 0..1000 {
            directory = fs.mkdir(directory, &[b'n'; 255], 0o755).unwrap();
        }
        let found = find_at_most(&fs, "/**", 100).unwrap();
        assert_eq!(found.len(), 15);
        assert!(found.iter().all(|path| path.len() <= MAX_PATH));
        for number in 0..1000 {
            fs.mkdir(ROOT, format!("/{number}").as_bytes(), 0o755).unwrap();
        }
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let stopped = find(&fs, "/**", 300, &cancelled);
        assert!(matches!(stopped, Err(ProviderError::Unavailable(_))), "{stopped:?}");
    }
}
