//! A-05 from the inside: the data map knows everything that is kept, and the export everything the map promises.

use std::{collections::BTreeSet, path::Path};

use rollcall::service::{
    Act,
    export::{MAP, Walk},
};
use serde_json::{Value, json};

use super::{
    audit::{Intruder, name},
    inside, inside_of, link,
};
use crate::e2e::vendor::{SECRET, Vendor};

#[test]
fn a_05_every_repository_has_its_row_in_the_data_map() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/repo");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let repos: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let rows: Vec<&str> = MAP.iter().map(|kept| kept.repo).chain(["mod", "backup"]).collect();
    assert_eq!(rows.iter().map(|row| (*row).to_owned()).collect::<BTreeSet<_>>(), repos, "a kind of record has no row");
    assert_eq!(rows.len(), repos.len(), "a row twice");
    let kinds: BTreeSet<_> = MAP.iter().filter_map(|kept| kept.kind).collect();
    assert_eq!(kinds.len(), MAP.iter().filter(|kept| kept.kind.is_some()).count(), "two rows of one kind");
    assert!(MAP.iter().all(|kept| !kept.what.is_empty() && !kept.life.is_empty() && !kept.why.is_empty()));
}

async fn lines(core: &rollcall::app::Core, tenant: &str) -> Vec<Value> {
    let export = &core.services.export;
    let mut walk: Walk = export.walk(core.environment, tenant);
    let mut text = Vec::new();
    while let Some(piece) = export.next(&mut walk).await.unwrap() {
        text.extend_from_slice(&piece);
    }
    text.extend_from_slice(&walk.end(None));
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_05_an_account_is_exported_with_all_its_members_and_without_its_credential() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let found = lines(&core, "acme").await;
    let kinds: Vec<&str> = MAP.iter().filter_map(|kept| kept.kind).collect();
    let told: BTreeSet<&str> = found[0]["data"]["kinds"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!((&found[0]["kind"], told), (&json!("export"), kinds.into_iter().collect()));
    let accounts: Vec<&Value> = found.iter().filter(|line| line["kind"] == "account").map(|line| &line["data"]).collect();
    assert_eq!(accounts.len(), 1, "{found:?}");
    let stored = serde_json::to_value(&linked.account).unwrap();
    for (name, value) in stored.as_object().unwrap().iter().filter(|(name, _)| *name != "sealed") {
        assert_eq!(&accounts[0][name], value, "{name}");
    }
    assert_eq!((&accounts[0]["secret_fields"], &accounts[0]["has_access_token"]), (&json!(["token"]), &json!(false)));
    assert!(accounts[0].get("sealed").is_none() && !format!("{found:?}").contains(SECRET));
    for sealed in linked.account.sealed.values() {
        assert!(!format!("{found:?}").contains(sealed.as_str()), "not even sealed");
    }
    let end = found.last().unwrap();
    assert_eq!((&end["kind"], &end["data"]["complete"]), (&json!("end"), &json!(true)));
    assert_eq!(end["data"]["counts"]["account"], 1);
}

#[tokio::test]
async fn a_customer_that_nothing_is_kept_of_has_an_export_without_records() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    let found = lines(&core, "nobody").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1]["data"]["counts"].as_object().unwrap().values().all(|count| *count == 0));
}

/// Whom an entry was about that is missing or was changed is not known: it may have been this customer.
#[tokio::test]
async fn an_export_that_lacks_entries_of_the_audit_log_does_not_say_that_it_is_complete() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    for tenant in ["acme", "globex", "acme", "acme"] {
        let act = Act { tenant: Some(tenant.to_owned()), ..Act::of_gateway(core.environment, "thing.change") };
        core.services.audit.around(act, true, async { Ok(()) }).await.unwrap();
    }
    let end = async || {
        let found = lines(&core, "acme").await;
        let end = &found.last().unwrap()["data"];
        (end["counts"]["audit_entry"].as_u64().unwrap(), end["complete"].as_bool().unwrap())
    };
    assert_eq!(end().await, (3, true));
    let intruder = Intruder::at(&core);
    for (number, left) in [(1, 2), (2, 3), (4, 2)] {
        let kept = intruder.read(&name(number)).await;
        intruder.edit(&name(number), "thing.change", "thing.chance").await;
        assert_eq!(end().await, (left, false), "entry {number} was changed");
        intruder.drop(&name(number)).await;
        assert_eq!(end().await, (left, false), "entry {number} is missing");
        intruder.put(&name(number), kept).await;
        assert_eq!(end().await, (3, true));
    }
    let third = intruder.read(&name(3)).await;
    intruder.drop(&name(4)).await;
    intruder.put("entry/3", third).await;
    assert_eq!(end().await, (2, false), "one that is there twice stands for no other");
}
