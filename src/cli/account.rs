//! `rollcall account …`.

use std::{io::Read, path::PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    door::{Door, Missing, encoded},
    harmless,
    import::{ImportArgs, import},
    print_data, print_json, secret_names,
};
use crate::config::GlobalArgs;

/// What can be done with linked accounts.
#[derive(Subcommand)]
pub enum AccountCommand {
    /// Link an account: the credential is verified at the vendor, then stored sealed
    Add(AddArgs),
    /// Link many accounts, from a file of JSON lines; begun again, it goes on
    Import(ImportArgs),
    /// List linked accounts, without their secrets
    List,
    /// Show one linked account, without its secrets
    Show {
        /// Its id
        id: String,
    },
    /// Destroy a linked account and its credential
    Delete {
        /// Its id
        id: String,
    },
}

/// A new account.
#[derive(Args)]
pub struct AddArgs {
    /// The connector, for example `scim`
    #[arg(long)]
    integration: String,
    /// The way to link, for example `service_mode`
    #[arg(long)]
    method: String,
    /// Your own label of the end customer
    #[arg(long)]
    tenant: String,
    /// A field that is not secret: NAME=VALUE; repeat for several
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// A field whose value stands in a file, so that secrets stay off the command line: NAME=FILE, `-` is the standard input
    #[arg(long = "field-file", value_name = "NAME=FILE")]
    field_files: Vec<String>,
}

/// Runs one of them.
pub async fn run(command: AccountCommand, global: GlobalArgs) -> Result<(), Failure> {
    let missing =
        if matches!(command, AccountCommand::Add(_) | AccountCommand::Import(_)) { Missing::IsMade } else { Missing::Fails };
    let door = Door::open(&global, missing).await?;
    let done = act(&door, command, global.json).await;
    door.close().await.and(done)
}

async fn act(door: &Door, command: AccountCommand, json: bool) -> Result<(), Failure> {
    match command {
        AccountCommand::Add(args) => add(door, args, json).await,
        AccountCommand::Import(args) => import(door, args, json).await,
        AccountCommand::List => {
            let list = door.read_all("/integrated-account").await?;
            if json {
                return print_json(&Value::Array(list));
            }
            list.iter().try_for_each(|account| print_data(&line(account)))
        }
        AccountCommand::Show { id } => {
            let account = door.call(Method::GET, &path(&id), None).await?;
            print_data(&if json { account.to_string() } else { serde_json::to_string_pretty(&account)? })
        }
        AccountCommand::Delete { id } => {
            let gone = door.call(Method::DELETE, &path(&id), None).await?;
            if json {
                return print_json(&gone);
            }
            eprintln!("Account {id} and its credential are destroyed.");
            Ok(())
        }
    }
}

async fn add(door: &Door, args: AddArgs, json: bool) -> Result<(), Failure> {
    let context = context(&args)?;
    check_names(door, &args, &context).await?;
    let body = json!({
        "tenant_id": args.tenant, "integration": args.integration, "authentication_method": args.method, "context": context,
    });
    let account = door.call(Method::POST, "/integrated-account", Some(&body)).await?;
    for warning in account["warnings"].as_array().into_iter().flatten() {
        eprintln!("Warning: {}", harmless(warning["message"].as_str().unwrap_or_default()));
    }
    if json { print_json(&account) } else { print_data(&line(&account)) }
}

/// The fields of the new account, each given once.
fn context(args: &AddArgs) -> Result<Map<String, Value>, Failure> {
    let mut context = Map::new();
    let mut put = |name: &str, value: String| match context.insert(name.to_owned(), Value::String(value)) {
        None => Ok(()),
        Some(_) => Err(Failure::Usage(format!("the field `{name}` is given twice"))),
    };
    for field in &args.fields {
        let (name, value) = split(field, "--field")?;
        put(name, value.to_owned())?;
    }
    for field in &args.field_files {
        let (name, file) = split(field, "--field-file")?;
        put(name, read_value(file)?)?;
    }
    Ok(context)
}

/// Refuses names that the link method does not have: they would be kept as labels, in the clear. What the gateway itself
/// refuses (an unknown connector or method) is left to it.
async fn check_names(door: &Door, args: &AddArgs, context: &Map<String, Value>) -> Result<(), Failure> {
    let installed = door.read_all("/environment-integration").await?;
    let is_meant = |entry: &&Value| {
        [&entry["integration"]["name"], &entry["integration_id"], &entry["id"]].contains(&&json!(args.integration))
    };
    let Some(connector) = installed.iter().find(is_meant) else { return Ok(()) };
    let slug = connector["integration"]["name"].as_str().unwrap_or_default();
    let offer = door.call(Method::GET, &format!("/integration/{slug}/capabilities"), None).await?;
    let methods = offer["link_methods"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(method) = methods.iter().find(|method| method["method"] == args.method) else { return Ok(()) };
    let fields: Vec<_> = method["fields"].as_array().into_iter().flatten().filter_map(|field| field["name"].as_str()).collect();
    let strange: Vec<_> =
        context.keys().filter(|name| !fields.contains(&name.as_str())).map(|name| format!("`{name}`")).collect();
    if strange.is_empty() {
        warn_of_secrets(&args.fields, &method["fields"]);
        return Ok(());
    }
    let (strange, fields) = (strange.join(", "), fields.join(", "));
    Err(Failure::Usage(format!("{slug} linked by `{}` has no field {strange}; its fields: {fields}", args.method)))
}

/// A command line stays in the shell's history, and whoever uses the machine can read it.
fn warn_of_secrets(given: &[String], fields: &Value) {
    for name in secret_names(fields) {
        if given.iter().any(|field| field.split_once('=').is_some_and(|(given, _)| given == name)) {
            eprintln!(
                "Warning: `{name}` is secret and stands on the command line, where others can read it; give it by --field-file {name}=FILE"
            );
        }
    }
}

fn split<'a>(field: &'a str, option: &str) -> Result<(&'a str, &'a str), Failure> {
    field.split_once('=').ok_or_else(|| Failure::Usage(format!("{option} takes NAME=…, not `{field}`")))
}

fn read_value(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        let path = PathBuf::from(file);
        text = std::fs::read_to_string(&path).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?;
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn line(account: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (id, tenant, status) = (text(&account["id"]), text(&account["tenant_id"]), text(&account["status"]));
    format!("{id}  {}  {tenant}  {status}", text(&account["integration"]["name"]))
}

fn path(id: &str) -> String {
    format!("/integrated-account/{}", encoded(id))
}
