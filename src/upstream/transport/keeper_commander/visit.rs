//! One company in one visit: users, teams, roles and nodes together, under the service's lock, believed only when the
//! context was the right one before and after and every id says the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Wire,
    company::{Home, NODES, Proof, go_home, good, leave, line, prove, prove_is, rows},
    licenses::{Who, licenses},
    lock::Lock,
    queue::Session,
    records::{Teams, Users, organizations, role_assignments, roles},
    wire::Verdict,
};
use crate::{
    connector::Meaning,
    model::{Resource, Warning},
    upstream::{Access, Company, Failure, Pick, Visit},
};

/// Reads the picked company whole.
pub async fn visit(wire: &dyn Wire, access: &Access, pick: &Pick) -> Result<Visit, Failure> {
    let lock = Lock::take(wire.store(), access, wire.times()).await?;
    let done = lock.during(twice(wire, access, pick)).await;
    lock.release().await;
    done
}

/// A batch that another client's switch spoiled is thrown away and read again, once.
async fn twice(wire: &dyn Wire, access: &Access, pick: &Pick) -> Result<Visit, Failure> {
    let session = Session::new(wire, access);
    match once(&session, pick).await {
        Err(Failure::ContextChanged(why)) => {
            tracing::warn!(why, account = %access.account, "a visit is read again");
            once(&session, pick).await
        }
        other => other,
    }
}

async fn once(session: &Session<'_>, pick: &Pick) -> Result<Visit, Failure> {
    let home = go_home(session).await?;
    let own = own_enterprise(session, &home).await?;
    let order = in_order(session.access(), &own, &home);
    let Some((company, rest)) = choose(&order, pick) else {
        return Ok(Visit { company: None, records: BTreeMap::new(), rest: Vec::new(), refused: None });
    };
    let is_first = order.first() == Some(&company);
    let mut found = match company.id == own.id {
        true => read_own(session, &company).await.map(Ok)?,
        false => read_managed(session, &company).await?,
    };
    if is_first && let Ok(found) = &mut found {
        let listed = organizations_of(session.access(), &own, found.root.as_deref(), &home)?;
        found.records.insert(Resource::Organization, listed);
        found.records.insert(Resource::License, licenses_of(session.access(), &own, found.who.as_ref(), &home)?);
    }
    let (records, refused) = match found {
        Ok(found) => (found.records, None),
        Err(warning) if is_first => {
            let listed = organizations_of(session.access(), &own, None, &home)?;
            let bought = licenses_of(session.access(), &own, None, &home)?;
            (BTreeMap::from([(Resource::Organization, listed), (Resource::License, bought)]), Some(warning))
        }
        Err(warning) => (BTreeMap::new(), Some(warning)),
    };
    Ok(Visit { company: Some(company), records, rest, refused })
}

/// The own enterprise, as the link test learned it; the session must still be in it when nothing is managed.
pub(super) async fn own_enterprise(session: &Session<'_>, home: &Home) -> Result<Company, Failure> {
    let fact = |name: &str| session.access().facts.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    if !home.is_msp && fact("kind").as_deref() == Some("msp") {
        return Err(Failure::ContextChanged("the service is not in the MSP's own enterprise; another client switched it".into()));
    }
    match fact("enterprise_id") {
        Some(id) => Ok(Company { id, name: fact("enterprise_name").unwrap_or_default() }),
        None => prove(session, NODES).await.map(|proof| Company { id: proof.company.to_string(), name: proof.name }),
    }
}

/// Whether this company is a managed one; an error when it is no company of the account's at all.
pub(super) async fn is_managed(session: &Session<'_>, home: &Home, company: u64) -> Result<bool, Failure> {
    match home.managed.contains_key(&company) {
        true => Ok(true),
        false if own_enterprise(session, home).await?.id == company.to_string() => Ok(false),
        false => Err(Failure::Absent(format!("this account sees no company {company}"))),
    }
}

/// The own enterprise, then the managed companies by number; only the account's own company where it is limited to one.
pub(super) fn in_order(access: &Access, own: &Company, home: &Home) -> Vec<Company> {
    let all = std::iter::once(own).chain(home.managed.values().map(|(company, _)| company));
    match access.fields.get("company_id").filter(|id| !id.is_empty()) {
        Some(only) => all.filter(|company| company.id == *only).cloned().collect(),
        None => all.cloned().collect(),
    }
}

/// The picked company and those after it. A company that has gone since is passed by its number.
pub(super) fn choose(order: &[Company], pick: &Pick) -> Option<(Company, Vec<Company>)> {
    let at = match pick {
        Pick::First => 0,
        Pick::Exactly(id) => order.iter().position(|company| company.id == *id)?,
        Pick::After(id) => match order.iter().position(|company| company.id == *id) {
            Some(at) => at + 1,
            None => {
                let gone: u64 = id.parse().ok()?;
                1 + order.iter().skip(1).position(|company| company.id.parse::<u64>().is_ok_and(|id| id > gone))?
            }
        },
    };
    order.get(at).map(|company| (company.clone(), order[at + 1..].to_vec()))
}

struct Found {
    records: BTreeMap<Resource, Bytes>,
    root: Option<Box<RawValue>>,
    /// What the service says of the enterprise it is signed in to.
    who: Option<Who>,
}

async fn read_own(session: &Session<'_>, company: &Company) -> Result<Found, Failure> {
    good(session.run("enterprise-down").await?, "enterprise-down")?;
    let (mut found, users) = read_here(session, company).await?;
    if let Some(digest) = session.access().facts.get("user_digest").and_then(serde_json::Value::as_str) {
        found.records.insert(Resource::Me, users.of_digest(digest));
    }
    found.who = Some(Who::read(good(session.run("whoami").await?, "whoami")?.data()));
    Ok(found)
}

/// A managed company, in and out again; the service's refusal of it is a warning, not a failure of the walk.
async fn read_managed(session: &Session<'_>, company: &Company) -> Result<Result<Found, Warning>, Failure> {
    let inside = enter_and_read(session, company).await;
    let left = leave(session).await;
    match inside {
        Ok(found) => left.map(|_| Ok(found)),
        Err(Failure::Answered { meaning: Meaning::Denied | Meaning::Failed | Meaning::Missing, message, .. }) => {
            Ok(Err(refusal(company, message.as_deref().unwrap_or("the service gave no reason"))))
        }
        Err(failure) => Err(failure),
    }
}

async fn enter_and_read(session: &Session<'_>, company: &Company) -> Result<Found, Failure> {
    enter(session, &company.id).await?;
    good(session.run("enterprise-down").await?, "enterprise-down")?;
    read_here(session, company).await.map(|(found, _)| found)
}

/// `switch-to-mc`, by id. A switch that was throttled after it had happened is refused when it is sent again, so a refusal
/// for being inside some company already is left to the proof that follows every switch.
pub(super) async fn enter(session: &Session<'_>, id: &str) -> Result<(), Failure> {
    let number = number(id)?;
    let done = session.run(&format!("switch-to-mc {number}")).await?;
    match done.verdict() {
        Verdict::NotMsp => Ok(()),
        _ => good(done, "switch-to-mc").map(|_| ()),
    }
}

/// A company's id as the number it is.
pub(super) fn number(id: &str) -> Result<u64, Failure> {
    id.parse().map_err(|_| Failure::Absent("a company's id is a number".into()))
}

pub(super) fn refusal(company: &Company, words: &str) -> Warning {
    let name: String = company.name.chars().take(100).collect();
    Warning {
        code: "company_refused".into(),
        message: format!("{name} (company {}) could not be read: {words}", company.id),
        field: None,
    }
}

/// Everything of the company the session is in.
async fn read_here(session: &Session<'_>, company: &Company) -> Result<(Found, Users), Failure> {
    let access = session.access();
    let id = number(&company.id)?;
    let nodes: Proof = prove_is(session, &line(access, Resource::Workspace)?, id).await?;
    let users = Users::read(rows(session, &line(access, Resource::User)?).await?.1, id)?;
    let teams = Teams::read(rows(session, &line(access, Resource::Group)?).await?.1)?;
    let (role_line, holder_line) = (line(access, Resource::Role)?, line(access, Resource::RoleAssignment)?);
    let role_rows = rows(session, &role_line).await?.1;
    let given = match holder_line == role_line {
        true => role_assignments(&role_rows, &users, &teams)?,
        false => role_assignments(&rows(session, &holder_line).await?.1, &users, &teams)?,
    };
    let roles = roles(role_rows, id)?;
    prove_is(session, NODES, id).await?;
    teams.prove(id, &nodes.name, &users)?;
    let node_rows = nodes.done.data().map(|data| Bytes::copy_from_slice(data.get().as_bytes())).unwrap_or_default();
    let records = BTreeMap::from([
        (Resource::User, users.bytes(&teams)?),
        (Resource::Group, teams.bytes()),
        (Resource::Role, roles),
        (Resource::RoleAssignment, given),
        (Resource::Workspace, node_rows),
    ]);
    Ok((Found { records, root: nodes.root, who: None }, users))
}

/// The companies the account may see.
fn organizations_of(access: &Access, own: &Company, root: Option<&RawValue>, home: &Home) -> Result<Bytes, Failure> {
    let managed = home.managed.values().filter(|(company, _)| is_seen(access, &company.id)).map(|(_, row)| row.as_ref());
    organizations(is_seen(access, &own.id).then_some((own, root)), managed)
}

/// What they have bought.
fn licenses_of(access: &Access, own: &Company, who: Option<&Who>, home: &Home) -> Result<Bytes, Failure> {
    let managed = home.managed.values().filter(|(company, _)| is_seen(access, &company.id)).map(|(_, row)| row.as_ref());
    licenses(who.filter(|_| is_seen(access, &own.id)).map(|who| (own, who)), managed)
}

fn is_seen(access: &Access, id: &str) -> bool {
    access.fields.get("company_id").filter(|id| !id.is_empty()).is_none_or(|only| only == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn companies(ids: &[&str]) -> Vec<Company> {
        ids.iter().map(|id| Company { id: (*id).into(), name: String::new() }).collect()
    }

    fn chosen(order: &[&str], pick: Pick) -> Option<(String, usize)> {
        choose(&companies(order), &pick).map(|(company, rest)| (company.id, rest.len()))
    }

    #[test]
    fn companies_are_picked_in_order() {
        let order = ["8560", "7", "3861", "3862"];
        assert_eq!(chosen(&order, Pick::First), Some(("8560".into(), 3)));
        assert_eq!(chosen(&order, Pick::After("8560".into())), Some(("7".into(), 2)));
        assert_eq!(chosen(&order, Pick::After("3861".into())), Some(("3862".into(), 0)));
        assert_eq!(chosen(&order, Pick::After("3862".into())), None);
        assert_eq!(chosen(&order, Pick::Exactly("3861".into())), Some(("3861".into(), 1)));
        assert_eq!(chosen(&order, Pick::Exactly("1".into())), None);
        assert_eq!(chosen(&order, Pick::After("100".into())), Some(("3861".into(), 1)), "a company that has gone");
        assert_eq!(chosen(&order, Pick::After("9999".into())), None);
        assert_eq!(chosen(&["3861"], Pick::First), Some(("3861".into(), 0)));
        assert_eq!(chosen(&[], Pick::First), None);
    }
}
