//! The command line. Talk goes to the standard error, data to the standard output; exit 0, 1 (failed), 2 (usage).

mod account;
mod audit;
mod backup;
mod check;
mod demo;
mod doctor;
mod door;
mod environment;
mod import;
mod keys;
mod link;
mod log_line;
mod log_out;
mod serve;
mod serve_file;
mod signals;
mod token;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, Environment, GlobalArgs, Purpose, Settings};
use crate::connector::FieldKind;

/// What has no flag, because secrets stay off the command line.
const ENVIRONMENT: &str = "\
Environment without a flag:
  ROLLCALL_ADMIN_TOKEN          The first administrator's token, 32 characters or more; required with Redis
  ROLLCALL_URL, ROLLCALL_TOKEN  The gateway that `token`, `account`, `link`, `environment`, `keys`, `backup` and
                                `audit` speak to, and a token of it; without them the one that runs on this store, or the store itself
  ROLLCALL_STORE_FILE, ROLLCALL_ADMIN_TOKEN_FILE, ROLLCALL_TOKEN_FILE
                                A file that holds the value instead";

/// The same for the gateway itself. README.md says more of each.
const OF_SERVE: &str = "\
Environment without a flag:
  ROLLCALL_ADMIN_TOKEN       The first administrator's token, 32 characters or more; required with Redis
  ROLLCALL_REDIS_REPLICAS    Replicas that must have a credential before its write is acknowledged; 0 when left out
  ROLLCALL_EGRESS_PROXY      The HTTP proxy for every call to a vendor, `http://[user:password@]host:port`
  ROLLCALL_MAX_IN_FLIGHT     Requests under way at once; 4096 when left out
  ROLLCALL_TOKEN_LIMIT       What each token may ask, for example `600/1m`
  ROLLCALL_ACCOUNT_LIMIT     What may be asked of each account
  ROLLCALL_OAUTH_APPS_FILE   Your OAuth apps, mode 0600: `{\"<connector>\": {\"client_id\": \"…\", \"client_secret\": \"…\"}}`
  ROLLCALL_PROBE_EVERY       How often each account is looked at: `24h` when left out, `0` for never
  ROLLCALL_AUDIT_DAYS        Days that the audit log is kept; for ever when left out
  ROLLCALL_AUDIT_PASSTHROUGH `writes` notes writing calls of the passthrough, too; `off` when left out
  PORT                       The port on every address, where nothing says where to listen
  ROLLCALL_STORE_FILE, ROLLCALL_ADMIN_TOKEN_FILE, ROLLCALL_EGRESS_PROXY_FILE
                             A file that holds the value instead";

/// Settings that the demo makes for itself, and refuses.
const NOT_OF_DEMO: &[&str] = &["store", "keys_file", "redis_ca_file", "public_url", "tls_cert_file", "tls_key_file"];
/// What says where a gateway listens and with which certificate, for a command that asks it.
const OF_HEALTHCHECK: &[&str] = &["config", "listen", "tls_cert_file", "tls_key_file", "json"];

/// Self-hosted unified directory API gateway.
#[derive(Parser)]
#[command(name = "rollcall", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Serve,
    /// Run the gateway with sandbox vendors, linked and ready to be called
    Demo(demo::DemoArgs),
    /// Check connector folders: every mistake with file, line, column and a hint
    Check {
        /// The folder that holds connector folders; `ROLLCALL_CONNECTORS_DIR`, else the built-in connectors, when left out
        dir: Option<PathBuf>,
    },
    /// API tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Linked accounts
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// The audit log: who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Environments, the walls between tenants
    #[command(subcommand)]
    Environment(environment::EnvironmentCommand),
    /// Keys that everything stored is sealed by: add, promote, rewrap, retire
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Save everything that is kept, while the gateway goes on
    Backup(backup::BackupArgs),
    /// Bring a backup back into an empty store
    Restore(backup::RestoreArgs),
    /// A link for a customer, who connects an account on a page of the gateway
    Link(link::LinkArgs),
    /// Tell whether keys, store, connectors and exposure are as recommended
    Doctor,
    /// Print the OpenAPI document
    Openapi,
    /// Ask a running gateway whether it is alive; for containers
    Healthcheck,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Why a command ends without success.
pub enum Failure {
    /// The command could not do its work: exit 1.
    Failed(String),
    /// The command was asked for in a way it does not take: exit 2.
    Usage(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// The command line with its variables told wherever they count, and settings shown where they have an effect.
fn command_line() -> clap::Command {
    let told = |command: clap::Command| command.after_help(ENVIRONMENT);
    let line = Cli::command();
    let settings: Vec<clap::Arg> = line.get_arguments().filter(|setting| setting.is_global_set()).cloned().collect();
    let hiding = |command: clap::Command, is_hidden: &dyn Fn(&str) -> bool| {
        let hidden = settings.iter().filter(|setting| is_hidden(setting.get_id().as_str()));
        command.args(hidden.map(|setting| setting.clone().hide(true)))
    };
    let line = told(line)
        .mut_subcommand("serve", |command| command.after_help(OF_SERVE))
        .mut_subcommand("link", told)
        .mut_subcommand("demo", |command| hiding(command, &|setting| NOT_OF_DEMO.contains(&setting)))
        .mut_subcommand("healthcheck", |command| hiding(command, &|setting| !OF_HEALTHCHECK.contains(&setting)))
        .mut_subcommand("openapi", |command| hiding(command, &|_| true))
        .mut_subcommand("completions", |command| hiding(command, &|_| true));
    ["token", "account", "environment", "keys", "backup", "audit"]
        .iter()
        .fold(line, |command, name| command.mut_subcommand(name, |command| told(command).mut_subcommands(told)))
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit());
    let ended = run(cli);
    log_out::LogOut::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("rollcall: {}", harmless(&why));
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("rollcall: {}", harmless(&why));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Serve => on_runtime(serve::serve(settings(&global, Purpose::Serve)?)),
        Command::Demo(args) => on_runtime(demo::demo(args, global)),
        Command::Check { dir } => check::check(dir, &global),
        Command::Token(command) => on_runtime(token::run(command, global)),
        Command::Account(command) => on_runtime(account::run(command, global)),
        Command::Audit(command) => on_runtime(audit::run(command, global)),
        Command::Environment(command) => on_runtime(environment::run(command, global)),
        Command::Keys(command) => on_runtime(keys::run(command, global)),
        Command::Backup(args) => on_runtime(backup::backup(args, global)),
        Command::Restore(args) => on_runtime(backup::restore(args, global)),
        Command::Link(args) => on_runtime(link::run(args, global)),
        Command::Doctor => on_runtime(doctor::doctor(global)),
        Command::Openapi => print_data(crate::http::openapi::document_text().trim_end()),
        Command::Healthcheck => on_runtime(door::healthcheck(global)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command_line(), "rollcall", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Everything runs on one actix system: the web server needs it, the rest does not mind.
fn on_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    actix_web::rt::System::new().block_on(work)
}

fn settings(global: &GlobalArgs, purpose: Purpose) -> Result<Settings, Failure> {
    Settings::load(global, &Environment::of_process(), purpose).map_err(|error: ConfigError| Failure::Usage(error.to_string()))
}

/// A text for the terminal: words of a vendor in it must not move the cursor, clear the screen or set its title.
fn harmless(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// The names of the secret ones among a link method's fields, as the gateway tells them. A kind that this release does not know
/// may be secret, too.
fn secret_names(fields: &Value) -> impl Iterator<Item = &str> {
    let is_secret = |field: &&Value| FieldKind::deserialize(&field["type"]).map_or(true, FieldKind::is_secret);
    fields.as_array().into_iter().flatten().filter(is_secret).filter_map(|field| field["name"].as_str())
}

fn print_data(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // A reader that has seen enough is not a failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print_data(&value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The help of a command, as `rollcall <name> --help` prints it.
    fn help(name: &str) -> String {
        let mut line = command_line();
        line.build();
        line.find_subcommand_mut(name).unwrap().render_long_help().to_string()
    }

    #[test]
    fn the_help_of_serve_names_every_setting() {
        let help = help("serve");
        let missing: Vec<_> = crate::config::variables().chain(["PORT"]).filter(|name| !names(&help, name)).collect();
        assert!(missing.is_empty(), "{missing:?}\n{help}");
    }

    /// Whether a text has this word, and not only a longer one.
    fn names(text: &str, word: &str) -> bool {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|other| other == word)
    }

    #[test]
    fn a_command_shows_the_settings_it_takes() {
        for (name, shown, hidden) in [
            ("serve", &["--store", "--listen", "--keys-file"][..], &[][..]),
            ("demo", &["--listen", "--port", "--data", "--egress-allow"], &["--store", "--keys-file", "--public-url"]),
            ("healthcheck", &["--listen", "--json", "--config"], &["--store", "--keys-file", "--egress-allow"]),
            ("openapi", &["--help"], &["--store", "--listen", "--json"]),
            ("completions", &["--help"], &["--store", "--listen", "--json"]),
        ] {
            let help = help(name);
            assert!(shown.iter().all(|flag| help.contains(flag)), "{name}: {help}");
            assert!(hidden.iter().all(|flag| !help.contains(flag)), "{name}: {help}");
        }
    }

    /// What is not shown is still told what is wrong with it.
    #[test]
    fn a_hidden_setting_is_read_all_the_same() {
        for args in [["rollcall", "demo", "--store", "embedded:x"], ["rollcall", "--store", "embedded:x", "demo"]] {
            let cli = Cli::from_arg_matches(&command_line().get_matches_from(args)).unwrap_or_else(|why| panic!("{why}"));
            assert!(cli.global.store.is_some(), "{args:?}");
        }
    }

    #[test]
    fn secret_is_whatever_the_gateway_seals_and_what_nobody_knows() {
        let kinds = ["text", "secret", "private_key", "origin", "choice", "of_a_later_release"];
        let fields: Vec<_> = kinds.iter().map(|kind| json!({"name": format!("a_{kind}"), "type": kind})).collect();
        let found: Vec<_> = secret_names(&json!(fields)).map(str::to_owned).collect();
        assert_eq!(found, ["a_secret", "a_private_key", "a_of_a_later_release"]);
        assert_eq!(secret_names(&Value::Null).count(), 0);
    }
}
