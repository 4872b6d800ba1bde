//! `rollcall token …`.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, encoded},
    print_data, print_json,
};
use crate::{config::GlobalArgs, model::Scope};

/// What can be done with tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// The person or service that will use it
        #[arg(long)]
        name: String,
        /// A scope, for example `directory:read`; repeat for several
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// When it ends by itself, RFC 3339
        #[arg(long)]
        expires_at: Option<String>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token everywhere
    Revoke {
        /// Its id
        id: String,
    },
}

/// Runs one of them.
pub async fn run(command: TokenCommand, global: GlobalArgs) -> Result<(), Failure> {
    let door = Door::open(&global).await?;
    let done = act(&door, command, global.json).await;
    door.close().await.and(done)
}

async fn act(door: &Door, command: TokenCommand, json: bool) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, scopes, expires_at } => {
            let mut body = json!({"name": name, "scopes": scopes});
            if let Some(end) = expires_at {
                body["expires_at"] = Value::String(end);
            }
            let made = door.call(Method::POST, "/api-token", Some(&body)).await?;
            if json {
                return print_json(&made);
            }
            eprintln!("Token {} for {name}; shown once:", made["id"].as_str().unwrap_or_default());
            print_data(made["token"].as_str().unwrap_or_default())
        }
        TokenCommand::List => {
            let list = door.read_all("/api-token").await?;
            if json {
                return print_json(&Value::Array(list));
            }
            for token in &list {
                let scopes: Vec<&str> = token["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let text = |name: &str| token[name].as_str().unwrap_or("-").to_owned();
                print_data(&format!("{}  {}  {}  {}", text("id"), text("name"), scopes.join(","), text("expires_at")))?;
            }
            Ok(())
        }
        TokenCommand::Revoke { id } => {
            let ended = door.call(Method::DELETE, &format!("/api-token/{}", encoded(&id)), None).await?;
            if json {
                return print_json(&ended);
            }
            eprintln!("Token {id} is revoked.");
            Ok(())
        }
    }
}
