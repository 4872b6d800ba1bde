//! Events of one company, newest first, a page at a time: under the service's lock, in the proven company, and never without
//! the add-on that keeps them, because without it Keeper shows a part and does not say so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    Wire,
    command::{Command, Unsendable},
    company::{NODES, go_home, good, leave, prove_is, rows},
    licenses::Who,
    lock::Lock,
    queue::Session,
    records::array,
    visit::{choose, enter, in_order, number, own_enterprise, refusal},
};
use crate::{
    connector::{ListSource, Meaning, Needs, Report, ResourceDef},
    model::Warning,
    upstream::{Access, Company, Failure, Pick, ReportAsk, ReportPage},
    vault::{fingerprint, hex},
};

/// The code of a warning about a company without the add-on.
pub const ADDON_MISSING: &str = "addon_missing";

/// Where a walk stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// In this company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// At this second and before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<i64>,
    /// Behind this company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl Place {
    fn read(ask: &ReportAsk) -> Result<Place, Failure> {
        let text = ask.next.as_deref().unwrap_or("{}");
        serde_json::from_str(text).map_err(|_| Failure::BadAnswer("a page that this report does not know".into()))
    }

    fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// The company to read and those behind it. One that has gone since is passed.
    fn choose(&mut self, order: &[Company], ask: &ReportAsk) -> Option<(Company, Vec<Company>)> {
        match (&self.company, &self.after, &ask.company) {
            (Some(company), ..) => choose(order, &Pick::Exactly(company.clone())).or_else(|| {
                self.before = None;
                choose(order, &Pick::After(self.company.clone().unwrap_or_default()))
            }),
            (None, Some(after), _) => choose(order, &Pick::After(after.clone())),
            (None, None, Some(only)) => choose(order, &Pick::Exactly(only.clone())),
            (None, None, None) => choose(order, &Pick::First),
        }
    }
}

/// Reads one page.
pub async fn report(wire: &dyn Wire, access: &Access, def: &ResourceDef, ask: &ReportAsk) -> Result<ReportPage, Failure> {
    let lock = Lock::take(wire.store(), access, wire.times()).await?;
    let done = lock.during(twice(wire, access, def, ask)).await;
    lock.release().await;
    done
}

/// A page that another client's switch spoiled is thrown away and read again, once.
async fn twice(wire: &dyn Wire, access: &Access, def: &ResourceDef, ask: &ReportAsk) -> Result<ReportPage, Failure> {
    let work = Work::new(Session::new(wire, access), def, ask)?;
    match work.once().await {
        Err(Failure::ContextChanged(why)) => {
            tracing::warn!(why, account = %access.account, "a report is read again");
            work.once().await
        }
        other => other,
    }
}

struct Work<'a> {
    session: Session<'a>,
    words: &'a [String],
    how: &'a Report,
    needs: Option<&'a Needs>,
    ask: &'a ReportAsk,
}

/// What a company has to say.
enum Found {
    Events(Events),
    /// Nothing that can be trusted.
    Lacking,
}

struct Events {
    rows: Vec<Box<RawValue>>,
    newest: Option<i64>,
    /// Where to go on in this company.
    more: Option<i64>,
}

impl<'a> Work<'a> {
    fn new(session: Session<'a>, def: &'a ResourceDef, ask: &'a ReportAsk) -> Result<Self, Failure> {
        let list = def.list.as_ref();
        match list.and_then(|list| Some((&list.source, list.report.as_ref()?))) {
            Some((ListSource::Command(words), how)) => Ok(Work { session, words, how, needs: def.needs.as_ref(), ask }),
            _ => Err(Failure::BadAnswer("this resource is no report".into())),
        }
    }

    async fn once(&self) -> Result<ReportPage, Failure> {
        let home = go_home(&self.session).await?;
        let own = own_enterprise(&self.session, &home).await?;
        let order = in_order(self.session.access(), &own, &home);
        let mut place = Place::read(self.ask)?;
        let Some((company, rest)) = place.choose(&order, self.ask) else { return Ok(ReportPage::default()) };
        let is_managed = home.managed.contains_key(&number(&company.id)?);
        let found = match is_managed {
            false => Ok(self.here(&company, place.before).await?),
            true => self.managed(&company, place.before).await?,
        };
        let is_alone = self.ask.company.is_some() || order.len() == 1;
        let is_there = match &found {
            Ok(Found::Events(_)) => Some(true),
            Ok(Found::Lacking) => Some(false),
            Err(_) => None,
        };
        let is_first = order.first() == Some(&company);
        let mut page = self.page(&company, place, found, (is_alone, is_first, is_alone || rest.is_empty()))?;
        if let (Some(needs), Some(is_there)) = (self.needs, is_there.filter(|_| is_first)) {
            page.facts.insert(needs.fact.clone(), is_there.into());
        }
        Ok(page)
    }

    fn page(
        &self,
        company: &Company,
        place: Place,
        found: Result<Found, Warning>,
        (is_alone, is_first, is_last): (bool, bool, bool),
    ) -> Result<ReportPage, Failure> {
        let (events, lost) = match (found, self.needs) {
            (Ok(Found::Events(events)), _) => (events, None),
            (Ok(Found::Lacking), Some(needs)) if is_alone => {
                let fact = is_first.then(|| needs.fact.clone());
                return Err(Failure::Lacking { fact, because: needs.because.clone() });
            }
            (Ok(Found::Lacking), needs) => {
                let because = needs.map(|needs| needs.because.as_str()).unwrap_or_default();
                let message = format!("{} (company {}): {because}", company.name, company.id);
                (Events::none(), Some(Warning { code: ADDON_MISSING.into(), message, field: None }))
            }
            (Err(warning), _) => (Events::none(), Some(warning)),
        };
        let at = |before: Option<i64>| Place { company: Some(company.id.clone()), before, after: None };
        let next = match events.more {
            Some(second) => at(Some(second)).text(),
            None if is_last => None,
            None => Place { after: Some(company.id.clone()), ..Place::default() }.text(),
        };
        let here = at(place.before.or(events.newest)).text();
        let body = array(&self.with_ids(company, events.rows)?);
        Ok(ReportPage { company: Some(company.clone()), body, here, next, lost, facts: Map::new() })
    }

    /// A managed company, in and out again; the service's refusal of it is a warning, not a failure of the walk.
    async fn managed(&self, company: &Company, before: Option<i64>) -> Result<Result<Found, Warning>, Failure> {
        let inside = async {
            enter(&self.session, &company.id).await?;
            self.here(company, before).await
        }
        .await;
        let left = leave(&self.session).await;
        match inside {
            Ok(found) => left.map(|_| Ok(found)),
            Err(Failure::Answered { meaning: Meaning::Denied | Meaning::Failed | Meaning::Missing, message, .. }) => {
                Ok(Err(refusal(company, message.as_deref().unwrap_or("the service gave no reason"))))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The company the session is in.
    async fn here(&self, company: &Company, before: Option<i64>) -> Result<Found, Failure> {
        let id = number(&company.id)?;
        prove_is(&self.session, NODES, id).await?;
        if self.needs.is_some() {
            let who = good(self.session.run("whoami").await?, "whoami")?;
            if Who::read(who.data()).has_reporting() == Some(false) {
                return Ok(Found::Lacking);
            }
        }
        let events = self.events(before).await?;
        prove_is(&self.session, NODES, id).await?;
        Ok(Found::Events(events))
    }

    /// Events until a limit, without the last second, which may go on behind it.
    async fn events(&self, before: Option<i64>) -> Result<Events, Failure> {
        let to = [before, self.ask.to].into_iter().flatten().min();
        let mut limit = self.ask.limit.saturating_add(1).clamp(2, self.how.max);
        loop {
            let (_, mut rows) = rows(&self.session, &self.line(to, limit)?).await?;
            let times = rows.iter().map(|row| self.time_of(row)).collect::<Result<Vec<i64>, Failure>>()?;
            if !times.is_sorted_by(|newer, older| newer >= older) {
                return Err(Failure::BadAnswer("the events of the report are not in the order of their time".into()));
            }
            let newest = times.first().copied();
            let Some(last) = times.last().copied().filter(|_| rows.len() >= limit) else {
                return Ok(Events { rows, newest, more: None });
            };
            let whole = times.iter().take_while(|time| **time > last).count();
            if whole > 0 {
                rows.truncate(whole);
                return Ok(Events { rows, newest, more: Some(last) });
            }
            if limit >= self.how.max {
                return Err(Failure::PagingBroken(format!(
                    "More than {limit} events have the same second, and the vendor shows no more of a second at once; narrow the filters."
                )));
            }
            limit = self.how.max;
        }
    }

    fn line(&self, to: Option<i64>, limit: usize) -> Result<String, Failure> {
        let (first, words) = self.words.split_first().ok_or_else(|| Failure::BadAnswer("a report without a command".into()))?;
        let range = match (self.ask.from, to) {
            (Some(from), Some(to)) => Some(format!("between {from} and {to}")),
            (Some(from), None) => Some(format!(">={from}")),
            (None, Some(to)) => Some(format!("<={to}")),
            (None, None) => None,
        };
        let mut command = words.iter().fold(Command::new(first), |command, word| command.flag(word));
        let (limit, how) = (limit.to_string(), self.how);
        let own = [(&how.limit, Some(&limit)), (&how.range, range.as_ref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in own.chain(self.ask.options.iter().map(|(name, value)| (name, value))) {
            let refused = |error: Unsendable| Failure::Unsendable { field: name.clone(), reason: error.to_string() };
            command = command.option(name, value).map_err(refused)?;
        }
        command.finish().map_err(|error| Failure::Unsendable { field: "filters".into(), reason: error.to_string() })
    }

    fn time_of(&self, row: &RawValue) -> Result<i64, Failure> {
        let text = self.how.at.text(row.get().as_bytes());
        let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        time.map(|time| time.as_second()).ok_or_else(|| Failure::BadAnswer("an event without a time that can be read".into()))
    }

    /// The rows, each with an id made of what tells it from others; equal ones are counted, a second being whole.
    fn with_ids(&self, company: &Company, rows: Vec<Box<RawValue>>) -> Result<Vec<Box<RawValue>>, Failure> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut made = Vec::with_capacity(rows.len());
        for row in rows {
            let id = identity(&company.id, &row, &self.how.identity)?;
            let count = seen.entry(id.clone()).or_default();
            *count += 1;
            let id = if *count == 1 { id } else { format!("{id}-{count}") };
            let rest = row.get().trim_start().trim_start_matches('{');
            let text = format!("{{\"event_id\":\"{id}\",{rest}");
            made.push(RawValue::from_string(text).map_err(|error| Failure::BadAnswer(error.to_string()))?);
        }
        Ok(made)
    }
}

impl Events {
    fn none() -> Events {
        Events { rows: Vec::new(), newest: None, more: None }
    }
}

/// A digest of the company and of these members.
fn identity(company: &str, row: &RawValue, members: &[String]) -> Result<String, Failure> {
    let row: BTreeMap<String, Value> =
        serde_json::from_str(row.get()).map_err(|_| Failure::BadAnswer("an event that is no object".into()))?;
    let told: Vec<(&str, Option<&Value>)> = members.iter().map(|name| (name.as_str(), row.get(name))).collect();
    let text = serde_json::to_vec(&(company, told)).map_err(|error| Failure::BadAnswer(error.to_string()))?;
    Ok(hex(&fingerprint(&text)[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_event_keeps_its_id_when_a_name_beside_it_changes() {
        let members = ["created".to_owned(), "role_id".to_owned()];
        let id = |company: &str, text: &str| identity(company, &row(text), &members).unwrap();
        let event = id("7", r#"{"created":"2026-01-01T00:00:00+00:00","role_id":5,"role_title":"Old"}"#);
        assert_eq!(event.len(), 32);
        assert_eq!(event, id("7", r#"{"role_title":"New","role_id":5,"created":"2026-01-01T00:00:00+00:00"}"#));
        assert_ne!(event, id("8", r#"{"created":"2026-01-01T00:00:00+00:00","role_id":5}"#));
        assert_ne!(event, id("7", r#"{"created":"2026-01-01T00:00:01+00:00","role_id":5}"#));
        assert!(identity("7", &row("[1]"), &members).is_err());
    }

    #[test]
    fn a_walk_goes_on_where_it_stood_and_passes_companies_that_have_gone() {
        let order: Vec<Company> = ["8560", "3861", "3862"].map(|id| Company { id: id.into(), name: String::new() }).into();
        let chosen = |mut place: Place, only: Option<&str>| {
            let ask = ReportAsk { company: only.map(str::to_owned), ..ReportAsk::default() };
            let chosen = place.choose(&order, &ask).map(|(company, rest)| (company.id, rest.len()));
            (chosen, place.before)
        };
        let at = |company: &str| Place { company: Some(company.into()), before: Some(9), after: None };
        assert_eq!(chosen(Place::default(), None), (Some(("8560".into(), 2)), None));
        assert_eq!(chosen(Place::default(), Some("3862")), (Some(("3862".into(), 0)), None));
        assert_eq!(chosen(Place::default(), Some("1")), (None, None));
        assert_eq!(chosen(at("3861"), None), (Some(("3861".into(), 1)), Some(9)));
        assert_eq!(chosen(at("3860"), None), (Some(("3861".into(), 1)), None));
        assert_eq!(chosen(Place { after: Some("3862".into()), ..Place::default() }, None), (None, None));
    }
}
