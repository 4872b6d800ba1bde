//! `enterprise-user` and `enterprise-team`, with the ways in which Commander's exit text lies: success and failure are
//! guessed from words in the log, what was skipped is called success, and an address that holds the word "error" fails.

use serde_json::{Value, json};

use super::shell::{Answer, failed, given, raised, said};
use crate::sandbox::keeper_commander::world::Company;

/// A way to lie about the next write, beyond those every Commander has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteLie {
    /// Success, and nothing is done.
    SaysDone,
    /// Done, and 500.
    SaysFailed,
    /// The name is set, the rest is not, and it fails.
    OnlyName,
    /// Done, but slowed down by Keeper's cloud after it.
    Throttled,
    /// Done, but the service's own limiter keeps the result back for an hour.
    Limited,
    /// Done, but Keeper's session ends before the answer.
    SessionEnds,
}

/// Words that make the service call an answer a failure.
const BAD: &[&str] = &["error", "failed", "invalid", "not found", "empty", "reserved", "duplicate"];

/// What a command line asks.
#[derive(Default)]
struct Line {
    flags: Vec<String>,
    options: Vec<(String, String)>,
    names: Vec<String>,
}

impl Line {
    fn read(word: &str, rest: &[String]) -> Result<Line, Answer> {
        let mut line = Line::default();
        for text in rest {
            match text.split_once('=').filter(|_| text.starts_with("--")) {
                Some((name, value)) => line.options.push((name.to_owned(), value.to_owned())),
                None if text.starts_with('-') => line.flags.push(text.clone()),
                None => line.names.push(text.clone()),
            }
        }
        let known = ["--invite", "--add", "--delete", "--lock", "--unlock", "--force"];
        match line.flags.iter().find(|flag| !known.contains(&flag.as_str())) {
            Some(flag) => Err(failed(400, word, &format!("unrecognized arguments: {flag}"))),
            None if line.names.is_empty() => Err(failed(400, word, "the following arguments are required")),
            None => Ok(line),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Runs one of the two, in this company.
pub(super) fn run(company: &mut Company, word: &str, rest: &[String], lie: Option<WriteLie>) -> Answer {
    let line = match Line::read(word, rest) {
        Ok(line) => line,
        Err(refusal) => return refusal,
    };
    if lie == Some(WriteLie::SaysDone) {
        return given(word, json!([{ "email": line.names[0] }]));
    }
    let log = match (word, lie) {
        ("enterprise-user", Some(WriteLie::OnlyName)) => {
            let named = line.options.iter().filter(|(name, _)| name == "--name").cloned().collect();
            let _ = user(company, &Line { options: named, names: line.names.clone(), ..Line::default() });
            Err("enterprise-user: the rest could not be set".to_owned())
        }
        ("enterprise-user", _) => user(company, &line),
        _ => team(company, &line),
    };
    match (lie, log) {
        (Some(WriteLie::SaysFailed), _) => raised("an error occurred"),
        (Some(WriteLie::Throttled), _) => Answer {
            status: 429,
            body: json!({ "error": "Your request has been throttled. Try again in 2 minutes.", "result_code": "throttled", "status": "error" }),
            is_result: false,
        },
        (Some(WriteLie::Limited), _) => Answer {
            status: 429,
            body: json!({ "error": "Service rate limit exceeded: 1 per 1 hour", "result_code": "rate_limited", "status": "error" }),
            is_result: false,
        },
        (Some(WriteLie::SessionEnds), _) => raised("session_token_expired: Session token expired"),
        (_, Err(error)) => raised(&error),
        (_, Ok(log)) if BAD.iter().any(|bad| log.to_lowercase().contains(bad)) => failed(500, word, &log),
        (_, Ok(log)) => said(word, &log),
    }
}

fn at(company: &Company, name: &str) -> Option<usize> {
    let (name, number) = (name.to_lowercase(), json!(name.parse::<u64>().ok()));
    company.users.iter().position(|user| user["user_id"] == number || user["email"].as_str() == Some(&name))
}

fn user(company: &mut Company, line: &Line) -> Result<String, String> {
    let name = line.names[0].to_lowercase();
    let found = at(company, &name);
    if line.has("--invite") || line.has("--add") {
        return Ok(match found {
            Some(at) if company.users[at]["status"] == "Invited" => format!("Invitation has been re-sent to {name}"),
            Some(_) => format!("{name} has already accepted invitation. Skipping"),
            None => invite(company, line, &name),
        });
    }
    let at = found.ok_or("enterprise-user: No such user(s)")?;
    if line.has("--delete") {
        if !line.has("--force") {
            return Err("EOF when reading a line".into());
        }
        let gone = company.users.remove(at);
        let email = gone["email"].as_str().unwrap_or_default();
        company.teams.iter_mut().for_each(|team| leave(team, email));
        company.roles.iter_mut().for_each(|role| leave(role, email));
        return Ok(format!("{email} user deleted"));
    }
    let mut log = Vec::new();
    let email = company.users[at]["email"].as_str().unwrap_or_default().to_owned();
    if line.has("--lock") || line.has("--unlock") {
        let is_invited = company.users[at]["status"] == "Invited";
        match is_invited {
            true => log.push(format!("{email} has not accepted invitation yet: Skipping")),
            false => {
                company.users[at]["status"] = if line.has("--lock") { "Locked" } else { "Active" }.into();
                log.push(format!("{email} is {}", if line.has("--lock") { "locked" } else { "unlocked" }));
            }
        }
    }
    log.extend(memberships(company, line, at, &email)?);
    log.extend(roles(company, line, at, &email)?);
    if set(company, line, at)? {
        log.push(format!("{email} user updated"));
    }
    Ok(log.join("\n"))
}

fn invite(company: &mut Company, line: &Line, email: &str) -> String {
    let number = company.users.iter().filter_map(|user| user["user_id"].as_u64()).max().unwrap_or(company.id << 32) + 1;
    let user = json!({
        "user_id": number, "email": email, "status": "Invited", "teams": [], "roles": [], "alias": [],
        "node": { "node_id": ((company.id << 32) + 2).to_string(), "node_name": company.name },
    });
    company.users.push(user);
    company.users.sort_by_key(|user| user["email"].as_str().unwrap_or_default().to_owned());
    if let Some(at) = at(company, email) {
        let _ = set(company, line, at);
    }
    format!("{email} user invited with Enterprise User ID : {number}")
}

/// Name, job title and node; whether any was given.
fn set(company: &mut Company, line: &Line, at: usize) -> Result<bool, String> {
    let mut is_set = false;
    for (option, key) in [("--name", "name"), ("--job-title", "job_title")] {
        if let Some(text) = line.option(option) {
            company.users[at][key] = text.into();
            is_set = true;
        }
    }
    if let Some(node) = line.option("--node") {
        let number = json!(node.parse::<u64>().ok());
        let found = company.nodes.iter().find(|known| known["node_id"] == number || known["name"] == node);
        let found = found.ok_or_else(|| format!("Node \"{node}\" is not found"))?;
        let path = match found.get("parent_id") {
            Some(_) => format!("{}\\{}", company.name, found["name"].as_str().unwrap_or_default()),
            None => company.name.to_owned(),
        };
        let named = json!({ "node_id": found["node_id"].to_string(), "node_name": path });
        company.users[at]["node"] = named;
        is_set = true;
    }
    Ok(is_set)
}

/// Teams joined and left; who has not joined the enterprise yet only waits, and is called added all the same.
fn memberships(company: &mut Company, line: &Line, at: usize, email: &str) -> Result<Vec<String>, String> {
    let mut log = Vec::new();
    for (option, uid) in line.options.iter().filter(|(name, _)| matches!(name.as_str(), "--add-team" | "--remove-team")) {
        let team = company.teams.iter_mut().find(|team| team["team_uid"] == *uid || team["name"] == *uid);
        let team = team.ok_or_else(|| format!("enterprise-user: Team {uid} could be resolved"))?;
        let name = team["name"].as_str().unwrap_or_default().to_owned();
        let list = if company.users[at]["status"] == "Invited" { "queued_users" } else { "users" };
        leave(team, email);
        let own = json!({ "team_uid": team["team_uid"], "team_name": name });
        if let Some(teams) = company.users[at]["teams"].as_array_mut() {
            teams.retain(|known| known["team_uid"] != own["team_uid"]);
        }
        if option == "--add-team" {
            if let Some(members) = team[list].as_array_mut() {
                members.push(email.into());
            }
            if let (Some(teams), "users") = (company.users[at]["teams"].as_array_mut(), list) {
                teams.push(own);
            }
        }
        log.push(format!("{email} {} team '{name}'", if option == "--add-team" { "added to" } else { "removed from" }));
    }
    Ok(log)
}

/// Roles given and taken; one that holds rights over others asks, unless forced.
fn roles(company: &mut Company, line: &Line, at: usize, email: &str) -> Result<Vec<String>, String> {
    let mut log = Vec::new();
    for (option, id) in line.options.iter().filter(|(name, _)| matches!(name.as_str(), "--add-role" | "--remove-role")) {
        let found = company
            .roles
            .iter_mut()
            .find(|role| role["role_id"].as_u64().is_some_and(|number| id.parse() == Ok(number)) || role["name"] == *id);
        let Some(role) = found else {
            log.push(format!("Role {id} cannot be resolved"));
            continue;
        };
        let is_added = option == "--add-role";
        if is_added && role["admin"] == true && !line.has("--force") {
            return Err("EOF when reading a line".into());
        }
        let Some(users) = role["users"].as_array_mut() else { continue };
        let told = told_of_role(is_added, users.iter().any(|user| user == email), email);
        users.retain(|user| user != email);
        if is_added {
            users.push(email.into());
        }
        role["user_count"] = role["users"].as_array().map_or(0, Vec::len).into();
        let own = json!({ "role_id": role["role_id"].to_string(), "role_name": role["name"] });
        if let Some(held) = company.users[at]["roles"].as_array_mut() {
            held.retain(|known| known["role_id"] != own["role_id"]);
            if is_added {
                held.push(own);
            }
        }
        log.push(told);
    }
    Ok(log)
}

fn told_of_role(is_added: bool, is_in: bool, email: &str) -> String {
    match (is_added, is_in) {
        (true, true) => format!("User {email} is already in the role: Add to group is skipped"),
        (false, false) => format!("User {email} is not in the role: Remove from group is skipped"),
        (true, false) => format!("{email} added to the role"),
        (false, true) => format!("{email} removed from the role"),
    }
}

fn leave(team: &mut Value, email: &str) {
    for list in ["users", "queued_users"] {
        if let Some(members) = team.get_mut(list).and_then(Value::as_array_mut) {
            members.retain(|member| member != email);
        }
    }
}

fn team(company: &mut Company, line: &Line) -> Result<String, String> {
    let name = &line.names[0];
    let is_it = |team: &Value| team["team_uid"] == *name || team["name"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(name));
    let found = company.teams.iter().position(is_it);
    if line.has("--add") {
        return Ok(match found {
            Some(_) => format!("Team '{name}' already exists: Skipping"),
            None => {
                let uid = uuid::Uuid::now_v7().simple().to_string()[10..].to_owned();
                company.teams.push(json!({
                    "team_uid": uid, "name": name, "restricts": "     ", "node": company.name, "user_count": 0, "users": [],
                    "queued_user_count": 0, "queued_users": [], "role_count": 0, "roles": [],
                }));
                company.teams.sort_by_key(|team| team["name"].as_str().unwrap_or_default().to_lowercase());
                format!("{name} team created")
            }
        });
    }
    let Some(at) = found else { return Ok(format!("'{name}' team is not here: Skipping")) };
    if line.has("--delete") {
        if !line.has("--force") {
            return Err("EOF when reading a line".into());
        }
        let gone = company.teams.remove(at);
        for user in &mut company.users {
            if let Some(teams) = user["teams"].as_array_mut() {
                teams.retain(|team| team["team_uid"] != gone["team_uid"]);
            }
        }
        return Ok("team deleted".into());
    }
    if let Some(new) = line.option("--name") {
        let uid = company.teams[at]["team_uid"].clone();
        company.teams[at]["name"] = new.into();
        for team in company.users.iter_mut().filter_map(|user| user["teams"].as_array_mut()).flatten() {
            if team["team_uid"] == uid {
                team["team_name"] = new.into();
            }
        }
    }
    Ok("team updated".into())
}
