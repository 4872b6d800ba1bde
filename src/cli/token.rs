//! `rollcall token …`.

use clap::{
    Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing, encoded},
    print_data, print_json,
};
use crate::{config::GlobalArgs, model::Scope};

/// The scopes that open something today; others are kept for features to come.
const OFFERED: [Scope; 9] = [
    Scope::DirectoryRead,
    Scope::DirectoryWrite,
    Scope::ProxyRead,
    Scope::ProxyWrite,
    Scope::AccountsRead,
    Scope::AccountsWrite,
    Scope::LinksWrite,
    Scope::EventsRead,
    Scope::Admin,
];

/// What can be done with tokens.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// The person or service that will use it
        #[arg(long)]
        name: String,
        /// A scope; repeat or separate by commas for several
        #[arg(long = "scope", required = true, value_name = "SCOPE", value_delimiter = ',', value_parser = scopes())]
        scopes: Vec<Scope>,
        /// When it ends by itself, for example `2027-01-31T00:00:00Z`
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<Timestamp>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token everywhere
    Revoke {
        /// Its id
        id: String,
    },
}

fn scopes() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(OFFERED.map(Scope::as_str)).try_map(|text| text.parse::<Scope>())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write date, time and offset, for example `2027-01-31T00:00:00Z`".to_owned())
}

/// Runs one of them.
pub async fn run(command: TokenCommand, global: GlobalArgs) -> Result<(), Failure> {
    let missing = if matches!(command, TokenCommand::Create { .. }) { Missing::IsMade } else { Missing::Fails };
    let door = Door::open(&global, missing).await?;
    let done = act(&door, command, global.json).await;
    door.close().await.and(done)
}

async fn act(door: &Door, command: TokenCommand, json: bool) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, scopes, expires_at } => {
            let mut body = json!({"name": name, "scopes": scopes});
            if let Some(end) = expires_at {
                body["expires_at"] = Value::String(end.to_string());
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
