//! SCIM 2.0: `rest` plus what ServiceProviderConfig says and a list that proves it is SCIM.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::rest;
use crate::{
    model::Warning,
    upstream::{Access, Context, Failure, HttpAnswer, HttpCall, Tested, classify},
};

const LIST_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// What matters of a list's head.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    schemas: Option<Vec<String>>,
    #[serde(default)]
    total_results: Option<Value>,
    #[serde(default, rename = "Resources")]
    resources: Option<serde::de::IgnoredAny>,
}

/// Asks for ServiceProviderConfig (which may be missing) and one user (which must come as a list).
pub(crate) async fn test(context: &Context, access: &Access) -> Result<Tested, Failure> {
    let mut tested = Tested::default();
    let config = context.send(access, HttpCall::get("/ServiceProviderConfig")).await?;
    match provider(&config) {
        Some(config) => learn(&config, &mut tested.facts),
        None if (400..500).contains(&config.status) && config.status != 429 || matches!(config.status, 200..=299 | 501) => {
            tested.facts.insert("page".into(), "index".into());
            tested.warnings.push(Warning {
                code: "no_service_provider_config".into(),
                message: "The vendor has no readable ServiceProviderConfig; index paging is used and filters are evaluated here."
                    .into(),
                field: None,
            });
        }
        None => classify::classify(access, &config)?,
    }
    tested.facts.entry("filter").or_insert(Value::Bool(false));

    let mut call = HttpCall::get("/Users");
    if tested.facts.get("page").and_then(Value::as_str) == Some("cursor") {
        call.query.add("cursor", "");
    }
    call.query.add("count", "1");
    let answer = rest::ask(context, access, call, None).await?;
    check_list(&answer)?;
    Ok(tested)
}

/// The configuration, when the answer is one.
fn provider(answer: &HttpAnswer) -> Option<Value> {
    let config: Value = serde_json::from_slice(&answer.body).ok()?;
    ((200..300).contains(&answer.status) && config.is_object()).then_some(config)
}

fn learn(config: &Value, facts: &mut Map<String, Value>) {
    let is = |pointer: &str| config.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let style = if is("/pagination/cursor") { "cursor" } else { "index" };
    facts.insert("page".into(), style.into());
    facts.insert("filter".into(), Value::Bool(is("/filter/supported")));
    if is("/etag/supported") {
        facts.insert("etag".into(), Value::Bool(true));
    }
    if let Some(supported) = config.pointer("/patch/supported").and_then(Value::as_bool) {
        facts.insert("patch".into(), Value::Bool(supported));
    }
    let max = ["/pagination/maxPageSize", "/filter/maxResults"].iter().find_map(|p| config.pointer(p).and_then(Value::as_u64));
    if let Some(max) = max.filter(|max| *max > 0) {
        facts.insert("max".into(), max.into());
    }
}

fn check_list(answer: &HttpAnswer) -> Result<(), Failure> {
    let not_a_list = || Failure::BadAnswer("`/Users` did not answer with a SCIM ListResponse".into());
    let head: Head = serde_json::from_slice(&answer.body).map_err(|_| not_a_list())?;
    let named = head.schemas.is_none_or(|schemas| schemas.iter().any(|schema| schema.eq_ignore_ascii_case(LIST_RESPONSE)));
    let counted = head.total_results.is_some_and(|total| total.is_u64() || total.is_string()) || head.resources.is_some();
    match named && counted {
        true => Ok(()),
        false => Err(not_a_list()),
    }
}

/// `Resources` may be left out of a list without any (RFC 7644 §3.4.2).
pub(super) fn is_empty_list(body: &[u8]) -> bool {
    let head: Option<Head> = serde_json::from_slice(body).ok();
    head.is_some_and(|head| head.resources.is_none() && head.total_results.is_some_and(|total| total == 0 || total == "0"))
}

/// RFC 9865 §2.3: a cursor that is no longer known.
pub(super) fn is_cursor_error(body: &[u8]) -> bool {
    let error: Option<Value> = serde_json::from_slice(body).ok();
    let kind = error.as_ref().and_then(|error| error.get("scimType")).and_then(Value::as_str);
    matches!(kind, Some("invalidCursor" | "expiredCursor"))
}
