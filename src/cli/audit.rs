//! `rollcall audit …`.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing, encoded},
    print_data, print_json,
};
use crate::config::GlobalArgs;

/// Problems that are named before the rest is only counted.
const NAMED: usize = 10;

/// What can be done with the audit log.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// List the actions of the audit log, the newest first
    List(ListArgs),
    /// Look whether the audit log is as it was written; exit 1 where an entry was changed, dropped or moved
    Verify,
}

/// Which actions are listed.
#[derive(Args)]
pub struct ListArgs {
    /// Only those by tokens of this name
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, for example `integrated_account.delete`
    #[arg(long)]
    action: Option<String>,
    /// Only those done to the object of this id
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only those that ended then or later, for example `2027-01-31T00:00:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that ended then or earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Runs one of them.
pub async fn run(command: AuditCommand, global: GlobalArgs) -> Result<(), Failure> {
    let door = Door::open(&global, Missing::Fails).await?;
    let done = match command {
        AuditCommand::List(args) => list(&door, &args, global.json).await,
        AuditCommand::Verify => verify(&door, global.json).await,
    };
    door.close().await.and(done)
}

async fn list(door: &Door, args: &ListArgs, json: bool) -> Result<(), Failure> {
    let ListArgs { actor, action, target, since, until } = args;
    let filters = [("actor", actor), ("action", action), ("target_id", target), ("since", since), ("until", until)];
    let given = filters.iter().filter_map(|(name, value)| Some(format!("&{name}={}", encoded(value.as_deref()?))));
    let entries = door.read_all(&format!("/audit?limit=1000{}", given.collect::<String>())).await?;
    if json {
        return print_json(&Value::Array(entries));
    }
    entries.iter().try_for_each(|entry| print_data(&line(entry)))
}

fn line(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("-");
    let number = entry["number"].as_u64().unwrap_or_default();
    let (time, outcome, action, target, actor) =
        (text("created_at"), text("outcome"), text("action"), text("target_id"), text("actor"));
    format!("{number}  {time}  {outcome}  {action}  {target}  {actor}")
}

/// Walks the whole log.
async fn verify(door: &Door, json: bool) -> Result<(), Failure> {
    let (mut problems, mut entries, mut cursor) = (Vec::new(), 0, String::new());
    let last = loop {
        let piece = door.call(Method::GET, &format!("/audit/verify?next_cursor={}", encoded(&cursor)), None).await?;
        problems.extend(piece["problems"].as_array().cloned().unwrap_or_default());
        entries += piece["entries"].as_u64().unwrap_or_default();
        match piece["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break piece,
        }
    };
    let (head, verified_to) = (&last["head"], &last["verified_to"]);
    let broken = broken(&problems);
    if json {
        print_json(&json!({"entries": entries, "verified_to": verified_to, "head": head, "problems": problems}))?;
    } else if broken.is_none() {
        let hash = head["hash"].as_str().unwrap_or("-");
        print_data(&format!("{entries} entries, up to {verified_to}, are as they were written; the last hash is {hash}"))?;
    }
    broken.map_or(Ok(()), |why| Err(Failure::Failed(why)))
}

fn broken(problems: &[Value]) -> Option<String> {
    if problems.is_empty() {
        return None;
    }
    let named: Vec<_> = problems.iter().take(NAMED).filter_map(|problem| problem["detail"].as_str()).collect();
    let rest = problems.len() - named.len();
    let more = if rest > 0 { format!(" And {rest} more.") } else { String::new() };
    Some(format!("the audit log is not as it was written. {}{more}", named.join(" ")))
}
