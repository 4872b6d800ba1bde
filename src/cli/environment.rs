//! `rollcall environment …`.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing},
    print_data, print_json,
};
use crate::config::GlobalArgs;

/// What can be done with environments.
#[derive(Subcommand)]
pub enum EnvironmentCommand {
    /// Make an environment; the token of its first administrator is shown once
    Add {
        /// Its name, 1 to 100 characters
        name: String,
    },
    /// List environments
    List,
}

/// Runs one of them.
pub async fn run(command: EnvironmentCommand, global: GlobalArgs) -> Result<(), Failure> {
    let missing = if matches!(command, EnvironmentCommand::Add { .. }) { Missing::IsMade } else { Missing::Fails };
    let door = Door::open(&global, missing).await?;
    let done = act(&door, command, global.json).await;
    door.close().await.and(done)
}

async fn act(door: &Door, command: EnvironmentCommand, json: bool) -> Result<(), Failure> {
    match command {
        EnvironmentCommand::Add { name } => {
            let made = door.call(Method::POST, "/environment", Some(&json!({"name": name}))).await?;
            if json {
                return print_json(&made);
            }
            eprintln!("Environment {} is called {name}; its administrator's token, shown once:", text(&made["id"]));
            print_data(text(&made["api_token"]["token"]))
        }
        EnvironmentCommand::List => {
            let list = door.read_all("/environment").await?;
            if json {
                return print_json(&Value::Array(list));
            }
            list.iter().try_for_each(|one| print_data(&format!("{}  {}", text(&one["id"]), text(&one["name"]))))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
