//! Finds the user that a container's programs run as, and gives that user its directories.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use bollard::body_full;
use bollard::models::ImageInspect;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::{BufMut as _, BytesMut};

use super::engine::{Connection, Engine};
use super::{files, script};
use crate::provider::ProviderError;
use crate::provider::archive::{self, Entry, EntryKind};

/// The user of images that name none but root.
pub const FALLBACK: &str = "1000:1000";
/// Directories in which root, who owns them in most images, would work.
const WORKPLACES: [&str; 6] = ["/", "/root", "/home", "/opt", "/srv", "/usr/local"];

/// The user to run as: the configured one, else the image's own, but never root unless configured.
pub fn user(configured: &str, of_image: &str) -> String {
    let is_root = |user: &str| matches!(user.split(':').next(), Some("" | "root" | "0"));
    if !configured.is_empty() {
        configured.to_owned()
    } else if is_root(of_image) {
        FALLBACK.to_owned()
    } else {
        of_image.to_owned()
    }
}

/// User and group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

impl Owner {
    /// Reads what `id -u` and `id -g` say.
    pub fn parse(uid: &str, gid: &str) -> Option<Self> {
        Some(Self {
            uid: uid.trim().parse().ok()?,
            gid: gid.trim().parse().ok()?,
        })
    }
}

/// Gives a new container's user the directories that root would work in: there is no root in it.
///
/// # Errors
/// When the engine fails.
pub async fn hand_over(
    engine: &Arc<Engine>,
    connection: &Connection,
    container: &str,
    image: &ImageInspect,
    user: &str,
) -> Result<(), ProviderError> {
    /// What to upload, by image and user: the directories of an image do not change.
    static PREPARED: Mutex<Option<HashMap<(String, String), bytes::Bytes>>> = Mutex::new(None);
    let key = (image.id.clone().unwrap_or_default(), user.to_owned());
    let known = {
        let prepared = PREPARED.lock();
        prepared.as_ref().and_then(|prepared| prepared.get(&key).cloned())
    };
    let upload = match known {
        Some(upload) => upload,
        None => {
            let upload = prepare(engine, container, image, user).await?;
            let mut prepared = PREPARED.lock();
            prepared.get_or_insert_default().insert(key, upload.clone());
            upload
        }
    };
    if upload.is_empty() {
        return Ok(());
    }
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let uploaded = connection
        .docker
        .upload_to_container(container, Some(options), body_full(upload));
    uploaded.await.map_err(|error| engine.failure(error))
}

/// An archive that changes nothing but the owner of the directories that there are.
async fn prepare(
    engine: &Arc<Engine>,
    container: &str,
    image: &ImageInspect,
    user: &str,
) -> Result<bytes::Bytes, ProviderError> {
    let owner = match user.split_once(':').and_then(|(uid, gid)| Owner::parse(uid, gid)) {
        Some(owner) => owner,
        None => ask(engine, container).await?,
    };
    if owner.uid == 0 {
        return Ok(bytes::Bytes::new());
    }
    let workdir = image
        .config
        .as_ref()
        .and_then(|config| config.working_dir.as_deref())
        .unwrap_or_default();
    let mut out = BytesMut::new();
    for path in WORKPLACES
        .into_iter()
        .chain((workdir.starts_with('/')).then_some(workdir))
    {
        // A link, or a file, is left as it is.
        let Ok(found) = files::look(engine, container, path).await else {
            continue;
        };
        if found.is_directory() {
            let entry = Entry {
                // The engine passes over an entry that is called `.`, but not over `/`.
                path: match path.trim_matches('/') {
                    "" => b"/".to_vec(),
                    path => path.as_bytes().to_vec(),
                },
                kind: EntryKind::Directory,
                mode: found.mode(),
                mtime: found.mtime_ns() / 1_000_000_000,
            };
            archive::encode(&entry, &mut out);
            archive::set_owner(&mut out, (owner.uid, owner.gid));
        }
    }
    out.put_slice(&archive::END);
    Ok(out.freeze())
}

/// Who a container's programs run as.
async fn ask(engine: &Arc<Engine>, container: &str) -> Result<Owner, ProviderError> {
    const MAX_OUTPUT: usize = 100;
    let told = script::run(engine, container, "id -u && id -g", &[], MAX_OUTPUT).await?;
    let text = String::from_utf8_lossy(&told.output);
    let mut lines = text.lines();
    let owner = lines
        .next()
        .zip(lines.next())
        .and_then(|(uid, gid)| Owner::parse(uid, gid));
    owner.ok_or_else(|| ProviderError::Unsupported("the image has no shell, or no `id`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_root_unless_configured() {
        for root in ["", "root", "0", "0:0", "root:root", "0:100"] {
            assert_eq!(user("", root), FALLBACK);
        }
        assert_eq!(user("", "node"), "node");
        assert_eq!(user("", "1001:5"), "1001:5");
        assert_eq!(user("0:0", "node"), "0:0");
    }
}
