//! Patterns of paths, as `GET /files/glob` takes them.

use globset::{GlobBuilder, GlobSet};

use super::ProviderError;

/// Most paths a pattern may find.
const MAX_MATCHES: usize = 10_000;

/// An absolute pattern with `*`, `?`, `[…]`, `{a,b}` and `**`.
pub struct PathPattern<'a> {
    pattern: &'a str,
    matcher: GlobSet,
    /// Where its literal part ends; a directory.
    start: &'a str,
}

impl<'a> PathPattern<'a> {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] when it is malformed, or too long.
    pub fn new(pattern: &'a str) -> Result<Self, ProviderError> {
        let invalid = |error: globset::Error| {
            ProviderError::Invalid(match error.kind() {
                // The message repeats the whole expression, which is longer than the pattern.
                globset::ErrorKind::Regex(_) => "pattern: nested too deep or too long".to_owned(),
                kind => format!("pattern: {kind}"),
            })
        };
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(invalid)?;
        // A single `Glob` panics where a set reports that the expression is beyond the limits of the regex engine.
        let matcher = GlobSet::builder().add(glob).build().map_err(invalid)?;
        let literal = pattern
            .find(['*', '?', '[', '{', '\\'])
            .map_or(pattern, |end| &pattern[..end]);
        let start = literal
            .rsplit_once('/')
            .map_or("/", |(directory, _)| if directory.is_empty() { "/" } else { directory });
        Ok(Self {
            pattern,
            matcher,
            start,
        })
    }

    /// The directory below which everything that matches lies.
    pub fn start(&self) -> &'a str {
        self.start
    }

    /// How many levels below [`PathPattern::start`] a path that matches may lie; `None` for any number.
    pub fn depth(&self) -> Option<usize> {
        let rest = self.pattern.strip_prefix(self.start).unwrap_or(self.pattern);
        // An alternative or a class may hold a slash.
        let bounded = !rest.contains("**") && !rest.contains(['{', '[', '\\']);
        bounded.then(|| rest.trim_start_matches('/').matches('/').count() + 1)
    }

    /// Collects what matches.
    pub fn matches(&self) -> Matches<'_> {
        Matches {
            matcher: &self.matcher,
            found: Vec::new(),
        }
    }
}

/// The paths found so far.
pub struct Matches<'a> {
    matcher: &'a GlobSet,
    found: Vec<String>,
}

impl Matches<'_> {
    /// Keeps a path if it matches. `false` when there are too many, and no more need be offered.
    pub fn offer(&mut self, path: String) -> bool {
        if self.matcher.is_match(&path) {
            self.found.push(path);
        }
        self.found.len() <= MAX_MATCHES
    }

    /// All that matched, in order.
    ///
    /// # Errors
    /// [`ProviderError::LimitReached`] when there are too many.
    pub fn found(mut self) -> Result<Vec<String>, ProviderError> {
        if self.found.len() > MAX_MATCHES {
            return Err(ProviderError::LimitReached(format!(
                "more than {MAX_MATCHES} paths match"
            )));
        }
        self.found.sort_unstable();
        Ok(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_tells_where_and_how_deep_to_look() {
        for (pattern, start, depth) in [
            ("/app/*.py", "/app", Some(1)),
            ("/app/*/x.py", "/app", Some(2)),
            ("/*", "/", Some(1)),
            ("/app/file", "/app", Some(1)),
            ("/app/**/*.py", "/app", None),
            ("/app/{a/b,c}", "/app", None),
            ("/a/b?/c[/]d", "/a", None),
        ] {
            let read = PathPattern::new(pattern).unwrap();
            assert_eq!((read.start(), read.depth()), (start, depth), "{pattern}");
        }
    }
}
