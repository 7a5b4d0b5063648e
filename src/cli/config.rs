//! `wisp config`: shows and checks the configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use toml::{Table, Value};

use super::ServeArgs;
use crate::config::{ConfigError, Key, LoadedConfig, keys};
use crate::settings::Kind;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "wisp.toml";
/// Width of the comments of `wisp config show`.
const COMMENT_WIDTH: usize = 100;

/// The subcommands of `wisp config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its documentation, its value and where that comes from, as wisp.toml has it.
    Show(ServeArgs),
    /// Say what is wrong with the configuration; exit code 1 if anything is.
    Check {
        /// Configuration file; without it, what `wisp serve` would use.
        file: Option<PathBuf>,
    },
}

impl ConfigCommand {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration cannot be read, is refused, or standard output cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut stdout = std::io::stdout();
        match self {
            Self::Show(args) => stdout.write_all(to_toml(&args.load()?)?.as_bytes())?,
            Self::Check { file } => {
                let args = ServeArgs::of_file(file.or_else(|| std::env::var_os("WISP_CONFIG").map(PathBuf::from)));
                args.load()?.config.check()?;
                match args.file() {
                    Some(file) => writeln!(stdout, "{} and the environment are fine", file.display())?,
                    None => writeln!(
                        stdout,
                        "the defaults and the environment are fine; there is no {DEFAULT_FILE} here"
                    )?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ServeArgs {
    /// The arguments that name a file and nothing else.
    pub(super) fn of_file(config: Option<PathBuf>) -> Self {
        Self {
            config,
            listen: None,
            allow_unauthenticated_remote: false,
        }
    }

    /// The configuration that these arguments ask for, not checked yet.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or a value is not understood.
    pub fn load(&self) -> Result<LoadedConfig, ConfigError> {
        let mut command_line = Table::new();
        if let Some(listen) = self.listen {
            command_line.insert("listen".to_owned(), Value::String(listen.to_string()));
        }
        if self.allow_unauthenticated_remote {
            command_line.insert("allow_unauthenticated_remote".to_owned(), Value::Boolean(true));
        }
        LoadedConfig::load(self.file(), std::env::vars(), command_line)
    }

    /// The file to read, if any.
    fn file(&self) -> Option<&Path> {
        let here = Path::new(DEFAULT_FILE);
        self.config.as_deref().or_else(|| here.is_file().then_some(here))
    }
}

/// The whole configuration as TOML, each key under its documentation. It reads back as the same configuration, but for
/// tables of keys, which are shown as comments.
fn to_toml(loaded: &LoadedConfig) -> Result<String, toml::ser::Error> {
    let values = Table::try_from(&loaded.config)?;
    let keys = keys();
    let mut text = String::new();
    let outside = keys
        .iter()
        .filter(|key| key.section().is_empty() && key.kind != Kind::Section);
    for key in outside {
        push_key(&mut text, key, &values, loaded);
    }
    for section in keys.iter().filter(|key| key.kind == Kind::Section) {
        push_comment(&mut text, &section.doc);
        text.push_str(&format!("[{}]\n\n", section.path));
        let inside = keys
            .iter()
            .filter(|key| key.section() == section.path && key.kind != Kind::Section);
        for key in inside {
            push_key(&mut text, key, &values, loaded);
        }
    }
    Ok(text)
}

fn push_key(text: &mut String, key: &Key, values: &Table, loaded: &LoadedConfig) {
    push_comment(text, &key.doc);
    let origin = loaded.origin(&key.path);
    let name = key.name();
    match (value_at(values, &key.path), key.kind) {
        (Some(value), Kind::Tables) => push_tables(text, &key.path, value),
        (Some(value), _) => text.push_str(&format!("{name} = {value} # {origin}\n")),
        (None, _) => text.push_str(&format!("# {name} is not set\n")),
    }
    text.push('\n');
}

/// A list of tables, as comments: what is in one may be secret, and is shortened.
fn push_tables(text: &mut String, path: &str, value: &Value) {
    let tables = match value {
        Value::Array(tables) if !tables.is_empty() => tables.as_slice(),
        Value::Table(table) if !table.is_empty() => std::slice::from_ref(value),
        _ => return text.push_str(&format!("# {path} is empty\n")),
    };
    for table in tables {
        text.push_str(&format!("# [[{path}]]\n"));
        for (name, value) in table.as_table().into_iter().flatten() {
            text.push_str(&match name.as_str() {
                "sha256" => format!("# {name} = (not shown)\n"),
                _ => format!("# {name} = {value}\n"),
            });
        }
    }
}

fn value_at<'a>(values: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => values.get(path),
        Some((section, rest)) => value_at(values.get(section)?.as_table()?, rest),
    }
}

/// Documentation as comment lines.
fn push_comment(text: &mut String, doc: &str) {
    for paragraph in doc.split("\n\n") {
        let mut width = 0;
        for word in paragraph.split_whitespace() {
            if width == 0 || width + 1 + word.len() > COMMENT_WIDTH {
                text.push_str(if width == 0 { "#" } else { "\n#" });
                width = 1;
            }
            text.push(' ');
            text.push_str(word);
            width += 1 + word.len();
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;
    use crate::config::{Config, OTHER_VARIABLES};

    fn loaded(toml: &str, environment: &[(&str, &str)]) -> LoadedConfig {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LoadedConfig::load(Some(file.path()), environment, Table::new()).unwrap()
    }

    #[test]
    fn printed_configuration_reads_back_as_the_same() {
        for loaded in [
            loaded("", &[]),
            loaded(
                "default_image = \"a \\\"b\\\"\"\nimages = []\n[limits]\nmax_ttl = \"90s\"\ndefault_ttl = \"1m\"\n",
                &[("WISP_LIMITS_MAX_SANDBOXES", "7")],
            ),
        ] {
            let text = to_toml(&loaded).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(Config::load(Some(file.path()), []).unwrap(), loaded.config, "{text}");
        }
    }

    #[test]
    fn every_key_is_shown_with_its_documentation_and_origin() {
        let text = to_toml(&loaded(
            "[limits]\nmax_vcpus = 3\n",
            &[("WISP_LIMITS_MAX_SANDBOXES", "7")],
        ))
        .unwrap();
        for key in keys() {
            assert!(text.contains(key.name()), "{}", key.path);
            let beginning: String = key.doc.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
            assert!(text.contains(&beginning), "{}: {beginning}", key.path);
        }
        assert!(
            text.contains("max_sandboxes = 7 # from WISP_LIMITS_MAX_SANDBOXES\n"),
            "{text}"
        );
        assert!(text.contains("max_vcpus = 3 # from /"), "{text}");
        assert!(text.contains("default_provider = \"wasm\" # default\n"), "{text}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let digest = "ab".repeat(32);
        let toml = format!("[[auth.keys]]\nname = \"ci\"\nsha256 = \"{digest}\"\n");
        let text = to_toml(&loaded(&toml, &[("WISP_API_KEYS", "hunter2")])).unwrap();
        assert!(
            text.contains("# name = \"ci\"") && text.contains("WISP_API_KEYS[0]"),
            "{text}"
        );
        assert!(!text.contains("abab") && !text.contains("hunter2"), "{text}");
        assert!(
            !text.contains("f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7"),
            "{text}"
        );
    }

    #[test]
    fn the_command_lines_variables_are_known() {
        fn visit(command: &clap::Command) {
            for variable in command.get_arguments().filter_map(clap::Arg::get_env) {
                let variable = variable.to_str().unwrap();
                assert!(
                    OTHER_VARIABLES.contains(&variable),
                    "{variable} is missing in OTHER_VARIABLES"
                );
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
