//! `audit-report --report-type raw`: events of one company, newest first, as Commander prints them; without the add-on a part
//! only, and no word about it.

use serde_json::{Value, json};

use super::{
    shell::{Answer, failed, given},
    world::Company,
};

/// The newest event, seconds since 1970.
const NEWEST: i64 = 1_789_000_000;
/// What one answer of Keeper's cloud holds.
const MOST: usize = 1000;
/// Events that are shown without the add-on.
const WITHOUT_ADDON: usize = 3;

/// The events of a company, newest first: what every tenant has, and more, two in a second.
pub(super) fn events(company: &Company, more: usize) -> Vec<Value> {
    let people: Vec<&str> = company.users.iter().filter_map(|user| user["email"].as_str()).collect();
    let (Some(first), Some(last)) = (people.first(), people.get(1).or(people.first())) else { return Vec::new() };
    let told = [
        ("delete_user", first, json!({ "to_username": format!("old@{}", domain(first)) })),
        ("lock_user", first, json!({ "to_username": last })),
        (
            "added_to_team",
            first,
            json!({ "to_username": last, "team_uid": company.teams.first().map(|team| team["team_uid"].clone()) }),
        ),
        ("login", last, json!({ "channel": "web" })),
        (
            "added_to_role",
            first,
            json!({ "to_username": last, "role_id": company.roles.first().map(|role| role["role_id"].clone()) }),
        ),
        ("create_user", first, json!({ "to_username": last })),
        ("send_invitation", first, json!({ "to_username": last })),
    ];
    let told = told.into_iter().enumerate().map(|(at, (word, who, own))| (NEWEST - 3600 * at as i64, word, *who, own));
    let later = NEWEST - 3600 * 10;
    let more = (0..more).map(|at| {
        let word = if at % 3 == 0 { "login_failure" } else { "login" };
        (later - (at / 2) as i64, word, people[at % people.len()], Value::Null)
    });
    told.chain(more).map(|(second, word, who, own)| event(second, word, who, own)).collect()
}

fn domain(email: &str) -> &str {
    email.split_once('@').map_or("example", |(_, domain)| domain)
}

fn event(second: i64, word: &str, who: &str, own: Value) -> Value {
    let created = jiff::Timestamp::from_second(second).map(|at| at.to_string().replace('Z', "+00:00")).unwrap_or_default();
    let mut event = json!({
        "created": created, "audit_event_type": word, "username": who, "ip_address": "203.0.113.7",
        "keeper_version": "EMConsole.17.4.0", "geo_location": "Elk Grove, US", "second": second,
    });
    for (key, value) in own.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        event[key] = value.clone();
    }
    event
}

/// What a command line asks.
#[derive(Default)]
struct Wanted {
    limit: Option<usize>,
    is_ascending: bool,
    from: i64,
    to: i64,
    words: Vec<String>,
    names: Vec<String>,
}

impl Wanted {
    fn read(rest: &[String]) -> Result<Wanted, Answer> {
        let mut wanted = Wanted { to: i64::MAX, ..Wanted::default() };
        let mut words = rest.iter();
        while let Some(text) = words.next() {
            let (name, value) = match text.split_once('=').filter(|_| text.starts_with("--")) {
                Some((name, value)) => (name, value.to_owned()),
                None => (text.as_str(), words.next().cloned().unwrap_or_default()),
            };
            match name {
                "--report-type" | "--report-format" | "--format" => {}
                "--limit" => wanted.limit = value.parse().ok(),
                "--order" => wanted.is_ascending = value == "asc",
                "--created" => wanted.created(&value)?,
                "--event-type" => wanted.words.push(value),
                "--username" => wanted.names.push(value),
                _ => return Err(failed(400, "audit-report", &format!("unrecognized arguments: {text}"))),
            }
        }
        Ok(wanted)
    }

    fn created(&mut self, text: &str) -> Result<(), Answer> {
        let second = |text: &str| {
            text.trim().parse::<i64>().map_err(|_| failed(500, "audit-report", "time data does not match format '%Y-%m-%d'"))
        };
        match text.split_once(' ') {
            Some(("between", both)) => {
                let (from, to) = both.split_once(" and ").unwrap_or((both, both));
                (self.from, self.to) = (second(from)?, second(to)?);
            }
            _ => match text.split_at(text.find(|c: char| c.is_ascii_digit()).unwrap_or(0)) {
                (">=", from) => self.from = second(from)?,
                ("<=", to) => self.to = second(to)?,
                _ => (self.from, self.to) = (second(text)?, second(text)?),
            },
        }
        Ok(())
    }

    fn wants(&self, event: &Value) -> bool {
        let among = |list: &[String], value: &Value| list.is_empty() || list.iter().any(|word| *value == **word);
        let second = event["second"].as_i64().unwrap_or_default();
        (self.from..=self.to).contains(&second)
            && among(&self.words, &event["audit_event_type"])
            && among(&self.names, &event["username"])
    }
}

/// Runs the command.
pub(super) fn run(shown: &str, company: &Company, more: usize, has_addon: bool, rest: &[String]) -> Answer {
    let wanted = match Wanted::read(rest) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    let mut rows = events(company, more);
    if !has_addon {
        rows.truncate(WITHOUT_ADDON);
    }
    rows.retain(|event| wanted.wants(event));
    if wanted.is_ascending {
        rows.reverse();
    }
    rows.truncate(wanted.limit.unwrap_or(50).min(MOST));
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.shift_remove("second");
    }
    given(shown, rows.into())
}
