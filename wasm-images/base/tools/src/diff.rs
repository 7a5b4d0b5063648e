//! `diff`: normal, unified and context-free brief output; directories with `-r`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::cli::{Spec, Takes, complain, fail, finish, reason, stdout};
use crate::glob;
use crate::listing::format_date;

const SPEC: Spec = Spec {
    short: "uU:rqsNiwbBaEx:L:c0123456789y",
    long: &[
        ("unified", "u", Takes::MaybeValue),
        ("recursive", "r", Takes::Nothing),
        ("brief", "q", Takes::Nothing),
        ("report-identical-files", "s", Takes::Nothing),
        ("new-file", "N", Takes::Nothing),
        ("ignore-case", "i", Takes::Nothing),
        ("ignore-all-space", "w", Takes::Nothing),
        ("ignore-space-change", "b", Takes::Nothing),
        ("ignore-trailing-space", "Z", Takes::Nothing),
        ("ignore-blank-lines", "B", Takes::Nothing),
        ("text", "a", Takes::Nothing),
        ("exclude", "x", Takes::Value),
        ("label", "L", Takes::Value),
        ("color", "color", Takes::MaybeValue),
        ("strip-trailing-cr", "cr", Takes::Nothing),
        ("normal", "normal", Takes::Nothing),
    ],
    permute: true,
};

/// Past this many edits the search for the shortest script is given up and the rest counts as changed.
const MAX_EDITS: usize = 3000;

struct Diff {
    unified: Option<usize>,
    recursive: bool,
    brief: bool,
    report_same: bool,
    new_file: bool,
    fold: bool,
    all_space: bool,
    space_change: bool,
    trailing: bool,
    blank_lines: bool,
    text: bool,
    excluded: Vec<String>,
    labels: Vec<String>,
    options: String,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.len() != 2 => return fail("diff", "usage: diff [OPTION]... FILE1 FILE2", 2),
        Ok(parsed) => parsed,
        Err(message) => return fail("diff", message, 2),
    };
    let unified = match (parsed.value("U"), parsed.value("u")) {
        (Some(lines), _) => Some(lines.parse().map_err(|_| lines)),
        (None, Some("")) => Some(Ok(3)),
        (None, Some(lines)) => Some(lines.parse().map_err(|_| lines)),
        (None, None) => parsed.has("c").then_some(Ok(3)),
    };
    let unified = match unified.transpose() {
        Ok(unified) => unified,
        Err(lines) => return fail("diff", format_args!("invalid context length '{lines}'"), 2),
    };
    let all = |key: &str| {
        parsed
            .options
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    };
    let diff = Diff {
        unified,
        recursive: parsed.has("r"),
        brief: parsed.has("q"),
        report_same: parsed.has("s"),
        new_file: parsed.has("N"),
        fold: parsed.has("i"),
        all_space: parsed.has("w"),
        space_change: parsed.has("b"),
        trailing: parsed.has("Z") || parsed.has("cr"),
        blank_lines: parsed.has("B"),
        text: parsed.has("a"),
        excluded: all("x"),
        labels: all("L"),
        options: args
            .iter()
            .skip(1)
            .filter(|word| word.starts_with('-') && word.len() > 1)
            .map(|word| format!(" {word}"))
            .collect(),
    };
    let mut out = stdout();
    let (mut left, mut right) = (PathBuf::from(&parsed.operands[0]), PathBuf::from(&parsed.operands[1]));
    let (left_dir, right_dir) = (left.is_dir(), right.is_dir());
    if left_dir && !right_dir {
        left.push(right.file_name().unwrap_or_default());
    } else if right_dir && !left_dir {
        right.push(left.file_name().unwrap_or_default());
    }
    let status = if left_dir && right_dir {
        diff.trees(&left, &right, &mut out)
    } else {
        diff.files(&left, &right, &mut out)
    };
    finish("diff", out, status)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(path)
}

/// Lines with their newlines.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|b| *b == b'\n').collect()
}

/// A changed region: lines `a.0..a.1` of the first file became `b.0..b.1` of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    a: (usize, usize),
    b: (usize, usize),
}

/// The changes between two sequences (E. Myers, "An O(ND) Difference Algorithm", 1986).
fn changes(a: &[u32], b: &[u32]) -> Vec<Change> {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let suffix = a[prefix..]
        .iter()
        .rev()
        .zip(b[prefix..].iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (inner_a, inner_b) = (&a[prefix..a.len() - suffix], &b[prefix..b.len() - suffix]);
    let (n, m) = (inner_a.len() as isize, inner_b.len() as isize);
    if n == 0 && m == 0 {
        return Vec::new();
    }
    let whole = Change {
        a: (prefix, a.len() - suffix),
        b: (prefix, b.len() - suffix),
    };
    if n == 0 || m == 0 {
        return vec![whole];
    }
    let limit = ((n + m) as usize).min(MAX_EDITS);
    let mut trace: Vec<Vec<isize>> = Vec::new();
    let mut furthest = vec![0_isize; 2 * limit + 3];
    let middle = limit as isize + 1;
    let at = |k: isize| (middle + k) as usize;
    let mut edits = None;
    'search: for d in 0..=limit as isize {
        trace.push(furthest[at(-d)..=at(d)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || k != d && furthest[at(k - 1)] < furthest[at(k + 1)];
            let mut x = if down {
                furthest[at(k + 1)]
            } else {
                furthest[at(k - 1)] + 1
            };
            while x < n && x - k < m && x - k >= 0 && inner_a[x as usize] == inner_b[(x - k) as usize] {
                x += 1;
            }
            furthest[at(k)] = x;
            if x >= n && x - k >= m {
                edits = Some(d);
                break 'search;
            }
        }
    }
    let Some(edits) = edits else { return vec![whole] };
    let mut matched = vec![None; inner_a.len()];
    let (mut x, mut y) = (n, m);
    for d in (0..=edits).rev() {
        let row = &trace[d as usize];
        // Row d holds the furthest points after d-1 edits, for k from -d to d.
        let get = |k: isize| row[(k + d) as usize];
        let k = x - y;
        let (from_x, from_y) = if d == 0 {
            (0, 0)
        } else {
            let down = k == -d || k != d && get(k - 1) < get(k + 1);
            let from_k = if down { k + 1 } else { k - 1 };
            (get(from_k), get(from_k) - from_k)
        };
        while x > from_x && y > from_y && inner_a[(x - 1) as usize] == inner_b[(y - 1) as usize] {
            x -= 1;
            y -= 1;
            matched[x as usize] = Some(y as usize);
        }
        (x, y) = (from_x, from_y);
    }
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < inner_a.len() || j < inner_b.len() {
        let start = (i, j);
        while i < inner_a.len() && matched[i].is_none() {
            i += 1;
        }
        j = if i < inner_a.len() {
            matched[i].unwrap_or(j)
        } else {
            inner_b.len()
        };
        if (i, j) != start {
            found.push(Change {
                a: (prefix + start.0, prefix + i),
                b: (prefix + start.1, prefix + j),
            });
        }
        while i < inner_a.len() && matched[i] == Some(j) {
            i += 1;
            j += 1;
        }
    }
    found
}

impl Diff {
    /// What of a line counts for comparison.
    fn normal(&self, line: &[u8]) -> Vec<u8> {
        let mut line = line
            .strip_suffix(b"\n")
            .map_or_else(|| [line, b"\0"].concat(), <[u8]>::to_vec);
        if self.all_space || self.space_change || self.trailing {
            if line.last() == Some(&0) {
                line.pop();
            }
            if self.all_space {
                line.retain(|b| !b.is_ascii_whitespace());
            } else {
                line.truncate(line.trim_ascii_end().len());
            }
            if self.space_change {
                line.dedup_by(|next, before| next.is_ascii_whitespace() && before.is_ascii_whitespace());
                line.iter_mut()
                    .filter(|b| b.is_ascii_whitespace())
                    .for_each(|b| *b = b' ');
            }
        }
        if self.fold {
            String::from_utf8_lossy(&line).to_lowercase().into_bytes()
        } else {
            line
        }
    }

    fn trees(&self, left: &Path, right: &Path, out: &mut impl Write) -> i32 {
        let mut status = 0;
        let mut pending = vec![(left.to_owned(), right.to_owned())];
        while let Some((left, right)) = pending.pop() {
            let names = |directory: &Path| -> BTreeSet<_> {
                fs::read_dir(directory)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.file_name())
                    .collect()
            };
            let (left_names, right_names) = (names(&left), names(&right));
            let mut below = Vec::new();
            for name in left_names.union(&right_names) {
                if self
                    .excluded
                    .iter()
                    .any(|pattern| glob::matches(pattern, &name.to_string_lossy(), false))
                {
                    continue;
                }
                let (a, b) = (left.join(name), right.join(name));
                let one_sided = match (left_names.contains(name), right_names.contains(name)) {
                    (true, false) => Some((&left, &a)),
                    (false, true) => Some((&right, &b)),
                    _ => None,
                };
                let (a_dir, b_dir) = (a.is_dir(), b.is_dir());
                match one_sided {
                    Some((_, _)) if self.new_file && (a_dir || b_dir) => below.push((a, b)),
                    Some((directory, _)) if !self.new_file => {
                        let _ = writeln!(out, "Only in {}: {}", directory.display(), name.to_string_lossy());
                        status = status.max(1);
                    }
                    _ if a_dir && b_dir => {
                        if self.recursive {
                            below.push((a, b));
                        } else {
                            let _ = writeln!(out, "Common subdirectories: {} and {}", a.display(), b.display());
                        }
                    }
                    _ if a_dir != b_dir => {
                        let kind = |dir: bool| if dir { "directory" } else { "regular file" };
                        let _ = writeln!(
                            out,
                            "File {} is a {} while file {} is a {}",
                            a.display(),
                            kind(a_dir),
                            b.display(),
                            kind(b_dir)
                        );
                        status = status.max(1);
                    }
                    _ => {
                        let mut text = Vec::new();
                        let result = self.files(&a, &b, &mut text);
                        if result == 1 && !self.brief {
                            let _ = writeln!(out, "diff{} {} {}", self.options, a.display(), b.display());
                        }
                        let _ = out.write_all(&text);
                        status = status.max(result);
                    }
                }
            }
            pending.extend(below.into_iter().rev());
        }
        status
    }

    fn files(&self, left: &Path, right: &Path, out: &mut impl Write) -> i32 {
        let load = |path: &Path| match read(path) {
            Err(error) if self.new_file && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        let (a, b) = match (load(left), load(right)) {
            (Ok(a), Ok(b)) => (a, b),
            (a, b) => {
                for (path, result) in [(left, a), (right, b)] {
                    if let Err(error) = result {
                        complain("diff", format_args!("{}: {}", path.display(), reason(&error)));
                    }
                }
                return 2;
            }
        };
        let same = |out: &mut dyn Write| {
            if self.report_same {
                let _ = writeln!(out, "Files {} and {} are identical", left.display(), right.display());
            }
            0
        };
        if a == b {
            return same(out);
        }
        let binary = |bytes: &[u8]| bytes.iter().take(8192).any(|b| *b == 0);
        if !self.text && (binary(&a) || binary(&b)) {
            let _ = writeln!(out, "Binary files {} and {} differ", left.display(), right.display());
            return 1;
        }
        let (a, b) = (lines(&a), lines(&b));
        let mut numbers: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut identify = |lines: &[&[u8]]| -> Vec<u32> {
            lines
                .iter()
                .map(|line| {
                    let next = numbers.len() as u32;
                    *numbers.entry(self.normal(line)).or_insert(next)
                })
                .collect()
        };
        let (a_ids, b_ids) = (identify(&a), identify(&b));
        let mut found = changes(&a_ids, &b_ids);
        if self.blank_lines {
            let blank = |line: &&[u8]| line.trim_ascii().is_empty();
            found.retain(|c| !(a[c.a.0..c.a.1].iter().all(blank) && b[c.b.0..c.b.1].iter().all(blank)));
        }
        if found.is_empty() {
            return same(out);
        }
        if self.brief {
            let _ = writeln!(out, "Files {} and {} differ", left.display(), right.display());
        } else if let Some(context) = self.unified {
            self.header(left, right, out);
            unified(&a, &b, &found, context, out);
        } else {
            normal(&a, &b, &found, out);
        }
        1
    }

    fn header(&self, left: &Path, right: &Path, out: &mut impl Write) {
        for (index, (mark, path)) in [("---", left), ("+++", right)].into_iter().enumerate() {
            let name = match self.labels.get(index) {
                Some(label) => label.clone(),
                None => {
                    let changed = fs::metadata(path).and_then(|meta| meta.modified()).ok();
                    let nanos = changed
                        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                        .map_or(0, |since| since.as_nanos() as u64);
                    format!("{}\t{}", path.display(), format_date(nanos, "%Y-%m-%d %H:%M:%S.%N %z"))
                }
            };
            let _ = writeln!(out, "{mark} {name}");
        }
    }
}

fn put(mark: &str, line: &[u8], out: &mut impl Write) {
    let _ = out.write_all(mark.as_bytes());
    let _ = out.write_all(line);
    if !line.ends_with(b"\n") {
        let _ = out.write_all(b"\n\\ No newline at end of file\n");
    }
}

fn normal(a: &[&[u8]], b: &[&[u8]], found: &[Change], out: &mut impl Write) {
    let range = |(from, to): (usize, usize)| match to - from {
        0 => from.to_string(),
        1 => to.to_string(),
        _ => format!("{},{to}", from + 1),
    };
    for change in found {
        let (deleted, added) = (change.a.1 > change.a.0, change.b.1 > change.b.0);
        let kind = match (deleted, added) {
            (true, true) => 'c',
            (true, false) => 'd',
            _ => 'a',
        };
        let _ = writeln!(out, "{}{kind}{}", range(change.a), range(change.b));
        a[change.a.0..change.a.1].iter().for_each(|line| put("< ", line, out));
        if deleted && added {
            let _ = writeln!(out, "---");
        }
        b[change.b.0..change.b.1].iter().for_each(|line| put("> ", line, out));
    }
}

fn unified(a: &[&[u8]], b: &[&[u8]], found: &[Change], context: usize, out: &mut impl Write) {
    let mut rest = found;
    while let Some(first) = rest.first() {
        // Changes nearer than twice the context share a hunk.
        let near = |pair: &[Change]| pair[1].a.0 - pair[0].a.1 <= context.saturating_mul(2);
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (hunk, later) = rest.split_at(count);
        rest = later;
        let last = &hunk[count - 1];
        let start_a = first.a.0.saturating_sub(context);
        let start_b = first.b.0 - (first.a.0 - start_a);
        let end_a = last.a.1.saturating_add(context).min(a.len());
        let end_b = last.b.1 + (end_a - last.a.1);
        let range = |from: usize, to: usize| match to - from {
            0 => format!("{from},0"),
            1 => to.to_string(),
            length => format!("{},{length}", from + 1),
        };
        let _ = writeln!(out, "@@ -{} +{} @@", range(start_a, end_a), range(start_b, end_b));
        let mut at = start_a;
        for change in hunk {
            a[at..change.a.0].iter().for_each(|line| put(" ", line, out));
            a[change.a.0..change.a.1].iter().for_each(|line| put("-", line, out));
            b[change.b.0..change.b.1].iter().for_each(|line| put("+", line, out));
            at = change.a.1;
        }
        a[at..end_a].iter().for_each(|line| put(" ", line, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rebuilds the second sequence from the first and the changes.
    fn apply(a: &[u32], b: &[u32]) -> Vec<u32> {
        let mut result = Vec::new();
        let mut at = 0;
        for change in changes(a, b) {
            result.extend(&a[at..change.a.0]);
            result.extend(&b[change.b.0..change.b.1]);
            at = change.a.1;
        }
        result.extend(&a[at..]);
        result
    }

    #[test]
    fn the_changes_lead_from_one_to_the_other() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        for _ in 0..500 {
            let a: Vec<u32> = (0..next() % 12).map(|_| next() % 4).collect();
            let b: Vec<u32> = (0..next() % 12).map(|_| next() % 4).collect();
            assert_eq!(apply(&a, &b), b, "{a:?} {b:?}");
        }
    }
}
