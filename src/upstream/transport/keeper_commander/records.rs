//! Records as they are handed on: Commander's own bytes, once their ids prove the company. Only where an old Commander
//! names teams by name alone are they given their ids.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    upstream::{Company, Failure},
    vault::{fingerprint, hex},
};

#[derive(Deserialize)]
struct UserRow {
    user_id: u64,
    #[serde(default)]
    email: String,
    #[serde(default)]
    teams: Vec<Value>,
}

#[derive(Deserialize)]
struct RoleRow {
    role_id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    teams: Vec<String>,
}

#[derive(Deserialize)]
struct TeamRow {
    team_uid: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    node: Value,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    queued_users: Vec<String>,
}

fn changed(what: &str, company: u64) -> Failure {
    Failure::ContextChanged(format!(
        "{what} of another company came among those of company {company}; another client switched the Commander service"
    ))
}

fn row<'a, T: Deserialize<'a>>(raw: &'a RawValue, what: &str) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|error| {
        Failure::BadAnswer(format!("a {what} record of another shape than Commander's (column {})", error.column()))
    })
}

/// Teams, when nothing speaks against their company: ids do not tell, but members and node paths do.
pub(super) struct Teams {
    rows: Vec<Box<RawValue>>,
    read: Vec<TeamRow>,
}

impl Teams {
    /// Reads the rows.
    pub fn read(rows: Vec<Box<RawValue>>) -> Result<Teams, Failure> {
        let read = rows.iter().map(|raw| row(raw, "team")).collect::<Result<_, _>>()?;
        Ok(Teams { rows, read })
    }

    /// Refuses teams with a member that is not a user of the company, or in a node of another.
    pub fn prove(&self, company: u64, name: &str, users: &Users) -> Result<(), Failure> {
        for team in &self.read {
            let members = team.users.iter().chain(&team.queued_users).all(|email| users.emails.contains(&email.to_lowercase()));
            if !members || !in_company(&team.node, company, name) {
                return Err(changed("a team", company));
            }
        }
        Ok(())
    }

    /// The array.
    pub fn bytes(&self) -> Bytes {
        array(&self.rows)
    }

    /// Names that mean exactly one team.
    fn ids(&self) -> BTreeMap<&str, Option<&str>> {
        let mut ids = BTreeMap::new();
        for team in &self.read {
            ids.entry(team.name.as_str()).and_modify(|id| *id = None).or_insert(Some(team.team_uid.as_str()));
        }
        ids
    }
}

/// A node is `{node_id, …}` or a path whose first part is the company's name.
fn in_company(node: &Value, company: u64, name: &str) -> bool {
    match node {
        Value::Object(node) => {
            let id = node.get("node_id").and_then(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()));
            id.is_none_or(|id| id >> 32 == company)
        }
        Value::String(path) => {
            name.is_empty() || path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'))
        }
        _ => true,
    }
}

/// Users of one company.
pub(super) struct Users {
    rows: Vec<Box<RawValue>>,
    read: Vec<UserRow>,
    emails: BTreeSet<String>,
}

impl Users {
    /// Reads the rows; every id must be of the company.
    pub fn read(rows: Vec<Box<RawValue>>, company: u64) -> Result<Users, Failure> {
        let read: Vec<UserRow> = rows.iter().map(|raw| row(raw, "user")).collect::<Result<_, _>>()?;
        if read.iter().any(|user| user.user_id >> 32 != company) {
            return Err(changed("a user", company));
        }
        let emails = read.iter().map(|user| user.email.to_lowercase()).collect();
        Ok(Users { rows, read, emails })
    }

    /// The array. Commander's own bytes, except that teams given by name alone get their id where the name is unique.
    pub fn bytes(&self, teams: &Teams) -> Result<Bytes, Failure> {
        let ids = teams.ids();
        let mut rows = Vec::with_capacity(self.rows.len());
        for (raw, user) in self.rows.iter().zip(&self.read) {
            rows.push(with_team_ids(raw, user, &ids)?);
        }
        Ok(array(&rows))
    }

    /// The id of the user with this address.
    fn id_of(&self, email: &str) -> Option<u64> {
        let found = self.read.iter().find(|user| user.email.eq_ignore_ascii_case(email));
        found.map(|user| user.user_id)
    }

    /// The array of the one user whose address has this digest.
    pub fn of_digest(&self, digest: &str) -> Bytes {
        let found = self.rows.iter().zip(&self.read).find(|(_, user)| email_digest(&user.email) == digest);
        array(&found.map(|(raw, _)| raw.clone()).into_iter().collect::<Vec<_>>())
    }
}

/// Tells one address from another in facts, which are stored in the clear and hold no person's address.
pub fn email_digest(email: &str) -> String {
    hex(&fingerprint(email.to_lowercase().as_bytes()))
}

fn with_team_ids(raw: &RawValue, user: &UserRow, ids: &BTreeMap<&str, Option<&str>>) -> Result<Box<RawValue>, Failure> {
    if !user.teams.iter().any(Value::is_string) {
        return Ok(raw.to_owned());
    }
    let unreadable = |error: serde_json::Error| Failure::BadAnswer(error.to_string());
    let mut whole: Value = serde_json::from_str(raw.get()).map_err(unreadable)?;
    if let Some(teams) = whole.get_mut("teams").and_then(Value::as_array_mut) {
        for team in teams {
            if let Some(name) = team.as_str()
                && let Some(Some(id)) = ids.get(name)
            {
                *team = json!({ "team_uid": id, "team_name": name });
            }
        }
    }
    serde_json::value::to_raw_value(&whole).map_err(unreadable)
}

/// Roles, every id of the company.
pub(super) fn roles(rows: Vec<Box<RawValue>>, company: u64) -> Result<Bytes, Failure> {
    for raw in &rows {
        if row::<RoleRow>(raw, "role")?.role_id >> 32 != company {
            return Err(changed("a role", company));
        }
    }
    Ok(array(&rows))
}

/// Who holds the roles: one record for each user and each team a role was given to, in the order of the roles. Commander names
/// the holders; whoever is not found by that name goes by it.
pub(super) fn role_assignments(rows: &[Box<RawValue>], users: &Users, teams: &Teams) -> Result<Bytes, Failure> {
    let ids = teams.ids();
    let mut made = Vec::new();
    for raw in rows {
        let role: RoleRow = row(raw, "role")?;
        let (id, name) = (role.role_id.to_string(), role.name);
        for email in role.users {
            let user = users.id_of(&email).map(|id| id.to_string());
            let holder = user.clone().unwrap_or_else(|| email.clone());
            made.push(raw_of(&json!({ "role_id": id, "role_name": name, "holder": holder, "user_id": user, "email": email }))?);
        }
        for team in role.teams {
            let uid = ids.get(team.as_str()).copied().flatten();
            let holder = uid.unwrap_or(&team);
            made.push(raw_of(&json!({ "role_id": id, "role_name": name, "holder": holder, "kind": "team", "team_uid": uid, "team_name": team }))?);
        }
    }
    Ok(array(&made))
}

fn raw_of(value: &Value) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::BadAnswer(error.to_string()))
}

/// The companies of the account: the own enterprise (which Commander lists nowhere) and the managed ones.
pub(super) fn organizations<'a>(
    own: Option<(&Company, Option<&RawValue>)>,
    managed: impl Iterator<Item = &'a RawValue>,
) -> Result<Bytes, Failure> {
    let mut rows: Vec<Box<RawValue>> = Vec::new();
    if let Some((company, root)) = own {
        let id: u64 = company.id.parse().map_err(|_| Failure::BadAnswer("an enterprise without a numeric id".into()))?;
        rows.push(raw_of(&json!({ "company_id": id, "company_name": company.name, "own": true, "root_node": root }))?);
    }
    rows.extend(managed.map(RawValue::to_owned));
    Ok(array(&rows))
}

pub(super) fn array(rows: &[Box<RawValue>]) -> Bytes {
    let mut out = Vec::with_capacity(2 + rows.iter().map(|row| row.get().len() + 1).sum::<usize>());
    out.push(b'[');
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row.get().as_bytes());
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Box<RawValue>> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn teams_named_by_an_old_commander_get_their_id_where_the_name_is_unique() {
        let teams = Teams::read(rows(
            r#"[{"team_uid":"A","name":"Front"},{"team_uid":"B","name":"Twin"},{"team_uid":"C","name":"Twin"}]"#,
        ))
        .unwrap();
        let raw = r#"[{"user_id":16582868730057,"email":"a@x.example","teams":["Front","Twin"],"odd":1.50},{"user_id": 16582868730058, "teams":[{"team_uid":"A"}]}]"#;
        let users = Users::read(rows(raw), 3861).unwrap();
        assert_eq!(
            users.bytes(&teams).unwrap(),
            r#"[{"user_id":16582868730057,"email":"a@x.example","teams":[{"team_uid":"A","team_name":"Front"},"Twin"],"odd":1.5},{"user_id": 16582868730058, "teams":[{"team_uid":"A"}]}]"#
        );
    }

    #[test]
    fn a_record_of_another_company_is_never_taken() {
        assert!(matches!(Users::read(rows(r#"[{"user_id":16587163697353}]"#), 3861), Err(Failure::ContextChanged(_))));
        assert!(matches!(roles(rows(r#"[{"role_id":16587163697353}]"#), 3861), Err(Failure::ContextChanged(_))));
        let users = Users::read(rows(r#"[{"user_id":16582868730057,"email":"Ada@x.example"}]"#), 3861).unwrap();
        let prove = |text: &str| Teams::read(rows(text)).unwrap().prove(3861, "North", &users);
        assert!(prove(r#"[{"team_uid":"A","node":"North\\Clinic","users":["ada@x.example"]}]"#).is_ok());
        assert!(prove(r#"[{"team_uid":"A","node":{"node_id":"16582868729858","node_name":"North"}}]"#).is_ok());
        for wrong in [
            r#"[{"team_uid":"A","node":"North","users":["gil@y.example"]}]"#,
            r#"[{"team_uid":"A","node":"North","queued_users":["gil@y.example"]}]"#,
            r#"[{"team_uid":"A","node":"Northern"}]"#,
            r#"[{"team_uid":"A","node":{"node_id":"16587163697153"}}]"#,
        ] {
            assert!(matches!(prove(wrong), Err(Failure::ContextChanged(_))), "{wrong}");
        }
    }
}
