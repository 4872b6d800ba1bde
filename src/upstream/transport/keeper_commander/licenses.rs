//! What each company has bought, as far as Commander says it: `msp-info` of managed companies, `whoami` of the own enterprise.
//! One record for the plan, one for the storage, one for each add-on.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::records::array;
use crate::upstream::{Company, Failure};

#[derive(Deserialize)]
struct ManagedRow {
    company_id: u64,
    #[serde(default)]
    company_name: String,
    #[serde(default)]
    plan: Option<String>,
    #[serde(default)]
    storage: Option<String>,
    #[serde(default)]
    addons: Option<Value>,
    #[serde(default)]
    allocated: Option<i64>,
    #[serde(default)]
    active: Option<i64>,
}

/// What `whoami` says of the enterprise the service is signed in to, as the service's reader of texts leaves it.
#[derive(Default, Deserialize)]
pub(super) struct Who {
    #[serde(default)]
    base_plan: Option<String>,
    #[serde(default)]
    user_licenses: Option<String>,
    #[serde(default)]
    secure_file_storage: Option<String>,
    /// The first add-on's line.
    #[serde(default, rename = "add-ons")]
    first_addon: Option<String>,
    /// Those of the lines below it.
    #[serde(default)]
    add_ons: Vec<String>,
    /// Whether the enterprise has the reporting add-on.
    #[serde(default)]
    reporting_and_alerts: Option<bool>,
}

impl Who {
    /// Reads the data of `whoami`; what is not there is not known.
    pub fn read(data: Option<&RawValue>) -> Who {
        data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default()
    }

    fn addons(&self) -> impl Iterator<Item = &str> {
        self.first_addon.iter().chain(&self.add_ons).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether the enterprise has the reporting add-on; not known when nothing is said.
    pub fn has_reporting(&self) -> Option<bool> {
        let is_listed = self.addons().any(|name| name.starts_with("Advanced Reporting"));
        if is_listed { Some(true) } else { self.reporting_and_alerts }
    }
}

/// The records of the companies the account may see.
pub(super) fn licenses<'a>(own: Option<(&Company, &Who)>, managed: impl Iterator<Item = &'a RawValue>) -> Result<Bytes, Failure> {
    let mut all = Vec::new();
    if let Some((company, who)) = own {
        let id: u64 = company.id.parse().map_err(|_| Failure::BadAnswer("an enterprise without a numeric id".into()))?;
        of_own(id, &company.name, who, &mut all);
    }
    for row in managed {
        let read = serde_json::from_str(row.get());
        of_managed(read.map_err(|_| Failure::BadAnswer("`msp-info` gave a company of another shape".into()))?, &mut all);
    }
    let rows = all.iter().map(serde_json::value::to_raw_value).collect::<Result<Vec<_>, _>>();
    rows.map(|rows| array(&rows)).map_err(|error| Failure::BadAnswer(error.to_string()))
}

fn of_own(id: u64, name: &str, who: &Who, all: &mut Vec<Map<String, Value>>) {
    let seats = |word: &str| who.user_licenses.as_deref().and_then(|text| number_after(text, word));
    if let Some(plan) = &who.base_plan {
        let counts = [("seats", seats("Plan:")), ("active", seats("Active:")), ("invited", seats("Invited:"))];
        all.push(record(id, name, "plan", plan, &counts));
    }
    if let Some(storage) = who.secure_file_storage.as_deref().filter(|storage| !storage.is_empty()) {
        all.push(record(id, name, "storage", storage, &[]));
    }
    for addon in who.addons() {
        let (code, seats) = match addon.strip_suffix(" licenses)").and_then(|text| text.rsplit_once(" (")) {
            Some((code, seats)) => (code, seats.parse().ok()),
            None => (addon, None),
        };
        let code = code.rsplit_once(" (").filter(|(_, calls)| calls.ends_with(" API calls)")).map_or(code, |(code, _)| code);
        all.push(record(id, name, "addon", code, &[("seats", seats)]));
    }
}

fn of_managed(row: ManagedRow, all: &mut Vec<Map<String, Value>>) {
    let (id, name) = (row.company_id, row.company_name.as_str());
    if let Some(plan) = &row.plan {
        all.push(record(id, name, "plan", plan, &[("seats", row.allocated), ("active", row.active)]));
    }
    if let Some(storage) = row.storage.as_deref().filter(|storage| !storage.is_empty()) {
        all.push(record(id, name, "storage", storage, &[]));
    }
    // Without `-v` it is their number only.
    for addon in row.addons.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        let (code, seats) = match addon.rsplit_once(':').map(|(code, seats)| (code, seats.parse::<i64>())) {
            Some((code, Ok(seats))) => (code, Some(seats)),
            _ => (addon, None),
        };
        all.push(record(id, name, "addon", code, &[("seats", seats)]));
    }
}

fn record(id: u64, name: &str, kind: &str, code: &str, counts: &[(&str, Option<i64>)]) -> Map<String, Value> {
    let words = [("company_id", json!(id)), ("company_name", json!(name)), ("kind", json!(kind)), ("code", json!(code))];
    let counts = counts.iter().filter_map(|(name, count)| Some((*name, json!((*count)?))));
    words.into_iter().chain(counts).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `Plan: 100  Active: 3`, asked for `Active:` → 3.
fn number_after(text: &str, word: &str) -> Option<i64> {
    text.split_once(word)?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(bytes: &Bytes) -> Vec<Value> {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_own_enterprise_says_its_plan_in_a_text() {
        let who = r#"{"base_plan":"Keeper MSP","user_licenses":"Plan: 100  Active: 3  Invited: 1","secure_file_storage":"1TB",
            "add-ons":"Advanced Reporting & Alerts Module","add_ons":["Connection Manager (5 licenses)","Secrets Manager (1,000 API calls)"]}"#;
        let who = Who::read(Some(&serde_json::from_str::<Box<RawValue>>(who).unwrap()));
        let company = Company { id: "8560".into(), name: "Acme".into() };
        let made = rows(&licenses(Some((&company, &who)), [].into_iter()).unwrap());
        assert_eq!(
            made[0],
            json!({"company_id": 8560, "company_name": "Acme", "kind": "plan", "code": "Keeper MSP", "seats": 100, "active": 3, "invited": 1})
        );
        let codes: Vec<&str> = made.iter().map(|row| row["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["Keeper MSP", "1TB", "Advanced Reporting & Alerts Module", "Connection Manager", "Secrets Manager"]);
        assert_eq!((&made[3]["seats"], &made[4]["seats"]), (&json!(5), &Value::Null));
    }

    #[test]
    fn an_add_on_of_a_managed_company_goes_by_its_code_without_the_seats() {
        let row = r#"{"company_id":3862,"company_name":"C","plan":"enterprise","storage":"","addons":["compliance_report","connection_manager:5","x:-1"],"allocated":-1,"active":3}"#;
        let row: Box<RawValue> = serde_json::from_str(row).unwrap();
        let made = rows(&licenses(None, [row.as_ref()].into_iter()).unwrap());
        let told: Vec<_> = made.iter().map(|row| (row["code"].as_str().unwrap(), row["seats"].as_i64())).collect();
        assert_eq!(
            told,
            [("enterprise", Some(-1)), ("compliance_report", None), ("connection_manager", Some(5)), ("x", Some(-1))]
        );
    }

    #[test]
    fn the_reporting_add_on_is_had_lacked_or_not_known() {
        let who = |text: &str| Who::read(Some(&serde_json::from_str::<Box<RawValue>>(text).unwrap())).has_reporting();
        assert_eq!(who(r#"{"reporting_and_alerts":true}"#), Some(true));
        assert_eq!(who(r#"{"reporting_and_alerts":false}"#), Some(false));
        assert_eq!(who(r#"{"reporting_and_alerts":false,"add-ons":"Advanced Reporting & Alerts Module"}"#), Some(true));
        assert_eq!(who("{}"), None);
    }
}
