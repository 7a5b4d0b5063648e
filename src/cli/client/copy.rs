//! `wisp cp`: files and directories into a sandbox, and out of one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::{Body, Method, RequestBuilder};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::{Client, ClientError, component, innermost, pack, send, unpack};
use crate::cli::CopyArgs;
use crate::provider::ProviderError;

/// Permission bits of a file that are kept, less the umask.
const KEPT_BITS: u32 = 0o777;
/// Bytes of a file that are read at once.
const PIECE: usize = 64 << 10;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// On this machine.
    Here(&'a str),
    /// In a sandbox.
    Sandbox { id: &'a str, path: &'a str },
}

impl<'a> Place<'a> {
    /// `ID:PATH` is in a sandbox; what has a slash before the colon, or none, is here.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((id, path)) if !id.is_empty() && !id.contains('/') => Self::Sandbox { id, path },
            _ => Self::Here(text),
        }
    }
}

/// What the server reports about a file.
#[derive(Deserialize)]
struct Stat {
    is_dir: bool,
    mode: String,
}

/// The files of a sandbox.
struct Files<'a> {
    client: Client<'a>,
    id: &'a str,
}

/// Copies; a message on standard error for each thing that is left out.
///
/// # Errors
/// What the server reports, and what cannot be read or written here.
pub async fn copy(args: &CopyArgs) -> Result<ExitCode, ClientError> {
    let files = |id| {
        Ok::<_, ClientError>(Files {
            client: Client::new(&args.server)?,
            id: component(id)?,
        })
    };
    match (Place::parse(&args.source), Place::parse(&args.destination)) {
        (Place::Sandbox { id, path }, Place::Here(here)) => files(id)?.download(path, here).await,
        (Place::Here(here), Place::Sandbox { id, path }) => files(id)?.upload(here, path).await,
        _ => Err(ClientError::Usage(
            "one side must be in a sandbox, ID:PATH, and the other on this machine".to_owned(),
        )),
    }
}

impl Files<'_> {
    async fn download(&self, path: &str, here: &str) -> Result<ExitCode, ClientError> {
        let Some(stat) = self.stat(path).await? else {
            return Err(ClientError::Usage(format!(
                "{}:{path}: no such file or directory",
                self.id
            )));
        };
        let name = own_name(path);
        let directory = Path::new(here);
        let target = match name {
            Some(name) if directory.is_dir() => directory.join(name),
            _ => directory.to_owned(),
        };
        let failed = |source| ClientError::Local {
            path: target.clone(),
            source,
        };
        if stat.is_dir {
            fs::create_dir_all(&target).map_err(failed)?;
            let tar = send(self.request(Method::GET, "/archive", path, &[])?).await?;
            let tar = tar.bytes_stream().map_err(|error| {
                ProviderError::Unavailable(format!("cannot talk to the server: {}", innermost(&error)))
            });
            let complete = unpack::unpack(tar.boxed(), &target).await?;
            return Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let mut contents = send(self.request(Method::GET, "", path, &[])?).await?.bytes_stream();
        let mode = u32::from_str_radix(&stat.mode, 8).unwrap_or(0o644) & KEPT_BITS;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&target).map_err(failed)?;
        while let Some(piece) = contents.next().await {
            file.write_all(&piece?).map_err(failed)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn upload(&self, here: &str, path: &str) -> Result<ExitCode, ClientError> {
        let source = PathBuf::from(here);
        let failed = |source_error| ClientError::Local {
            path: PathBuf::from(here),
            source: source_error,
        };
        let metadata = fs::metadata(&source).map_err(failed)?;
        let is_directory = self.stat(path).await?.is_some_and(|stat| stat.is_dir);
        let target = match own_name(here) {
            Some(name) if is_directory => format!("{}/{name}", path.trim_end_matches('/')),
            _ => path.to_owned(),
        };
        let request = if metadata.is_dir() {
            let tar = pack::pack(source);
            self.request(Method::PUT, "/archive", &target, &[])?
                .header("content-type", "application/x-tar")
                .body(Body::wrap_stream(tar))
        } else {
            let mode = format!("{:o}", metadata.permissions().mode() & KEPT_BITS);
            let file = tokio::fs::File::open(&source).await.map_err(failed)?;
            self.request(Method::PUT, "", &target, &[("mode", &mode)])?
                .body(Body::wrap_stream(ReaderStream::with_capacity(file, PIECE)))
        };
        send(request).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// A file of the sandbox; `None` when there is none.
    async fn stat(&self, path: &str) -> Result<Option<Stat>, ClientError> {
        match send(self.request(Method::GET, "/stat", path, &[])?).await {
            Ok(answer) => Ok(Some(answer.json().await?)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn request(
        &self,
        method: Method,
        resource: &str,
        path: &str,
        more: &[(&str, &str)],
    ) -> Result<RequestBuilder, ClientError> {
        let route = format!("/sandboxes/{}/files{resource}", self.id);
        let path = path.strip_suffix("/.").unwrap_or(path);
        let path = if path.is_empty() { "/" } else { path };
        let query = [&[("path", path)], more].concat();
        self.client.request(method, &route, &query)
    }
}

/// The name under which something is put into a directory; `None` where the path stands for what is in it.
fn own_name(path: &str) -> Option<&str> {
    if path.ends_with("/.") {
        return None;
    }
    Path::new(path).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_a_sandbox_when_an_id_comes_before_the_path() {
        let (id, path) = ("sb_1", "/a:b");
        assert_eq!(Place::parse("sb_1:/a:b"), Place::Sandbox { id, path });
        for here in ["a", "/a", "./a:b", "d/a:b", ":a"] {
            assert_eq!(Place::parse(here), Place::Here(here));
        }
    }

    #[test]
    fn what_is_in_a_directory_has_no_name_of_its_own() {
        for (path, name) in [("/a/b", "b"), ("a/b/", "b"), ("b", "b")] {
            assert_eq!(own_name(path), Some(name), "{path}");
        }
        for path in ["/", ".", "..", "/a/.", "a/.."] {
            assert_eq!(own_name(path), None, "{path}");
        }
    }
}
