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

/// The command line with its variables told wherever they count.
fn command_line() -> clap::Command {
    let told = |command: clap::Command| command.after_help(ENVIRONMENT);
    ["token", "account", "environment", "keys", "backup", "audit"]
        .iter()
        .fold(told(Cli::command()).mut_subcommand("serve", told).mut_subcommand("link", told), |command, name| {
            command.mut_subcommand(name, |command| told(command).mut_subcommands(told))
        })
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

    #[test]
    fn secret_is_whatever_the_gateway_seals_and_what_nobody_knows() {
        let kinds = ["text", "secret", "private_key", "origin", "choice", "of_a_later_release"];
        let fields: Vec<_> = kinds.iter().map(|kind| json!({"name": format!("a_{kind}"), "type": kind})).collect();
        let found: Vec<_> = secret_names(&json!(fields)).map(str::to_owned).collect();
        assert_eq!(found, ["a_secret", "a_private_key", "a_of_a_later_release"]);
        assert_eq!(secret_names(&Value::Null).count(), 0);
    }
}
