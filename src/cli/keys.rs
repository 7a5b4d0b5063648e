//! `wisp keys`: makes, lists and revokes API keys in the data directory, whether a server runs there or not.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::ServeArgs;
use super::terminal::printable_line;
use crate::api::{Key, KeyRequest, NewKey};
use crate::config::Config;
use crate::sandbox::TenantId;
use crate::scope::Scope;
use crate::store::{AuditAction, DataDir, Store};

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it on standard output. It is shown this once; the server keeps a hash.
    Create(CreateKeyArgs),
    /// List the keys without their text, revoked ones too.
    #[command(visible_alias = "ls")]
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// The server's data.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Revoke keys: they open nothing from now on.
    Revoke {
        /// Ids of the keys, as `wisp keys list` shows them.
        #[arg(required = true)]
        ids: Vec<String>,
        /// The server's data.
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Arguments of `wisp keys create`.
#[derive(Debug, Args)]
pub struct CreateKeyArgs {
    /// What to call it.
    pub name: String,
    /// What it may do; read and api when absent. May be repeated, or have commas.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = scope_parser())]
    pub scopes: Vec<Scope>,
    /// Whose things it sees; the tenant "default" when absent.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The only user it acts for; any when absent.
    #[arg(long)]
    pub user: Option<String>,
    /// Print the key and all about it as JSON.
    #[arg(long)]
    pub json: bool,
    /// The server's data.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Takes the name of a scope.
fn scope_parser() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name)).try_map(|name| Scope::named(&name).ok_or("no such scope"))
}

/// Where a server keeps its keys.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The server's configuration file, which names its `data_dir`; without it, ./wisp.toml if there is one.
    #[arg(long, env = "WISP_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The database of a server, and its configuration.
struct Data {
    config: Config,
    store: Store,
}

impl KeysCommand {
    /// Does it.
    ///
    /// # Errors
    /// What failed, in words for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List { json, data } => list(json, data).await,
            Self::Revoke { ids, data } => revoke(&ids, data).await,
        }
    }
}

impl Data {
    /// Opens the database; `make` makes it if there is none.
    fn open(args: DataArgs, make: bool) -> anyhow::Result<Self> {
        let config = ServeArgs::of_file(args.config).load()?.config;
        let directory = &config.data_dir;
        let path = DataDir::database_of(directory);
        if make {
            DataDir::make(directory)?;
        } else {
            ensure!(
                path.exists(),
                "{} has no database: no server has run there and no key was made; name the server's own \
                 configuration with --config, or its data_dir in WISP_DATA_DIR",
                directory.display()
            );
        }
        let store = Store::open_beside_server(&path, config.durability)
            .with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { config, store })
    }

    async fn keys(&self) -> anyhow::Result<Vec<Key>> {
        Ok(Key::all(&self.config.auth, self.store.api_keys().await?.keys))
    }
}

async fn create(args: CreateKeyArgs) -> anyhow::Result<()> {
    let request = KeyRequest {
        name: args.name,
        scopes: Some(args.scopes).filter(|scopes| !scopes.is_empty()),
        tenant: args.tenant,
        user: args.user,
    };
    let (record, key) = request.issue()?;
    let data = Data::open(args.data, true)?;
    let is_first = data.keys().await?.is_empty();
    data.store
        .add_api_key(record.clone(), action("key.create", &record.id))
        .await?;
    let mut notes = io::stderr();
    writeln!(
        notes,
        "{} in {}; a server that runs there takes it within a second",
        record.id,
        data.config.data_dir.display()
    )?;
    if is_first {
        writeln!(notes, "it is the first key: from now on every request needs one")?;
    }
    let mut out = io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&NewKey::new(key, record))?)?;
    } else {
        writeln!(out, "{key}")?;
    }
    Ok(())
}

async fn list(json: bool, data: DataArgs) -> anyhow::Result<()> {
    let keys = Data::open(data, false)?.keys().await?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&keys)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<22}{:<20}{:<16}{:<16}{:<16}{:<26}STATE",
        "ID", "NAME", "SCOPES", "TENANT", "USER", "LAST USED"
    )?;
    for key in keys {
        let scopes: Vec<_> = key.scopes.iter().map(Scope::to_string).collect();
        let state = match (&key.revoked_at, &key.created_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("created {at}"),
            (None, None) => "in the configuration".to_owned(),
        };
        writeln!(
            out,
            "{:<22}{:<20}{:<16}{:<16}{:<16}{:<26}{state}",
            key.id,
            printable_line(&key.name),
            scopes.join(","),
            printable_line(&key.tenant),
            printable_line(key.user.as_deref().unwrap_or("-")),
            key.last_used_at.as_deref().unwrap_or("-"),
        )?;
    }
    Ok(())
}

async fn revoke(ids: &[String], data: DataArgs) -> anyhow::Result<()> {
    let data = Data::open(data, false)?;
    let keys = data.keys().await?;
    for id in ids {
        if keys.iter().any(|key| key.id == *id && key.is_configured()) {
            bail!("API key {id} is in the server's configuration; remove it there and restart the server");
        }
        let known = data.store.revoke_api_key(id.clone(), action("key.revoke", id)).await?;
        ensure!(known, "there is no API key {id}; `wisp keys list` shows the ids");
        writeln!(io::stdout(), "revoked {id}")?;
    }
    Ok(())
}

/// What the command line does, for the audit trail: no key, no request.
fn action(action: &'static str, id: &str) -> AuditAction {
    AuditAction {
        key: None,
        tenant: TenantId::default().to_string(),
        action,
        target: id.to_owned(),
        request_id: None,
    }
}
