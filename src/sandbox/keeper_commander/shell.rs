//! The commands of the directory layer, as Commander answers them. One session, in one company at a time.

use serde_json::{Map, Value, json};

use super::{
    audit,
    world::{Company, World},
    writes::{self, WriteLie},
};

/// An answer of a command.
pub(super) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON.
    pub body: Value,
    /// Whether it is a command's result, which a service with a key encrypts; refusals and raised errors stay plain.
    pub is_result: bool,
}

/// The one session of a service.
pub(super) struct Shell {
    world: World,
    inside: Option<u64>,
    /// Companies that refuse to be entered.
    pub refused: Vec<u64>,
    /// Answer `-v` with texts where newer releases give objects.
    pub old_shapes: bool,
    /// Whether the own enterprise manages others.
    pub is_msp: bool,
    /// Events of each company beyond those every one has.
    pub events: usize,
    /// Companies without the reporting add-on.
    pub without_reporting: Vec<u64>,
    /// How writes are lied about.
    pub write_lie: Option<WriteLie>,
}

const NOT_MSP: &str = "This command is restricted to Keeper MSP administrators logged in to MSP Company.\nIf you are an MSP administrator then try to run `switch-to-msp` command before executing this command.";

/// Splits a command as the service does: POSIX quotes, a backslash stands for itself. `None` when a quote stays open.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None::<char>);
    for c in text.chars() {
        match (open, c) {
            (Some(quote), c) if c == quote => open = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                open = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    open.is_none().then_some(words)
}

/// A refusal of the service itself.
pub(super) fn plain(status: u16, error: &str) -> Answer {
    Answer { status, body: json!({ "error": error, "status": "error" }), is_result: false }
}

pub(super) fn raised(error: &str) -> Answer {
    plain(500, &format!("Unexpected error: {error}"))
}

pub(super) fn failed(status: u16, command: &str, error: &str) -> Answer {
    Answer { status, body: json!({ "command": command, "error": error, "status": "error" }), is_result: true }
}

pub(super) fn said(command: &str, message: &str) -> Answer {
    Answer {
        status: 200,
        body: json!({ "command": command, "data": null, "message": message, "status": "success" }),
        is_result: true,
    }
}

pub(super) fn given(command: &str, data: Value) -> Answer {
    Answer { status: 200, body: json!({ "command": command, "data": data, "status": "success" }), is_result: true }
}

impl Shell {
    /// A session in the own enterprise.
    pub fn new(world: World) -> Self {
        Self {
            world,
            inside: None,
            refused: Vec::new(),
            old_shapes: false,
            is_msp: true,
            events: 0,
            without_reporting: Vec::new(),
            write_lie: None,
        }
    }

    /// What somebody else's `switch-to-mc` does to everybody.
    pub fn switch(&mut self, company: Option<u64>) {
        self.inside = company;
    }

    fn company(&self) -> Option<&Company> {
        match self.inside {
            Some(id) => self.world.companies.iter().find(|company| company.id == id),
            None => self.world.companies.first(),
        }
    }

    /// Runs a permitted command.
    pub fn run(&mut self, line: &str, words: &[String]) -> Answer {
        if let Some(refusal) = forbidden(line, words) {
            return refusal;
        }
        let Some((word, rest)) = words.split_first() else { return plain(400, "Command must not be empty") };
        let shown = shown(line);
        match word.as_str() {
            "whoami" => self.none_left(word, rest, &[]).unwrap_or_else(|| given("whoami", whoami(self.has_reporting()))),
            "enterprise-down" => self
                .none_left(word, rest, &["-f", "--force"])
                .unwrap_or_else(|| said(word, "Command executed successfully but produced no output")),
            "switch-to-msp" => self.none_left(word, rest, &[]).unwrap_or_else(|| self.go_home()),
            "enterprise-user" | "enterprise-team" => self.write(word, rest),
            "audit-report" => self.audit_report(&shown, rest),
            "enterprise-info" => self.enterprise_info(&shown, rest),
            "msp-down" | "msp-info" | "switch-to-mc" if self.inside.is_some() || !self.is_msp => failed(403, word, NOT_MSP),
            "msp-down" => self
                .none_left(word, rest, &[])
                .unwrap_or_else(|| said(word, "Command executed successfully but produced no output")),
            "msp-info" => self.msp_info(&shown, rest),
            "switch-to-mc" => self.enter(rest),
            _ => match rest.iter().find(|rest| rest.starts_with('-')) {
                Some(option) => failed(400, word, &format!("unrecognized arguments: {option}")),
                None => raised(&format!("{word}: not part of this stand-in")),
            },
        }
    }

    fn has_reporting(&self) -> bool {
        self.company().is_some_and(|company| !self.without_reporting.contains(&company.id))
    }

    fn audit_report(&self, shown: &str, rest: &[String]) -> Answer {
        match self.company() {
            Some(company) => audit::run(shown, company, self.events, self.has_reporting(), rest),
            None => raised("audit-report: no enterprise"),
        }
    }

    fn write(&mut self, word: &str, rest: &[String]) -> Answer {
        let (inside, lie) = (self.inside, self.write_lie);
        let company = match inside {
            Some(id) => self.world.companies.iter_mut().find(|company| company.id == id),
            None => self.world.companies.first_mut(),
        };
        company.map_or_else(|| raised("no enterprise"), |company| writes::run(company, word, rest, lie))
    }

    fn none_left(&self, word: &str, rest: &[String], known: &[&str]) -> Option<Answer> {
        let unknown: Vec<&str> = rest.iter().map(String::as_str).filter(|rest| !known.contains(rest)).collect();
        (!unknown.is_empty()).then(|| failed(400, word, &format!("unrecognized arguments: {}", unknown.join(" "))))
    }

    fn go_home(&mut self) -> Answer {
        match self.inside.take() {
            Some(_) => said("switch-to-msp", "Switched back to MSP"),
            None => raised("switch-to-msp: Already MSP"),
        }
    }

    fn enter(&mut self, rest: &[String]) -> Answer {
        let wanted = match rest {
            [one] if !one.starts_with('-') => one,
            [] => return said("switch-to-mc", "the following arguments are required: mc"),
            _ => return self.none_left("switch-to-mc", &rest[..1], &[]).unwrap_or_else(|| raised("switch-to-mc")),
        };
        let found = self
            .world
            .companies
            .iter()
            .skip(1)
            .find(|company| company.id.to_string() == *wanted || company.name.eq_ignore_ascii_case(wanted));
        match found.map(|company| (company.id, company.name)) {
            None => raised(&format!("switch-to-mc: Managed Company \"{wanted}\" not found")),
            Some((id, _)) if self.refused.contains(&id) => raised("access_denied: Not an administrator of this company"),
            Some((id, name)) => {
                self.inside = Some(id);
                said("switch-to-mc", &format!("Switched to MC '{name}'"))
            }
        }
    }

    fn msp_info(&self, shown: &str, rest: &[String]) -> Answer {
        let options = match Options::read("msp-info", rest, &["-v", "--verbose"]) {
            Ok(options) => options,
            Err(refusal) => return refusal,
        };
        let rows = self.world.managed.iter().map(|row| {
            let mut row = row.clone();
            if !options.has(&["-v", "--verbose"]) {
                row["addons"] = row["addons"].as_array().map_or(0, Vec::len).into();
                row["node"] = row["node_name"].take();
                row.as_object_mut().map(|row| row.shift_remove("node_name"));
            }
            row
        });
        given(shown, rows.collect())
    }

    fn enterprise_info(&self, shown: &str, rest: &[String]) -> Answer {
        let kinds = ["--users", "--teams", "--roles", "--nodes", "-v", "--verbose", "-u", "-t", "-r", "-n"];
        let options = match Options::read("enterprise-info", rest, &kinds) {
            Ok(options) => options,
            Err(refusal) => return refusal,
        };
        let Some(company) = self.company() else { return raised("enterprise-info: no enterprise") };
        let (rows, base, default): (&[Value], &[&str], &str) = match () {
            _ if options.has(&["--users", "-u"]) => (&company.users, &["user_id", "email"], "name,status,transfer_status,node"),
            _ if options.has(&["--teams", "-t"]) => {
                (&company.teams, &["team_uid", "name"], "restricts,node,user_count,queued_user_count")
            }
            _ if options.has(&["--roles", "-r"]) => (&company.roles, &["role_id", "name"], "default_role,admin,node"),
            _ if options.has(&["--nodes", "-n"]) => (&company.nodes, &["node_id", "name"], "parent_node"),
            _ => return said("enterprise-info", &format!("Enterprise name: {}", company.name)),
        };
        let columns: Vec<&str> =
            options.columns.as_deref().unwrap_or(default).split(',').map(str::trim).chain(base.iter().copied()).collect();
        let verbose = options.has(&["-v", "--verbose"]) && !self.old_shapes;
        let rows = rows.iter().map(|row| shape(row, &columns, verbose));
        let found = rows.filter(|row| {
            options.pattern.as_ref().is_none_or(|pattern| row.to_string().to_lowercase().contains(&pattern.to_lowercase()))
        });
        given(shown, found.collect())
    }
}

/// A row with these columns; without `-v` (and from older releases) references are names alone.
fn shape(row: &Value, columns: &[&str], verbose: bool) -> Value {
    let kept = row.as_object().into_iter().flatten().filter(|(key, _)| columns.contains(&key.as_str()));
    let named = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_else(|| value.clone());
    let shaped: Map<String, Value> = kept
        .map(|(key, value)| {
            let value = match (key.as_str(), value) {
                _ if verbose => value.clone(),
                ("node", value) => named(value, "node_name"),
                ("teams", Value::Array(teams)) => teams.iter().map(|team| named(team, "team_name")).collect(),
                ("roles", Value::Array(roles)) => roles.iter().map(|role| named(role, "role_name")).collect(),
                _ => value.clone(),
            };
            (key.clone(), value)
        })
        .collect();
    Value::Object(shaped)
}

/// The options that the directory commands share.
struct Options {
    flags: Vec<String>,
    columns: Option<String>,
    pattern: Option<String>,
}

impl Options {
    fn read(word: &str, rest: &[String], known: &[&str]) -> Result<Options, Answer> {
        let mut options = Options { flags: Vec::new(), columns: None, pattern: None };
        let mut unknown = Vec::new();
        let mut words = rest.iter();
        while let Some(text) = words.next() {
            let (name, value) =
                text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
            match name {
                "--format" => drop(value.or_else(|| words.next().cloned())),
                "--columns" => options.columns = value.or_else(|| words.next().cloned()),
                _ if known.contains(&text.as_str()) => options.flags.push(text.clone()),
                _ if text.starts_with('-') => unknown.push(text.as_str()),
                _ => options.pattern = Some(text.clone()),
            }
        }
        if unknown.is_empty() {
            Ok(options)
        } else {
            Err(failed(400, word, &format!("unrecognized arguments: {}", unknown.join(" "))))
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.flags.iter().any(|flag| names.contains(&flag.as_str()))
    }
}

/// What the service refuses in any command.
fn forbidden(line: &str, words: &[String]) -> Option<Answer> {
    if line.contains(['\r', '\n', '\0']) {
        let word = words.first().map(String::as_str).unwrap_or_default();
        return Some(failed(400, word, "Invalid command: control characters are not allowed in command input."));
    }
    let error = if line.contains("${") {
        "The '${VARNAME}' environment-variable syntax is not permitted through Service Mode"
    } else if words.iter().any(|word| word == "--") {
        "The '--' argument separator is not permitted through Service Mode"
    } else if words.iter().any(|word| word == "--output" || word.starts_with("--output=") || word == "pdf") {
        "Local filesystem access is not permitted through Service Mode"
    } else {
        return None;
    };
    Some(plain(403, error))
}

/// The command as answers repeat it: the text before its format.
fn shown(line: &str) -> String {
    line.split("--format").next().unwrap_or(line).trim().to_owned()
}

fn whoami(has_reporting: bool) -> Value {
    let mut who = json!({
        "account_type": "Enterprise", "add-ons": "Advanced Reporting & Alerts Module", "admin": true, "base_plan": "Unknown",
        "breachwatch": false, "data_center": "keeper.invalid", "logged_in": true, "renewal_date": "2027-09-10",
        "reporting_and_alerts": has_reporting, "secure_file_storage": "", "server": "keeper.invalid", "storage_capacity": "0GB",
        "storage_renewal_date": "2027-09-10", "storage_usage": "0%", "user": "msp.admin@acme-msp.example",
        "user_licenses": "Plan: 100  Active: 3  Invited: 0",
    });
    if let Some(who) = who.as_object_mut().filter(|_| !has_reporting) {
        who.shift_remove("add-ons");
    }
    who
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_the_service_does() {
        assert_eq!(split(r#"a 'b c' "d'e" f\g 'O'"'"'N' ''"#).unwrap(), ["a", "b c", "d'e", r"f\g", "O'N", ""]);
        assert!(split("a 'b").is_none());
    }
}
