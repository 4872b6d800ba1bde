//! Whether a key works, what it may do, and what kind of enterprise is behind it.

use serde_json::{Map, Value};

use super::{
    Wire,
    company::{Home, NODES, go_home, good, leave, not_permitted, prove, prove_is},
    lock::Lock,
    queue::{Session, needs_person},
    visit::{enter, number},
    wire::Verdict,
};
use crate::{
    connector::Meaning,
    model::Warning,
    upstream::{Access, Failure, Tested},
};

/// What a walk over the directory runs.
const NEEDED: &[&str] =
    &["whoami", "enterprise-down", "enterprise-info", "msp-down", "msp-info", "switch-to-mc", "switch-to-msp"];

/// Commands that show a customer's vault, asked for with an option that none of them has: argument errors come before
/// anything is read, and the allow list before those.
const VAULT: &[&str] = &["get", "list", "search", "ls"];

/// An option no command has.
const NO_OPTION: &str = "--rollcall-permission-probe";

/// Verifies the credential and learns the enterprise.
pub async fn test(wire: &dyn Wire, access: &Access) -> Result<Tested, Failure> {
    let lock = Lock::take(wire.store(), access, wire.times()).await?;
    let session = Session::new(wire, access);
    let done = lock.during(learn(&session)).await;
    lock.release().await;
    done
}

async fn learn(session: &Session<'_>) -> Result<Tested, Failure> {
    let mut tested = Tested::default();
    look_at_health(session, &mut tested.warnings).await?;
    may_run_all(session).await?;
    let who = who(session).await?;
    let home = go_home(session).await?;
    good(session.run("enterprise-down").await?, "enterprise-down")?;
    let proof = prove(session, NODES).await?;
    if home.managed.contains_key(&proof.company) || leave(session).await? {
        return Err(Failure::ContextChanged("another client switched the Commander service while it was being tested".into()));
    }
    let limited = limited_company(session, &home, proof.company).await?;
    look_for_vault(session, &mut tested.warnings).await?;
    look_at_encryption(session, &mut tested.warnings);

    let facts = &mut tested.facts;
    facts.insert("kind".into(), if home.is_msp { "msp" } else { "enterprise" }.into());
    facts.insert("enterprise_id".into(), proof.company.to_string().into());
    facts.insert("enterprise_name".into(), proof.name.into());
    facts.insert("managed_companies".into(), home.managed.len().into());
    facts.insert("queue".into(), session.has_queue().into());
    facts.insert("encrypted".into(), session.is_encrypted().into());
    facts.insert("aram".into(), who.get("reporting_and_alerts").and_then(Value::as_bool).unwrap_or(false).into());
    let user_digest = who.get("user").and_then(Value::as_str).map(super::records::email_digest);
    for (name, text) in [("user_digest", user_digest), ("company_name", limited)] {
        if let Some(text) = text {
            facts.insert(name.into(), text.into());
        }
    }
    Ok(tested)
}

/// `/health` is younger than the oldest Commander that keeps callers' results apart.
async fn look_at_health(session: &Session<'_>, warnings: &mut Vec<Warning>) -> Result<(), Failure> {
    let reply = session.get("/health").await?;
    if reply.status == 404 {
        let message = "This Commander has no `/health`, so it is older than December 2025. Update it: releases before 26 May 2026 do not keep the results of different API keys apart.";
        warnings.push(Warning { code: "commander_outdated".into(), message: message.into(), field: Some("service_url".into()) });
        return Ok(());
    }
    match serde_json::from_slice::<Value>(&reply.body) {
        Ok(health) if reply.status == 200 && health.get("status").and_then(Value::as_str) == Some("ok") => Ok(()),
        _ => Err(Failure::BadAnswer(format!(
            "`/health` answered HTTP {} and not Commander's `{{\"status\":\"ok\"}}`; is `service_url` the address of a Commander service?",
            reply.status
        ))),
    }
}

async fn may_run_all(session: &Session<'_>) -> Result<(), Failure> {
    let (mut missing, mut last) = (Vec::new(), None);
    for word in NEEDED {
        let done = session.run(&format!("{word} {NO_OPTION}")).await?;
        if done.verdict() == Verdict::NotPermitted {
            missing.push(*word);
            last = Some(done);
        } else if done.verdict() == Verdict::Refused {
            return Err(done.failure(Meaning::Denied, None));
        }
    }
    last.map_or(Ok(()), |done| Err(not_permitted(&done, &missing)))
}

/// Who the service is signed in as. Never with `--json`: the service's own reader of texts garbles that.
async fn who(session: &Session<'_>) -> Result<Map<String, Value>, Failure> {
    let done = good(session.run("whoami").await?, "whoami")?;
    let who = done.data().and_then(|data| serde_json::from_str::<Map<String, Value>>(data.get()).ok()).unwrap_or_default();
    if who.get("logged_in").and_then(Value::as_bool) == Some(false) || !who.contains_key("user") {
        return Err(needs_person(&done));
    }
    if who.get("admin").and_then(Value::as_bool) == Some(false) {
        let message = "The service's Keeper account is no administrator of its enterprise.";
        return Err(done.failure(Meaning::Denied, Some(message.into())));
    }
    Ok(who)
}

/// The name of the company the account is limited to, once the service has been in it and out again.
async fn limited_company(session: &Session<'_>, home: &Home, own: u64) -> Result<Option<String>, Failure> {
    let Some(id) = session.access().fields.get("company_id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let wanted = number(id)?;
    if wanted == own {
        return Ok(None);
    }
    let Some((company, _)) = home.managed.get(&wanted) else {
        let done = session.run("whoami").await?;
        let message = format!("`company_id`: the service's Keeper account manages no company {wanted}.");
        return Err(done.failure(Meaning::Denied, Some(message)));
    };
    let inside = async {
        enter(session, id).await?;
        prove_is(session, NODES, wanted).await
    }
    .await;
    leave(session).await?;
    inside.map(|_| Some(company.name.clone()))
}

async fn look_for_vault(session: &Session<'_>, warnings: &mut Vec<Warning>) -> Result<(), Failure> {
    let mut permitted = Vec::new();
    for word in VAULT {
        let done = session.run(&format!("{word} {NO_OPTION}")).await?;
        if done.verdict() != Verdict::NotPermitted {
            permitted.push(*word);
        }
    }
    if !permitted.is_empty() {
        let message = format!(
            "The API key may also run {}, which show vault data. Rollcall never lets them through; give it a key without them.",
            permitted.join(", ")
        );
        warnings.push(Warning { code: "vault_commands_permitted".into(), message, field: Some("api_key".into()) });
    }
    Ok(())
}

fn look_at_encryption(session: &Session<'_>, warnings: &mut Vec<Warning>) {
    if session.access().secrets.contains_key("encryption_key") && !session.is_encrypted() {
        let message = "An `encryption_key` was given, but the service does not encrypt its answers.";
        warnings.push(Warning {
            code: "encryption_unused".into(),
            message: message.into(),
            field: Some("encryption_key".into()),
        });
    }
}
