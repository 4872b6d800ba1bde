//! Which company the service's session is in, and moving it: every step proves itself by the ids that come back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    COMMANDS,
    command::Command,
    queue::Session,
    wire::{Done, Verdict},
};
use crate::{
    connector::{ListSource, Meaning},
    model::Resource,
    upstream::{Access, Company, Failure},
};

/// The company of an id: of `<company>:<team>` what stands before the colon, of a user, role or node the high 32 bits.
pub fn company_of(_access: &Access, id: &str) -> Option<String> {
    if let Some((company, _)) = id.split_once(':') {
        return company.parse::<u64>().ok().map(|company| company.to_string());
    }
    id.parse::<u64>().ok().map(|id| id >> 32).filter(|company| *company > 0).map(|company| company.to_string())
}

/// The id within its company, as Commander knows it: of `<company>:<team>` the team's own.
pub fn key_of(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, key)| key)
}

/// The companies of a service, seen from its own enterprise.
pub(super) struct Home {
    /// Whether it manages others.
    pub is_msp: bool,
    /// Managed companies by numeric id, with the record of each as Commander wrote it.
    pub managed: BTreeMap<u64, (Company, Box<RawValue>)>,
}

#[derive(Deserialize)]
struct ManagedRow {
    company_id: u64,
    #[serde(default)]
    company_name: String,
}

#[derive(Deserialize)]
struct NodeRow {
    node_id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    parent_id: Option<serde_json::Value>,
}

/// What a node list proves.
pub(super) struct Proof {
    /// The one company of all its nodes.
    pub company: u64,
    /// The root node's name, which is the company's.
    pub name: String,
    /// The root node as Commander wrote it.
    pub root: Option<Box<RawValue>>,
    /// The list.
    pub done: Done,
}

/// The command line of a resource: the connector file's, or the one every Commander has.
pub(super) fn line(access: &Access, resource: Resource) -> Result<String, Failure> {
    let written = access.method.resources.get(&resource).and_then(|def| def.list.as_ref()).and_then(|list| match &list.source {
        ListSource::Command(words) => Some(words),
        _ => None,
    });
    match written {
        Some(words) => Command::from_words(words).map_err(|error| Failure::BadAnswer(error.to_string())),
        None => Ok(plain_line(resource).to_owned()),
    }
}

const fn plain_line(resource: Resource) -> &'static str {
    match resource {
        Resource::User => {
            "enterprise-info --users --format json -v --columns name,status,transfer_status,node,teams,roles,alias,2fa_enabled,job_title"
        }
        Resource::Group | Resource::GroupMember => {
            "enterprise-info --teams --format json -v --columns restricts,node,user_count,users,queued_user_count,queued_users,role_count,roles"
        }
        Resource::Role | Resource::RoleAssignment => {
            "enterprise-info --roles --format json -v --columns visible_below,default_role,admin,node,user_count,users,team_count,teams"
        }
        Resource::Workspace => {
            "enterprise-info --nodes --format json --columns parent_node,parent_id,user_count,team_count,role_count,provisioning,isolated"
        }
        Resource::Organization | Resource::License => "msp-info --format json -v",
        Resource::Activity => "audit-report --report-type raw --report-format fields --format json --order desc",
        Resource::Me => "whoami",
    }
}

/// Commands that only move the session or reload it.
pub(super) const NODES: &str = "enterprise-info --nodes --format json --columns parent_id";

/// Runs a read that must give records; the answer and its rows.
pub(super) async fn rows(session: &Session<'_>, line: &str) -> Result<(Done, Vec<Box<RawValue>>), Failure> {
    let done = good(session.run(line).await?, line)?;
    let Some(data) = done.data() else {
        return Err(silent(session, line, &done).await);
    };
    match serde_json::from_str::<Vec<Box<RawValue>>>(data.get()) {
        Ok(rows) => Ok((done, rows)),
        Err(_) => Err(Failure::BadAnswer(format!("`{}` gave no list of records", word(line)))),
    }
}

/// A read without records: either the session is gone, which Commander says only once, or the answer is not to be read.
async fn silent(session: &Session<'_>, line: &str, done: &Done) -> Failure {
    match session.run("whoami").await {
        Err(failure) => failure,
        Ok(who) if who.data().is_none() || who.data().is_some_and(|data| data.get().contains("\"logged_in\":false")) => {
            let message = "The service's own Keeper session is gone; sign in to Commander again on its machine.";
            who.failure(Meaning::Reauth, Some(message.into()))
        }
        Ok(_) => Failure::BadAnswer(format!("`{}` answered without records: {}", word(line), done.text())),
    }
}

/// The answer, unless the command did not do its work.
pub(super) fn good(done: Done, line: &str) -> Result<Done, Failure> {
    match done.verdict() {
        Verdict::Fine => Ok(done),
        Verdict::NotPermitted => Err(not_permitted(&done, &[word(line)])),
        Verdict::NotMsp => {
            Err(Failure::ContextChanged("the Commander service was switched to another company in mid-work".into()))
        }
        Verdict::Refused => Err(done.failure(Meaning::Denied, None)),
        _ => Err(done.failure(Meaning::Failed, None)),
    }
}

/// The refusal of a key whose command list is too short.
pub(super) fn not_permitted(done: &Done, words: &[&str]) -> Failure {
    let message = format!("The API key may not run {}. Give the service this command list: {COMMANDS}", words.join(", "));
    done.failure(Meaning::Denied, Some(message))
}

/// A line's first word.
pub(super) fn word(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

/// Brings the session to its own enterprise, reloads it and reads which companies it manages.
pub(super) async fn go_home(session: &Session<'_>) -> Result<Home, Failure> {
    for _ in 0..3 {
        leave(session).await?;
        let down = session.run("msp-down").await?;
        if down.verdict() == Verdict::NotMsp {
            // Either no MSP, or somebody else has just switched it: only the former has nothing to leave.
            if leave(session).await? {
                continue;
            }
            return Ok(Home { is_msp: false, managed: BTreeMap::new() });
        }
        good(down, "msp-down")?;
        let line = line(session.access(), Resource::Organization)?;
        let (_, rows) = rows(session, &line).await?;
        let managed = rows.into_iter().map(managed_row).collect::<Result<_, _>>()?;
        return Ok(Home { is_msp: true, managed });
    }
    Err(Failure::ContextChanged("another client keeps switching the Commander service to other companies".into()))
}

fn managed_row(row: Box<RawValue>) -> Result<(u64, (Company, Box<RawValue>)), Failure> {
    let read: ManagedRow = serde_json::from_str(row.get())
        .map_err(|_| Failure::BadAnswer("`msp-info` gave a company without a numeric id".into()))?;
    let company = Company { id: read.company_id.to_string(), name: read.company_name };
    Ok((read.company_id, (company, row)))
}

/// `switch-to-msp`; whether there was anything to leave.
pub(super) async fn leave(session: &Session<'_>) -> Result<bool, Failure> {
    let done = session.run("switch-to-msp").await?;
    match done.verdict() {
        Verdict::AlreadyMsp => Ok(false),
        _ => good(done, "switch-to-msp").map(|_| true),
    }
}

/// Reads nodes and what they prove: all of one company. An admin who sees no node at all sees nothing.
pub(super) async fn prove(session: &Session<'_>, line: &str) -> Result<Proof, Failure> {
    let (done, rows) = rows(session, line).await?;
    let mut proof: Option<(u64, String, Option<Box<RawValue>>)> = None;
    for row in rows {
        let node: NodeRow =
            serde_json::from_str(row.get()).map_err(|_| Failure::BadAnswer("a node without a numeric id".into()))?;
        let company = node.node_id >> 32;
        let (seen, name, root) = proof.get_or_insert((company, String::new(), None));
        if *seen != company {
            return Err(Failure::ContextChanged("one answer named nodes of two companies".into()));
        }
        if node.parent_id.is_none() {
            (*name, *root) = (node.name, Some(row));
        }
    }
    match proof {
        Some((company, name, root)) => Ok(Proof { company, name, root, done }),
        None => Err(done.failure(
            Meaning::Denied,
            Some("The service's Keeper account sees no node of its enterprise; it needs an administrator's role.".into()),
        )),
    }
}

/// The same, for a company that is known.
pub(super) async fn prove_is(session: &Session<'_>, line: &str, company: u64) -> Result<Proof, Failure> {
    let proof = prove(session, line).await?;
    if proof.company == company {
        return Ok(proof);
    }
    Err(Failure::ContextChanged(format!(
        "the Commander service was in company {} where {company} was expected; another client switched it",
        proof.company
    )))
}
