//! Lists directories in pages, because a directory may have a million entries and an answer may not.

use serde::{Deserialize, Serialize};

use super::{FileInfo, ProviderError};

/// Most entries of one page.
pub const MAX_PAGE: usize = 1000;

/// Begins a cursor that is not simply a name. No name contains a slash.
const RAW: char = '/';

/// Which entries of a directory one call of [`Provider::list_dir`](super::Provider::list_dir) gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Only entries that come after this cursor: a name, which need not exist, or what [`DirPage::next`] gave. From the
    /// first entry on when `None`.
    pub after: Option<String>,
    /// Most entries, at least 1. There are never more than [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for Page {
    /// The first page, as large as they get.
    fn default() -> Self {
        Self {
            after: None,
            limit: MAX_PAGE,
        }
    }
}

impl Page {
    /// The name after which the page begins.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] when the cursor is none.
    pub fn after_name(&self) -> Result<Option<Vec<u8>>, ProviderError> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let name = match cursor.strip_prefix(RAW) {
            Some(digits) => hex::decode(digits).ok().filter(|name| !name.is_empty()),
            None => Some(cursor.as_bytes().to_vec()),
        };
        name.map(Some)
            .ok_or_else(|| ProviderError::Invalid("after: neither a name nor a cursor of an earlier answer".to_owned()))
    }

    /// How many entries the page has at most.
    #[must_use]
    pub fn size(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE)
    }

    /// The page of these entries, which are all of a directory in the order of their names.
    ///
    /// # Errors
    /// As [`Page::after_name`].
    pub fn of(&self, entries: Vec<(Vec<u8>, FileInfo)>) -> Result<DirPage, ProviderError> {
        let after = self.after_name()?;
        let first = after.map_or(0, |after| entries.partition_point(|(name, _)| *name <= after));
        let last = entries.len().min(first + self.size());
        let next = (last < entries.len()).then(|| cursor(&entries[last - 1].0));
        let entries = entries.into_iter().skip(first).take(self.size());
        Ok(DirPage {
            entries: entries.map(|(_, info)| info).collect(),
            next,
        })
    }
}

/// Some entries of a directory, in the byte order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirPage {
    /// The entries. Their number says nothing about whether there are more.
    pub entries: Vec<FileInfo>,
    /// The cursor of the page that follows; `None` when this is the last.
    pub next: Option<String>,
}

/// The cursor after the entry `name`: the name itself, or a slash and hexadecimal digits when the name is not UTF-8. A
/// name with U+FFFD in place of its bytes would lead back to the same entry.
#[must_use]
pub fn cursor(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => format!("{RAW}{}", hex::encode(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8]) -> (Vec<u8>, FileInfo) {
        let shown = String::from_utf8_lossy(name).into_owned();
        let info = FileInfo {
            path: format!("/{shown}"),
            name: shown,
            size: 0,
            is_dir: false,
            mtime_ns: 0,
            mode: 0o644,
        };
        (name.to_vec(), info)
    }

    #[test]
    fn pages_lead_past_names_that_are_not_utf8() {
        let names: [&[u8]; 5] = [b"a", b"b", b"\xe4", b"\xe5", b"\xef\xbf\xbd"];
        let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
        let mut seen = Vec::new();
        let mut page = Page { after: None, limit: 1 };
        for _ in 0..names.len() {
            let found = page.of(entries.clone()).unwrap();
            seen.extend(found.entries);
            page.after = found.next;
        }
        assert_eq!(seen, entries.iter().map(|(_, info)| info.clone()).collect::<Vec<_>>());
        assert_eq!(page.after, None);
    }

    #[test]
    fn a_page_has_a_bounded_number_of_entries() {
        let entries: Vec<_> = (0..3000)
            .map(|number| entry(format!("{number:04}").as_bytes()))
            .collect();
        let of = |after: Option<&str>, limit| {
            let after = after.map(str::to_owned);
            Page { after, limit }.of(entries.clone()).unwrap()
        };
        assert_eq!(of(None, usize::MAX).entries.len(), MAX_PAGE);
        assert_eq!(of(None, 0).entries.len(), 1);
        // A name that is not there is a place in the order all the same.
        assert_eq!(of(Some("0002x"), 2).entries[0].name, "0003");
        assert_eq!(
            of(Some("2999"), 2),
            DirPage {
                entries: Vec::new(),
                next: None
            }
        );
        for bad in ["/", "/0", "/0g", "/0\u{e9}"] {
            let page = Page {
                after: Some(bad.to_owned()),
                limit: 1,
            };
            assert!(matches!(page.of(Vec::new()), Err(ProviderError::Invalid(_))), "{bad}");
        }
    }
}
