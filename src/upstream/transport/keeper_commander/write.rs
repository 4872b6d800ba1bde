//! One command that changes something, under the service's lock and in the proven company. What Commander says about it is
//! handed on as its words only: its exit text guesses success and failure, so whoever asked must read again.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Wire,
    command::{Command, Unsendable},
    company::{NODES, go_home, good, key_of, leave, line, prove_is, rows, word},
    lock::Lock,
    queue::Session,
    visit::{enter, is_managed, number},
    wire::Verdict,
};
use crate::{
    connector::{Meaning, Position, ResourceDef, Template, WriteBy},
    mapping::Change,
    model::Resource,
    upstream::{Access, Failure, Said, WriteAsk, WriteVerb, Written},
};

/// Writes one record; an error says that nothing was changed.
pub async fn write(
    wire: &dyn Wire,
    access: &Access,
    def: &ResourceDef,
    by: &WriteBy,
    ask: &WriteAsk,
) -> Result<Written, Failure> {
    let WriteBy::Command { words, options, flags } = by else {
        return Err(Failure::BadAnswer("this resource is not written by a command".into()));
    };
    check_ids(def, ask)?;
    let changes = [&ask.changes[..], &own_changes(ask)?].concat();
    let built = Built { words, options, flags, ask, changes };
    let (command, sets) = built.line(None)?;
    if ask.verb == WriteVerb::Update && !sets {
        return Ok(Written::said(Said::Unasked));
    }
    let company = ask.company.as_deref().ok_or_else(|| Failure::BadAnswer("a write without a company".into()))?;
    let lock = Lock::take(wire.store(), access, wire.times()).await?;
    let sent = AtomicBool::new(false);
    let work = Work { session: Session::new(wire, access), def, built, command, sent: &sent };
    let done = lock.during(work.within(company)).await;
    lock.release().await;
    match done {
        Err(failure) if sent.load(Ordering::SeqCst) => Ok(Written::said(Said::Unknown(failure))),
        done => done,
    }
}

struct Work<'a> {
    session: Session<'a>,
    def: &'a ResourceDef,
    built: Built<'a>,
    command: String,
    sent: &'a AtomicBool,
}

impl Work<'_> {
    async fn within(&self, company: &str) -> Result<Written, Failure> {
        let (session, id) = (&self.session, number(company)?);
        let home = go_home(session).await?;
        let is_managed = is_managed(session, &home, id).await?;
        if is_managed {
            enter(session, company).await?;
        }
        let written = self.here(id).await;
        if is_managed && let Err(failure) = leave(session).await {
            tracing::warn!(%failure, account = %session.access().account, "a company was not left after a write");
        }
        written
    }

    async fn here(&self, company: u64) -> Result<Written, Failure> {
        let session = &self.session;
        good(session.run("enterprise-down").await?, "enterprise-down")?;
        prove_is(session, NODES, company).await?;
        self.check_team().await?;
        let before = self.before().await?;
        let command = match self.built.needs_name() {
            true => self.built.line(Some(&self.name_of_team().await?))?.0,
            false => self.command.clone(),
        };
        self.sent.store(true, Ordering::SeqCst);
        let done = session.change(&command).await?;
        let said = match done.verdict() {
            Verdict::Fine => Said::Done(done.answer()),
            Verdict::NotPermitted => {
                self.sent.store(false, Ordering::SeqCst);
                let name = word(&command);
                let message = format!("The API key may not run {name}: add it to the command list of the service.");
                return Err(done.failure(Meaning::Denied, Some(message)));
            }
            // Keeper's session may end behind the effect as well.
            Verdict::Lost | Verdict::SessionExpired => Said::Unknown(done.failure(Meaning::Failed, None)),
            _ if done.names_nobody() => Said::Failed(done.failure(Meaning::Missing, None)),
            _ => Said::Failed(done.failure(Meaning::Failed, None)),
        };
        let said = match prove_is(session, NODES, company).await {
            Ok(_) => said,
            Err(failure) => Said::Unknown(failure),
        };
        Ok(Written { said, record: None, before })
    }

    /// Commander takes a name where it takes an id; whoever asks by an id means no record of that name.
    async fn check_team(&self) -> Result<(), Failure> {
        let mut values = self.built.ask.values.iter();
        let Some((_, team)) = values.find(|(name, _)| names_team(self.def, name)) else { return Ok(()) };
        let (_, rows) = rows(&self.session, &line(self.session.access(), Resource::Group)?).await?;
        let mut teams = rows.iter().filter_map(|row| serde_json::from_str::<TeamRow>(row.get()).ok());
        match teams.any(|row| row.team_uid == key_of(team)) {
            true => Ok(()),
            false => Err(Failure::Absent("the company has no team of this id".into())),
        }
    }

    /// The records there are, before one is made, changed or taken away; none may have the name of a new one.
    async fn before(&self) -> Result<Option<Bytes>, Failure> {
        let ask = self.built.ask;
        let is_needed = match ask.verb {
            WriteVerb::Create => ask.unique.is_some(),
            WriteVerb::Update | WriteVerb::Delete => true,
            WriteVerb::Method => false,
        };
        let is_membership = matches!(self.def.resource, Resource::GroupMember | Resource::RoleAssignment);
        if !is_needed || is_membership {
            return Ok(None);
        }
        let (done, rows) = rows(&self.session, &line(self.session.access(), self.def.resource)?).await?;
        if let Some((path, text)) = &ask.unique {
            let has = |row: &str| path.text(row.as_bytes()).is_some_and(|found| found.to_lowercase() == text.to_lowercase());
            if rows.iter().any(|row| has(row.get())) {
                return Err(Failure::Exists(format!(
                    "Among the company's {} there is one of this name.",
                    self.def.resource.plural()
                )));
            }
        }
        Ok(done.data().map(|data| Bytes::copy_from_slice(data.get().as_bytes())))
    }

    /// A team's name, where it means that team alone: an id that begins with a dash would be read as an option.
    async fn name_of_team(&self) -> Result<String, Failure> {
        let access = self.session.access();
        let key = self.built.key().unwrap_or_default();
        let (_, rows) = rows(&self.session, &line(access, Resource::Group)?).await?;
        let teams: Vec<Value> = rows.iter().filter_map(|row| serde_json::from_str(row.get()).ok()).collect();
        let name = teams.iter().find(|team| team["team_uid"] == key).and_then(|team| team["name"].as_str());
        let alone = |name: &str| {
            let same = |team: &&Value| team["name"].as_str().is_some_and(|other| other.to_lowercase() == name.to_lowercase());
            teams.iter().filter(same).count() == 1 && !name.starts_with('-')
        };
        let reason = "it begins with a dash, which Commander reads as an option, and no other name means it alone";
        name.filter(|name| alone(name)).map(str::to_owned).ok_or_else(|| unsendable("id", reason))
    }
}

#[derive(Deserialize)]
struct TeamRow {
    team_uid: String,
}

/// Whether a value of this name is a team's id.
fn names_team(def: &ResourceDef, name: &str) -> bool {
    matches!(name, "group_id" | "team_id") || (name == "id" && def.resource == Resource::Group)
}

/// Ids of users, roles and nodes are numbers. Commander would take an address or a name for one as well.
fn check_ids(def: &ResourceDef, ask: &WriteAsk) -> Result<(), Failure> {
    let is_number = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let mut ids = ask.values.iter().filter(|(name, _)| is_id(name) && !names_team(def, name));
    let odd = ids.any(|(_, id)| !is_number(id));
    // The id of an assignment is made of ids that were checked.
    match odd && def.resource != Resource::RoleAssignment {
        true => Err(Failure::Absent("the company has no record of this id".into())),
        false => Ok(()),
    }
}

/// A command line in the making.
struct Built<'a> {
    words: &'a [Template],
    options: &'a BTreeMap<String, String>,
    flags: &'a BTreeMap<String, BTreeMap<String, String>>,
    ask: &'a WriteAsk,
    changes: Vec<Change>,
}

impl Built<'_> {
    /// The id within the company.
    fn key(&self) -> Option<&str> {
        self.ask.values.get("id").map(|id| key_of(id))
    }

    /// Whether the id would be read as an option where it stands.
    fn needs_name(&self) -> bool {
        let stands_alone = self.words.iter().any(|word| word.text() == "{id}");
        stands_alone && self.key().is_some_and(|key| key.starts_with('-'))
    }

    /// The line, and whether it sets anything. `name` stands for an id that cannot be sent.
    fn line(&self, name: Option<&str>) -> Result<(String, bool), Failure> {
        let mut words = self.words.iter();
        let first = words.next().map(Template::text).unwrap_or_default();
        let mut command = Command::new(&first);
        let mut sets = false;
        for change in &self.changes {
            let path = change.path.as_str();
            let text = || text_of(change);
            match (self.options.get(path), self.flags.get(path)) {
                (Some(option), _) => {
                    command = command.option(option, &text()?).map_err(|error| unsendable(&change.field, &error.to_string()))?;
                }
                (None, Some(flags)) => {
                    let text = text()?;
                    let flag = flags.get(&text).ok_or_else(|| unsendable(&change.field, "there is no option for this value"))?;
                    command = command.flag(flag);
                }
                (None, None) if self.words.iter().any(|word| word.names().any(|name| name == path)) => continue,
                (None, None) => return Err(unsendable(&change.field, "no option of this command sets it")),
            }
            sets = true;
        }
        for word in words {
            command = self.word(command, word, name)?;
        }
        let line = command.finish().map_err(|error| unsendable("body", &error.to_string()))?;
        Ok((line, sets))
    }

    fn word(&self, command: Command, word: &Template, name: Option<&str>) -> Result<Command, Failure> {
        let Some(placeholder) = word.names().next() else { return Ok(command.flag(&word.text())) };
        let change = self.changes.iter().find(|change| change.path.as_str() == placeholder);
        let field = change.map_or(placeholder, |change| change.field.as_str()).to_owned();
        let written = change.map(text_of).transpose()?;
        let local = |wanted: &str| match (wanted, &written) {
            ("id", _) if self.needs_name() => name.or_else(|| self.key()),
            (_, Some(text)) if wanted == placeholder => Some(text.as_str()),
            (_, None) if !is_id(wanted) => self.ask.values.get(wanted).map(String::as_str),
            _ => self.ask.values.get(wanted).map(|id| key_of(id)),
        };
        // Nobody has an id that no command can carry.
        let names_record = placeholder == "id" && change.is_none() && name.is_none();
        let unfit = |reason: String| if names_record { Failure::Unaddressable(reason) } else { unsendable(&field, &reason) };
        let text = word.render(Position::Text, local).map_err(|error| unfit(error.to_string()))?;
        let set = word.text();
        let refused = |error: Unsendable| unfit(error.to_string());
        match set.split_once("={").filter(|(option, _)| option.starts_with("--")) {
            Some((option, _)) => command.option(option, text.get(option.len() + 1..).unwrap_or_default()).map_err(refused),
            // Where a name stands for the id, it is asked for later; the id itself is checked by what asks.
            None if text.starts_with('-') && set == "{id}" && name.is_none() => Ok(command),
            None => command.value(&text).map_err(refused),
        }
    }
}

/// Whether a value of this name is an id of ours, which holds its company; others are the caller's own texts.
fn is_id(name: &str) -> bool {
    name == "id" || name.ends_with("_id")
}

fn unsendable(field: &str, reason: &str) -> Failure {
    Failure::Unsendable { field: field.to_owned(), reason: reason.to_owned() }
}

/// The value as a command takes it. Commander leaves out what is empty, so nothing can be emptied.
fn text_of(change: &Change) -> Result<String, Failure> {
    let text = match &change.value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => change.value.to_string(),
        Value::Null => return Err(unsendable(&change.field, "Commander cannot take a value away")),
        _ => return Err(unsendable(&change.field, "Commander takes one text for it")),
    };
    match text.is_empty() {
        true => Err(unsendable(&change.field, "Commander cannot be told an empty text")),
        false => Ok(text),
    }
}

/// The caller's own members as changes at the paths they stand at. What the request names already they do not name anew.
fn own_changes(ask: &WriteAsk) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for (name, value) in &ask.remote_data {
        match ask.values.get(name) {
            Some(named) if value.as_str().map_or_else(|| value.to_string(), str::to_owned) == *named => {}
            Some(_) => return Err(unsendable(&format!("remote_data.{name}"), "the request names another one")),
            None => collect(name, name, value, &mut changes)?,
        }
    }
    Ok(changes)
}

fn collect(field: &str, path: &str, value: &Value, changes: &mut Vec<Change>) -> Result<(), Failure> {
    let field = format!("remote_data.{}", field.trim_start_matches("remote_data."));
    match value {
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, inner)| collect(&format!("{field}.{name}"), &format!("{path}.{name}"), inner, changes)),
        value => {
            let path = crate::mapping::Path::parse(path).map_err(|_| unsendable(&field, "no option of this command sets it"))?;
            changes.push(Change { field, path, value: value.clone() });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Path;

    fn change(path: &str, value: Value) -> Change {
        Change { field: format!("the_{path}"), path: Path::parse(path).unwrap(), value }
    }

    fn line(words: &[&str], id: &str, changes: Vec<Change>, name: Option<&str>) -> Result<String, String> {
        let words: Vec<Template> = words.iter().map(|word| Template::parse(word).unwrap()).collect();
        let options = BTreeMap::from([("name".to_owned(), "--name".to_owned())]);
        let lock = BTreeMap::from([("Locked".to_owned(), "--lock".to_owned())]);
        let flags = BTreeMap::from([("status".to_owned(), lock)]);
        let ask = WriteAsk {
            verb: WriteVerb::Update,
            values: BTreeMap::from([("id".to_owned(), id.to_owned()), ("group_id".to_owned(), "7:-uid".to_owned())]),
            changes: Vec::new(),
            remote_data: serde_json::Map::new(),
            remote_query: Vec::new(),
            company: None,
            unique: None,
        };
        let built = Built { words: &words, options: &options, flags: &flags, ask: &ask, changes };
        built.line(name).map(|(line, _)| line).map_err(|failure| failure.to_string())
    }

    #[test]
    fn no_value_becomes_an_option_or_another_command() {
        let words = ["enterprise-user", "{id}"];
        assert_eq!(
            line(&words, "7:x", vec![change("name", "O'Neil; rm -rf".into())], None).unwrap(),
            r#"enterprise-user --name='O'"'"'Neil; rm -rf' 'x'"#
        );
        assert_eq!(
            line(&words, "5", vec![change("name", "--delete".into())], None).unwrap(),
            "enterprise-user --name='--delete' '5'"
        );
        assert_eq!(line(&words, "5", vec![change("status", "Locked".into())], None).unwrap(), "enterprise-user --lock '5'");
        for (value, why) in [("a\nb", "line break"), ("${HOME}", "`${`"), ("@all", "wildcard"), ("", "empty")] {
            let refused = line(&words, "5", vec![change("name", value.into())], None).unwrap_err();
            assert!(refused.contains(why) && refused.contains("the_name"), "{refused}");
        }
        for odd in ["--delete", "-h"] {
            let refused =
                line(&["enterprise-user", "--invite", "{email}"], "", vec![change("email", odd.into())], None).unwrap_err();
            assert!(refused.contains("the_email") && refused.contains("dash"), "{refused}");
        }
        assert!(line(&words, "5", vec![change("name", Value::Null)], None).unwrap_err().contains("take a value away"));
        assert!(line(&words, "5", vec![change("email", "x".into())], None).unwrap_err().contains("no option"));
        assert!(
            line(&words, "5", vec![change("status", "Active".into())], None).unwrap_err().contains("no option for this value")
        );
    }

    #[test]
    fn ids_that_look_like_options_go_by_name_or_behind_their_option() {
        assert_eq!(
            line(&["enterprise-team", "--delete", "--force", "{id}"], "7:-uid", vec![], Some("Front Desk")).unwrap(),
            "enterprise-team --delete --force 'Front Desk'"
        );
        assert_eq!(
            line(&["enterprise-user", "--add-team={group_id}", "{id}"], "5", vec![], None).unwrap(),
            "enterprise-user --add-team='-uid' '5'"
        );
    }

    #[test]
    fn the_callers_own_members_are_options_like_others() {
        let own = serde_json::json!({"name": "x", "node": {"node_id": 5}});
        let ask = |own: &Value| WriteAsk {
            verb: WriteVerb::Update,
            values: BTreeMap::from([("id".to_owned(), "5".to_owned())]),
            changes: Vec::new(),
            remote_data: own.as_object().unwrap().clone(),
            remote_query: Vec::new(),
            company: None,
            unique: None,
        };
        let changes = own_changes(&ask(&own)).unwrap();
        let seen: Vec<_> = changes.iter().map(|change| (change.field.as_str(), change.path.as_str())).collect();
        assert_eq!(seen, [("remote_data.name", "name"), ("remote_data.node.node_id", "node.node_id")]);
        for same in [serde_json::json!({"id": "5"}), serde_json::json!({"id": 5})] {
            assert_eq!(own_changes(&ask(&same)).unwrap(), []);
        }
        for other in [serde_json::json!({"id": "6"}), serde_json::json!({"id": {"a": 1}})] {
            assert!(matches!(own_changes(&ask(&other)), Err(Failure::Unsendable { ref field, .. }) if field == "remote_data.id"));
        }
    }
}
