//! `find`: the expression is parsed into a flat list of nodes, the tree is walked with an explicit stack.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wisp_sys::{Command, Stat};

use crate::cli::{complain, fail, finish, reason, stdout};
use crate::glob;
use crate::listing::{Owners, date_for_listing, format_date, permission_letters, type_letter};
use crate::matcher::{Bounds, Matcher, Syntax};
use crate::posix_regex::Dialect;

/// A number with `+` (more), `-` (less) or nothing (exactly) before it.
#[derive(Clone, Copy, Debug)]
enum Compare {
    More(i64),
    Less(i64),
    Equal(i64),
}

impl Compare {
    fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| digits.parse().ok();
        match text.as_bytes().first()? {
            b'+' => number(&text[1..]).map(Self::More),
            b'-' => number(&text[1..]).map(Self::Less),
            _ => number(text).map(Self::Equal),
        }
    }

    fn holds(self, value: i64) -> bool {
        match self {
            Self::More(limit) => value > limit,
            Self::Less(limit) => value < limit,
            Self::Equal(wanted) => value == wanted,
        }
    }
}

/// How `-perm` compares.
#[derive(Clone, Copy, Debug)]
enum Permission {
    Exactly(u32),
    All(u32),
    Any(u32),
}

/// Which of a file's times.
#[derive(Clone, Copy, Debug)]
enum Time {
    Access,
    Change,
    Modification,
}

impl Time {
    fn of(self, stat: &Stat) -> u64 {
        match self {
            Self::Access => stat.atime,
            Self::Change => stat.ctime,
            Self::Modification => stat.mtime,
        }
    }
}

/// A command of `-exec` and its relatives.
struct Exec {
    words: Vec<String>,
    /// Ended by `+`: as many names as fit per run.
    batch: bool,
    /// Run in the file's own directory.
    in_directory: bool,
    /// Names a `+` form collected: (directory to run in, name).
    collected: std::cell::RefCell<Vec<(Option<PathBuf>, String)>>,
}

enum Node {
    And(usize, usize),
    Or(usize, usize),
    List(usize, usize),
    Not(usize),
    Const(bool),
    Name {
        glob: String,
        fold: bool,
    },
    Path {
        glob: String,
        fold: bool,
    },
    LinkName {
        glob: String,
        fold: bool,
    },
    Regex(Box<Matcher>),
    Type(String),
    /// The type of what a link leads to; a broken link is of type `l`.
    TargetType(String),
    Size {
        unit: u64,
        compare: Compare,
    },
    Age {
        time: Time,
        unit: u64,
        compare: Compare,
    },
    Newer {
        time: Time,
        than: u64,
    },
    Permission(Permission),
    Links(Compare),
    Inode(Compare),
    User(u32),
    Group(u32),
    Access(u32),
    SameFile(u64, u64),
    Empty,
    Prune,
    Quit,
    Print(u8),
    Printf(String),
    List_,
    Delete,
    Exec(Exec),
}

struct Options {
    min_depth: usize,
    max_depth: usize,
    depth_first: bool,
    follow: bool,
    same_device: bool,
    ignore_race: bool,
}

struct Parser<'a> {
    words: &'a [String],
    at: usize,
    nodes: Vec<Node>,
    options: Options,
    acts: bool,
    dialect: Dialect,
    depth: usize,
}

/// Parentheses and `!` may nest this deep; the evaluation recurses as deep as the expression.
const MAX_NESTING: usize = 200;

struct Find {
    nodes: Vec<Node>,
    root: usize,
    options: Options,
    now: u64,
    status: std::cell::Cell<i32>,
    quit: std::cell::Cell<bool>,
    owners: Owners,
}

/// One file under test.
struct Entry {
    path: String,
    base_len: usize,
    depth: usize,
    stat: Stat,
    prune: std::cell::Cell<bool>,
}

impl Entry {
    fn name(&self) -> &str {
        let trimmed = self.path.trim_end_matches('/');
        if trimmed.is_empty() {
            "/"
        } else {
            trimmed.rsplit('/').next().unwrap_or(trimmed)
        }
    }
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default();
    let mut follow = false;
    while let Some(first) = words.first() {
        match first.as_str() {
            "-H" | "-P" => follow = false,
            "-L" => follow = true,
            "--help" => {
                println!("Usage: find [-H] [-L] [-P] [path...] [expression]");
                return 0;
            }
            _ => break,
        }
        words = &words[1..];
    }
    let starts_expression =
        |word: &String| word.len() > 1 && word.starts_with('-') || ["!", "(", ")", ","].contains(&word.as_str());
    let paths_end = words.iter().position(starts_expression).unwrap_or(words.len());
    let (paths, expression) = words.split_at(paths_end);
    let mut parser = Parser {
        words: expression,
        at: 0,
        nodes: Vec::new(),
        options: Options {
            min_depth: 0,
            max_depth: usize::MAX,
            depth_first: false,
            follow,
            same_device: false,
            ignore_race: false,
        },
        acts: false,
        dialect: Dialect::Basic,
        depth: 0,
    };
    let root = match parser.whole() {
        Ok(root) => root,
        Err(message) => return fail("find", message, 1),
    };
    let find = Find {
        nodes: parser.nodes,
        root,
        options: parser.options,
        now: now(),
        status: std::cell::Cell::new(0),
        quit: std::cell::Cell::new(false),
        owners: Owners::read(),
    };
    let mut out = stdout();
    let dot = [".".to_owned()];
    for path in if paths.is_empty() { &dot[..] } else { paths } {
        find.walk(path, &mut out);
        if find.quit.get() {
            break;
        }
    }
    find.run_collected(&mut out);
    finish("find", out, find.status.get())
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

impl Parser<'_> {
    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn argument(&mut self, of: &str) -> Result<String, String> {
        let value = self
            .words
            .get(self.at)
            .cloned()
            .ok_or_else(|| format!("missing argument to '{of}'"))?;
        self.at += 1;
        Ok(value)
    }

    fn whole(&mut self) -> Result<usize, String> {
        let root = if self.words.is_empty() {
            self.add(Node::Const(true))
        } else {
            self.list()?
        };
        if let Some(word) = self.peek() {
            return Err(if word == ")" {
                "you have too many ')'".into()
            } else {
                format!("paths must precede expression: '{word}'")
            });
        }
        if self.acts {
            return Ok(root);
        }
        let print = self.add(Node::Print(b'\n'));
        Ok(self.add(Node::And(root, print)))
    }

    fn list(&mut self) -> Result<usize, String> {
        let mut left = self.or()?;
        while self.peek() == Some(",") {
            self.at += 1;
            let right = self.or()?;
            left = self.add(Node::List(left, right));
        }
        Ok(left)
    }

    fn or(&mut self) -> Result<usize, String> {
        let mut left = self.and()?;
        while matches!(self.peek(), Some("-o" | "-or")) {
            self.at += 1;
            let right = self.and()?;
            left = self.add(Node::Or(left, right));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<usize, String> {
        let mut left = self.not()?;
        loop {
            match self.peek() {
                None | Some("-o" | "-or" | ")" | ",") => return Ok(left),
                Some("-a" | "-and") => self.at += 1,
                Some(_) => {}
            }
            let right = self.not()?;
            left = self.add(Node::And(left, right));
        }
    }

    fn not(&mut self) -> Result<usize, String> {
        let mut negated = false;
        while matches!(self.peek(), Some("!" | "-not")) {
            negated = !negated;
            self.at += 1;
        }
        let node = self.primary()?;
        Ok(if negated { self.add(Node::Not(node)) } else { node })
    }

    fn primary(&mut self) -> Result<usize, String> {
        let Some(word) = self.words.get(self.at).cloned() else {
            return Err("expected an expression at the end".into());
        };
        self.at += 1;
        if word == "(" {
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err("parentheses are nested too deeply".into());
            }
            let inner = self.list()?;
            if self.peek() != Some(")") {
                return Err("I was expecting to find a ')' somewhere but did not see one.".into());
            }
            self.at += 1;
            self.depth -= 1;
            return Ok(inner);
        }
        let node = self.test(&word)?;
        Ok(self.add(node))
    }

    fn number<T: std::str::FromStr>(&mut self, of: &str) -> Result<T, String> {
        let text = self.argument(of)?;
        text.parse().map_err(|_| format!("invalid argument '{text}' to '{of}'"))
    }

    fn compare(&mut self, of: &str) -> Result<Compare, String> {
        let text = self.argument(of)?;
        Compare::parse(&text).ok_or_else(|| format!("invalid argument '{text}' to '{of}'"))
    }

    #[allow(clippy::too_many_lines, reason = "one arm per primary of find(1)")]
    fn test(&mut self, word: &str) -> Result<Node, String> {
        const MINUTE: u64 = 60_000_000_000;
        const DAY: u64 = 24 * 60 * MINUTE;
        Ok(match word {
            "-name" | "-iname" => Node::Name {
                glob: self.argument(word)?,
                fold: word == "-iname",
            },
            "-path" | "-wholename" => Node::Path {
                glob: self.argument(word)?,
                fold: false,
            },
            "-ipath" | "-iwholename" => Node::Path {
                glob: self.argument(word)?,
                fold: true,
            },
            "-lname" | "-ilname" => Node::LinkName {
                glob: self.argument(word)?,
                fold: word == "-ilname",
            },
            "-regex" | "-iregex" => {
                let pattern = self.argument(word)?;
                // The default syntax is Emacs': basic with bare + ? *, close to basic with GNU's operators.
                let matcher = Matcher::new(&[pattern], Syntax::Posix(self.dialect), Bounds::Line, word == "-iregex")?;
                Node::Regex(Box::new(matcher))
            }
            "-regextype" => {
                let kind = self.argument(word)?;
                self.dialect = if matches!(
                    kind.as_str(),
                    "posix-extended" | "egrep" | "awk" | "posix-egrep" | "gnu-awk" | "posix-awk"
                ) {
                    Dialect::Extended
                } else {
                    Dialect::Basic
                };
                Node::Const(true)
            }
            "-type" | "-xtype" => {
                let types = self.argument(word)?;
                if types.is_empty() || !types.chars().all(|c| "fdlpbcs,".contains(c)) {
                    return Err(format!("Unknown argument to {word}: {types}"));
                }
                if word == "-xtype" {
                    Node::TargetType(types)
                } else {
                    Node::Type(types)
                }
            }
            "-size" => self.size()?,
            "-mtime" => Node::Age {
                time: Time::Modification,
                unit: DAY,
                compare: self.compare(word)?,
            },
            "-atime" => Node::Age {
                time: Time::Access,
                unit: DAY,
                compare: self.compare(word)?,
            },
            "-ctime" => Node::Age {
                time: Time::Change,
                unit: DAY,
                compare: self.compare(word)?,
            },
            "-mmin" => Node::Age {
                time: Time::Modification,
                unit: MINUTE,
                compare: self.compare(word)?,
            },
            "-amin" => Node::Age {
                time: Time::Access,
                unit: MINUTE,
                compare: self.compare(word)?,
            },
            "-cmin" => Node::Age {
                time: Time::Change,
                unit: MINUTE,
                compare: self.compare(word)?,
            },
            "-newer" | "-anewer" | "-cnewer" | "-newermm" => {
                let file = self.argument(word)?;
                let stat = wisp_sys::stat(Path::new(&file), true).map_err(|e| format!("'{file}': {}", reason(&e)))?;
                let time = match word {
                    "-anewer" => Time::Access,
                    "-cnewer" => Time::Change,
                    _ => Time::Modification,
                };
                Node::Newer { time, than: stat.mtime }
            }
            "-samefile" => {
                let file = self.argument(word)?;
                let stat = wisp_sys::stat(Path::new(&file), true).map_err(|e| format!("'{file}': {}", reason(&e)))?;
                Node::SameFile(stat.dev, stat.ino)
            }
            "-perm" => {
                let text = self.argument(word)?;
                let invalid = || format!("invalid mode '{text}'");
                let (kind, mode) = match text.as_bytes().first() {
                    Some(b'-' | b'/') => (text.as_bytes()[0], &text[1..]),
                    _ => (b'=', text.as_str()),
                };
                let mode = crate::mode::parse(mode).ok_or_else(invalid)?.apply(0, false, 0);
                Node::Permission(match kind {
                    b'-' => Permission::All(mode),
                    b'/' => Permission::Any(mode),
                    _ => Permission::Exactly(mode),
                })
            }
            "-links" => Node::Links(self.compare(word)?),
            "-inum" => Node::Inode(self.compare(word)?),
            "-user" | "-uid" | "-group" | "-gid" => {
                let name = self.argument(word)?;
                let group = word == "-group" || word == "-gid";
                let owners = Owners::read();
                let id = if group {
                    owners.group_id(&name)
                } else {
                    owners.user_id(&name)
                };
                let id = id.ok_or_else(|| {
                    format!(
                        "'{name}' is not the name of a known {}",
                        if group { "group" } else { "user" }
                    )
                })?;
                if group { Node::Group(id) } else { Node::User(id) }
            }
            "-nouser" | "-nogroup" | "-false" => Node::Const(false),
            "-readable" => Node::Access(0o444),
            "-writable" => Node::Access(0o222),
            "-executable" => Node::Access(0o111),
            "-empty" => Node::Empty,
            "-prune" => Node::Prune,
            "-quit" => {
                self.acts = true;
                Node::Quit
            }
            "-print" => self.action(Node::Print(b'\n')),
            "-print0" => self.action(Node::Print(0)),
            "-printf" => {
                let format = self.argument(word)?;
                self.action(Node::Printf(format))
            }
            "-ls" => self.action(Node::List_),
            "-delete" => {
                self.options.depth_first = true;
                self.action(Node::Delete)
            }
            "-exec" | "-execdir" | "-ok" | "-okdir" => {
                let exec = self.exec(word)?;
                self.action(Node::Exec(exec))
            }
            "-maxdepth" => {
                self.options.max_depth = self.number(word)?;
                Node::Const(true)
            }
            "-mindepth" => {
                self.options.min_depth = self.number(word)?;
                Node::Const(true)
            }
            "-depth" | "-d" => {
                self.options.depth_first = true;
                Node::Const(true)
            }
            "-follow" => {
                self.options.follow = true;
                Node::Const(true)
            }
            "-xdev" | "-mount" => {
                self.options.same_device = true;
                Node::Const(true)
            }
            "-ignore_readdir_race" => {
                self.options.ignore_race = true;
                Node::Const(true)
            }
            "-true" | "-noleaf" | "-warn" | "-nowarn" | "-noignore_readdir_race" | "-daystart" => Node::Const(true),
            other if other.starts_with('-') => return Err(format!("unknown predicate '{other}'")),
            other => return Err(format!("paths must precede expression: '{other}'")),
        })
    }

    fn action(&mut self, node: Node) -> Node {
        self.acts = true;
        node
    }

    fn size(&mut self) -> Result<Node, String> {
        let text = self.argument("-size")?;
        let invalid = || format!("invalid -size type '{text}'");
        let (digits, unit) = match text.chars().next_back() {
            Some('c') => (&text[..text.len() - 1], 1),
            Some('w') => (&text[..text.len() - 1], 2),
            Some('b') => (&text[..text.len() - 1], 512),
            Some('k') => (&text[..text.len() - 1], 1 << 10),
            Some('M') => (&text[..text.len() - 1], 1 << 20),
            Some('G') => (&text[..text.len() - 1], 1 << 30),
            _ => (text.as_str(), 512),
        };
        Ok(Node::Size {
            unit,
            compare: Compare::parse(digits).ok_or_else(invalid)?,
        })
    }

    fn exec(&mut self, word: &str) -> Result<Exec, String> {
        let mut words = Vec::new();
        loop {
            let next = self.argument(word)?;
            let batch = next == "+" && words.last().is_some_and(|last| last == "{}");
            if next == ";" || batch {
                if words.is_empty() {
                    return Err(format!("missing argument to '{word}'"));
                }
                if batch {
                    words.pop();
                }
                let in_directory = word.ends_with("dir");
                return Ok(Exec {
                    words,
                    batch,
                    in_directory,
                    collected: std::cell::RefCell::default(),
                });
            }
            words.push(next);
        }
    }
}

/// How many bytes of names one run of a `+` command takes.
const BATCH_BYTES: usize = 128 * 1024;

impl Find {
    fn trouble(&self, message: impl std::fmt::Display) {
        complain("find", message);
        self.status.set(1);
    }

    fn entry(&self, path: String, base_len: usize, depth: usize) -> Option<Entry> {
        let file = Path::new(&path);
        let stat = match wisp_sys::stat(file, self.options.follow) {
            Err(_) if self.options.follow => wisp_sys::stat(file, false),
            other => other,
        };
        match stat {
            Ok(stat) => Some(Entry {
                path,
                base_len,
                depth,
                stat,
                prune: std::cell::Cell::new(false),
            }),
            Err(error) => {
                if !(self.options.ignore_race && error.kind() == std::io::ErrorKind::NotFound) {
                    self.trouble(format_args!("'{path}': {}", reason(&error)));
                }
                None
            }
        }
    }

    /// Visits `start` and everything below it.
    fn walk(&self, start: &str, out: &mut impl Write) {
        /// What the stack holds: a file still to visit, or a directory whose contents are done (depth first).
        enum Step {
            Visit(String, usize),
            Leave(Entry),
        }
        let mut device = None;
        let mut steps = vec![Step::Visit(start.to_owned(), 0)];
        // Directories on the way down, to notice a link that leads back up (`-L`).
        let mut above: Vec<(u64, u64)> = Vec::new();
        while let Some(step) = steps.pop() {
            if self.quit.get() {
                return;
            }
            let (path, depth) = match step {
                Step::Leave(entry) => {
                    above.truncate(entry.depth);
                    self.visit(&entry, out);
                    continue;
                }
                Step::Visit(path, depth) => (path, depth),
            };
            let Some(entry) = self.entry(path, start.len(), depth) else {
                continue;
            };
            let is_dir = entry.stat.file_type() == Stat::DIRECTORY;
            let first_device = *device.get_or_insert(entry.stat.dev);
            if !self.options.depth_first {
                self.visit(&entry, out);
            }
            let descend = is_dir
                && depth < self.options.max_depth
                && !entry.prune.get()
                && !(self.options.same_device && entry.stat.dev != first_device);
            above.truncate(depth);
            let identity = (entry.stat.dev, entry.stat.ino);
            if descend && self.options.follow && above.contains(&identity) {
                self.trouble(format_args!(
                    "File system loop detected; '{}' is the same directory as one above it",
                    entry.path
                ));
                continue;
            }
            let children = if descend {
                self.children(&entry.path)
            } else {
                Vec::new()
            };
            above.push(identity);
            if self.options.depth_first {
                steps.push(Step::Leave(entry));
            }
            steps.extend(children.into_iter().rev().map(|child| Step::Visit(child, depth + 1)));
        }
    }

    fn children(&self, directory: &str) -> Vec<String> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.trouble(format_args!("'{directory}': {}", reason(&error)));
                return Vec::new();
            }
        };
        let slash = if directory.ends_with('/') { "" } else { "/" };
        entries
            .flatten()
            .map(|entry| format!("{directory}{slash}{}", entry.file_name().to_string_lossy()))
            .collect()
    }

    fn visit(&self, entry: &Entry, out: &mut impl Write) {
        if entry.depth >= self.options.min_depth && entry.depth <= self.options.max_depth {
            self.holds(self.root, entry, out);
        }
    }

    /// Evaluates a node. Recursion is as deep as the expression's parentheses; runs of `-a`, `-o` are walked on the left.
    fn holds(&self, node: usize, entry: &Entry, out: &mut impl Write) -> bool {
        match &self.nodes[node] {
            Node::And(left, right) => {
                self.holds(*left, entry, out) && !self.quit.get() && self.holds(*right, entry, out)
            }
            Node::Or(left, right) => {
                self.holds(*left, entry, out) || !self.quit.get() && self.holds(*right, entry, out)
            }
            Node::List(left, right) => {
                self.holds(*left, entry, out);
                !self.quit.get() && self.holds(*right, entry, out)
            }
            Node::Not(inner) => !self.holds(*inner, entry, out),
            Node::Const(value) => *value,
            Node::Name { glob, fold } => glob::matches(glob, entry.name(), *fold),
            Node::Path { glob, fold } => glob::matches(glob, &entry.path, *fold),
            Node::LinkName { glob, fold } => {
                fs::read_link(&entry.path).is_ok_and(|target| glob::matches(glob, &target.to_string_lossy(), *fold))
            }
            Node::Regex(matcher) => matcher.is_match(entry.path.as_bytes()),
            Node::Type(types) => types.contains(find_type(entry.stat.mode)),
            Node::TargetType(types) => {
                // With -L it is the other way round: the type of the link itself.
                let stat = wisp_sys::stat(Path::new(&entry.path), !self.options.follow);
                types.contains(find_type(stat.map_or(Stat::SYMLINK, |stat| stat.mode)))
            }
            Node::Size { unit, compare } => compare.holds(entry.stat.size.div_ceil(*unit) as i64),
            Node::Age { time, unit, compare } => {
                compare.holds((self.now.saturating_sub(time.of(&entry.stat)) / unit) as i64)
            }
            Node::Newer { time, than } => time.of(&entry.stat) > *than,
            Node::Permission(permission) => {
                let bits = entry.stat.permissions();
                match *permission {
                    Permission::Exactly(wanted) => bits == wanted,
                    Permission::All(wanted) => bits & wanted == wanted,
                    Permission::Any(wanted) => wanted == 0 || bits & wanted != 0,
                }
            }
            Node::Links(compare) => compare.holds(entry.stat.nlink as i64),
            Node::Inode(compare) => compare.holds(entry.stat.ino as i64),
            Node::User(id) => entry.stat.uid == *id,
            Node::Group(id) => entry.stat.gid == *id,
            Node::Access(bits) => *bits != 0o111 || entry.stat.mode & bits != 0,
            Node::SameFile(dev, ino) => (entry.stat.dev, entry.stat.ino) == (*dev, *ino),
            Node::Empty => match entry.stat.file_type() {
                Stat::REGULAR => entry.stat.size == 0,
                Stat::DIRECTORY => fs::read_dir(&entry.path).is_ok_and(|mut entries| entries.next().is_none()),
                _ => false,
            },
            Node::Prune => {
                entry.prune.set(!self.options.depth_first);
                true
            }
            Node::Quit => {
                self.quit.set(true);
                true
            }
            Node::Print(end) => self.written(
                out.write_all(entry.path.as_bytes())
                    .and_then(|()| out.write_all(&[*end])),
            ),
            Node::Printf(format) => {
                let text = self.printf(format, entry);
                self.written(out.write_all(&text))
            }
            Node::List_ => {
                let line = self.long_line(entry);
                self.written(out.write_all(line.as_bytes()))
            }
            Node::Delete => self.delete(entry),
            Node::Exec(exec) => self.exec(exec, entry, out),
        }
    }

    /// A failed write, most often a reader that went away, ends the walk.
    fn written(&self, result: std::io::Result<()>) -> bool {
        if result.is_err() {
            self.quit.set(true);
            self.status.set(1);
        }
        true
    }

    fn delete(&self, entry: &Entry) -> bool {
        if entry.path == "." {
            return true;
        }
        let result = if entry.stat.file_type() == Stat::DIRECTORY {
            fs::remove_dir(&entry.path)
        } else {
            fs::remove_file(&entry.path)
        };
        if let Err(error) = &result {
            self.trouble(format_args!("cannot delete '{}': {}", entry.path, reason(error)));
        }
        result.is_ok()
    }

    fn exec(&self, exec: &Exec, entry: &Entry, out: &mut impl Write) -> bool {
        let (directory, name) = if exec.in_directory {
            let parent = Path::new(&entry.path).parent().filter(|p| !p.as_os_str().is_empty());
            (
                Some(parent.unwrap_or(Path::new(".")).to_owned()),
                format!("./{}", entry.name()),
            )
        } else {
            (None, entry.path.clone())
        };
        if exec.batch {
            let full = {
                let mut collected = exec.collected.borrow_mut();
                collected.push((directory, name));
                collected.iter().map(|(_, name)| name.len() + 1).sum::<usize>() > BATCH_BYTES
            };
            if full {
                self.run_batch(exec, out);
            }
            return true;
        }
        let words: Vec<String> = exec.words.iter().map(|word| word.replace("{}", &name)).collect();
        self.run(&words, directory.as_deref(), out)
    }

    fn run(&self, words: &[String], directory: Option<&Path>, out: &mut impl Write) -> bool {
        let Some((program, arguments)) = words.split_first() else {
            return false;
        };
        // What was printed so far comes before what the command prints.
        self.written(out.flush());
        let mut command = Command::new(program).args(arguments);
        if let Some(directory) = directory {
            let absolute = std::env::current_dir().map_or_else(|_| directory.to_owned(), |cwd| cwd.join(directory));
            command = command.directory(absolute);
        }
        match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                self.trouble(format_args!("'{program}': {}", reason(&error)));
                false
            }
        }
    }

    fn run_batch(&self, exec: &Exec, out: &mut impl Write) {
        let mut collected = exec.collected.take().into_iter().peekable();
        while let Some((directory, name)) = collected.next() {
            let mut words = exec.words.clone();
            words.push(name);
            while let Some((_, name)) = collected.next_if(|(next, _)| *next == directory) {
                words.push(name);
            }
            if !self.run(&words, directory.as_deref(), out) {
                self.status.set(1);
            }
        }
    }

    fn run_collected(&self, out: &mut impl Write) {
        for node in &self.nodes {
            if let Node::Exec(exec) = node {
                self.run_batch(exec, out);
            }
        }
    }

    fn long_line(&self, entry: &Entry) -> String {
        let stat = &entry.stat;
        let link = match fs::read_link(&entry.path) {
            Ok(target) => format!(" -> {}", target.display()),
            Err(_) => String::new(),
        };
        format!(
            "{:>9} {:>6} {} {:>3} {:<8} {:<8} {:>8} {} {}{link}\n",
            stat.ino,
            stat.blocks / 2,
            permission_letters(stat.mode),
            stat.nlink,
            self.owners.user(stat.uid),
            self.owners.group(stat.gid),
            stat.size,
            date_for_listing(stat.mtime, self.now),
            entry.path
        )
    }

    fn printf(&self, format: &str, entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n') => out.push(b'\n'),
                    Some('t') => out.push(b'\t'),
                    Some('r') => out.push(b'\r'),
                    Some('0') => out.push(0),
                    Some('a') => out.push(7),
                    Some('\\') | None => out.push(b'\\'),
                    Some(other) => out.extend(format!("\\{other}").bytes()),
                },
                '%' => {
                    let mut flags = String::new();
                    while let Some(flag) = chars.next_if(|c| "-0123456789.".contains(*c)) {
                        flags.push(flag);
                    }
                    let Some(directive) = chars.next() else {
                        out.push(b'%');
                        break;
                    };
                    let text = match directive {
                        '%' => "%".to_owned(),
                        'A' | 'C' | 'T' => {
                            let time = match directive {
                                'A' => entry.stat.atime,
                                'C' => entry.stat.ctime,
                                _ => entry.stat.mtime,
                            };
                            chars.next().map_or_else(String::new, |k| time_part(time, k))
                        }
                        other => self.directive(other, entry),
                    };
                    out.extend(pad(&text, &flags).bytes());
                }
                other => out.extend(other.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        out
    }

    fn directive(&self, directive: char, entry: &Entry) -> String {
        let stat = &entry.stat;
        match directive {
            'p' => entry.path.clone(),
            'f' => entry.name().to_owned(),
            'h' => match entry.path.rfind('/') {
                Some(0) => String::new(),
                Some(at) => entry.path[..at].to_owned(),
                None => ".".to_owned(),
            },
            'P' => entry
                .path
                .get(entry.base_len..)
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            'H' => entry.path.get(..entry.base_len).unwrap_or_default().to_owned(),
            's' => stat.size.to_string(),
            'b' => stat.blocks.to_string(),
            'k' => stat.blocks.div_ceil(2).to_string(),
            'd' => entry.depth.to_string(),
            'i' => stat.ino.to_string(),
            'n' => stat.nlink.to_string(),
            'D' => stat.dev.to_string(),
            'm' => format!("{:o}", stat.permissions()),
            'M' => permission_letters(stat.mode),
            'u' => self.owners.user(stat.uid),
            'g' => self.owners.group(stat.gid),
            'U' => stat.uid.to_string(),
            'G' => stat.gid.to_string(),
            'y' | 'Y' => find_type(stat.mode).to_string(),
            'l' => fs::read_link(&entry.path).map_or_else(|_| String::new(), |t| t.display().to_string()),
            't' => format_date(stat.mtime, "%a %b %e %H:%M:%S.%N0 %Y"),
            'a' => format_date(stat.atime, "%a %b %e %H:%M:%S.%N0 %Y"),
            'c' => format_date(stat.ctime, "%a %b %e %H:%M:%S.%N0 %Y"),
            other => format!("%{other}"),
        }
    }
}

fn find_type(mode: u32) -> char {
    match type_letter(mode) {
        '-' => 'f',
        other => other,
    }
}

fn time_part(time: u64, key: char) -> String {
    match key {
        '@' => format!("{}.{:09}0", time / 1_000_000_000, time % 1_000_000_000),
        '+' => format_date(time, "%Y-%m-%d+%H:%M:%S.%N0"),
        'T' | 'S' => format_date(time, if key == 'T' { "%H:%M:%S.%N0" } else { "%S.%N0" }),
        other => format_date(time, &format!("%{other}")),
    }
}

fn pad(text: &str, flags: &str) -> String {
    let width: usize = flags
        .trim_start_matches('-')
        .split('.')
        .next()
        .and_then(|w| w.parse().ok())
        .unwrap_or(0);
    let width = width.min(4096);
    if flags.starts_with('-') {
        format!("{text:<width$}")
    } else if flags.starts_with('0') {
        format!("{text:0>width$}")
    } else {
        format!("{text:>width$}")
    }
}
