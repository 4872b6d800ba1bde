//! V-03 with raw access to the store: whatever is moved or changed there, no credential opens and no vendor is asked.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::bar_vendor::{Vendor, scim};
use crate::support::{
    gateway::{Gateway, Kept},
    long,
    redis::Server,
};

/// Redis by hand: a slot's values without their versions.
struct Raw(redis::Connection);

type Values = BTreeMap<String, Vec<u8>>;

impl Raw {
    fn read(&mut self, account: &str) -> Values {
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("rollcall:{{{account}}}*")).query(&mut self.0).unwrap();
        let mut values = Values::new();
        for key in keys {
            let name = key.rsplit('/').next().unwrap().to_owned();
            if name == "account" || name == "data-key" {
                let stored: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut self.0).unwrap();
                let colon = stored.iter().position(|b| *b == b':').unwrap();
                values.insert(key, stored[colon + 1..].to_vec());
            }
        }
        assert_eq!(values.len(), 2, "a record and a data key");
        values
    }

    /// Writes a value under a newer version, so that no node goes on with what it knows.
    fn write(&mut self, key: &str, value: &[u8]) {
        let mut stored = b"9007199254740000:".to_vec();
        stored.extend_from_slice(value);
        let _: () = redis::cmd("SET").arg(key).arg(stored).query(&mut self.0).unwrap();
    }

    fn record(&mut self, account: &str) -> Value {
        let values = self.read(account);
        serde_json::from_slice(&values[&key(&values, "account")]).unwrap()
    }

    fn change(&mut self, account: &str, change: impl FnOnce(&mut Value)) {
        let values = self.read(account);
        let mut record = self.record(account);
        let before = record.clone();
        change(&mut record);
        assert_ne!(record, before, "the change changes nothing");
        self.write(&key(&values, "account"), record.to_string().as_bytes());
    }
}

fn key(values: &Values, name: &str) -> String {
    values.keys().find(|key| key.ends_with(&format!("/{name}"))).unwrap().clone()
}

/// One way to tamper; the second account is a donor of its own.
type Tamper = Box<dyn FnOnce(&mut Raw, &str, &str)>;

fn tampers(elsewhere: &str) -> Vec<(String, Tamper)> {
    let mut all: Vec<(String, Tamper)> = Vec::new();
    let mut add = |name: &str, tamper: Tamper| all.push((name.to_owned(), tamper));
    add("the record of another account", Box::new(|raw, own, donor| {
        let (mine, theirs) = (raw.read(own), raw.read(donor));
        raw.write(&key(&mine, "account"), &theirs[&key(&theirs, "account")]);
    }));
    add("record and data key of another account", Box::new(|raw, own, donor| {
        let (mine, theirs) = (raw.read(own), raw.read(donor));
        for name in ["account", "data-key"] {
            raw.write(&key(&mine, name), &theirs[&key(&theirs, name)]);
        }
    }));
    add("another account's secret and key under the own id", Box::new(|raw, own, donor| {
        let (mine, theirs) = (raw.read(own), raw.read(donor));
        let sealed = raw.record(donor)["sealed"].clone();
        raw.change(own, |record| record["sealed"] = sealed);
        raw.write(&key(&mine, "data-key"), &theirs[&key(&theirs, "data-key")]);
    }));
    add("another account's record renamed", Box::new(|raw, own, donor| {
        let (mine, theirs) = (raw.read(own), raw.read(donor));
        let mut record = raw.record(donor);
        record["id"] = json!(own);
        raw.write(&key(&mine, "account"), record.to_string().as_bytes());
        raw.write(&key(&mine, "data-key"), &theirs[&key(&theirs, "data-key")]);
    }));
    add("the sealed field of another account", Box::new(|raw, own, donor| {
        let sealed = raw.record(donor)["sealed"].clone();
        raw.change(own, |record| record["sealed"] = sealed);
    }));
    add("the data key of another account", Box::new(|raw, own, donor| {
        let (mine, theirs) = (raw.read(own), raw.read(donor));
        raw.write(&key(&mine, "data-key"), &theirs[&key(&theirs, "data-key")]);
    }));
    add("no data key", Box::new(|raw, own, _| {
        let mine = raw.read(own);
        let _: () = redis::cmd("DEL").arg(key(&mine, "data-key")).query(&mut raw.0).unwrap();
    }));
    add("another method", Box::new(|raw, own, _| {
        raw.change(own, |record| {
            record["method"] = json!("header");
            record["fields"]["header_name"] = json!("X-Api-Key");
            record["sealed"] = json!({"header_value": record["sealed"]["token"]});
        });
    }));
    add("another field of the same name's length", Box::new(|raw, own, _| {
        raw.change(own, |record| {
            record["method"] = json!("basic");
            record["fields"]["username"] = json!("somebody");
            record["sealed"] = json!({"password": record["sealed"]["token"]});
        });
    }));
    add("another connector", Box::new(|raw, own, _| {
        raw.change(own, |record| {
            record["connector"] = json!("keeper");
            record["method"] = json!("scim");
            record["fields"] = json!({"scim_url": record["fields"]["base_url"]});
        });
    }));
    let there = elsewhere.to_owned();
    add("another address", Box::new(move |raw, own, _| raw.change(own, |record| record["fields"]["base_url"] = json!(there))));
    let there = elsewhere.to_owned();
    add("another address and origin", Box::new(move |raw, own, _| {
        raw.change(own, |record| {
            let text = record["origins"].to_string();
            let old = record["fields"]["base_url"].as_str().unwrap().to_owned();
            let (old_origin, new_origin) = (origin(&old), origin(&there));
            record["origins"] = serde_json::from_str(&text.replace(&old, &there).replace(&old_origin, &new_origin)).unwrap();
            record["fields"]["base_url"] = json!(there);
        });
    }));
    add("another path on the same host", Box::new(|raw, own, _| {
        raw.change(own, |record| {
            let text = record.to_string().replace("/scim", "/elsewhere/scim");
            *record = serde_json::from_str(&text).unwrap();
        });
    }));
    add("an origin more", Box::new(|raw, own, _| raw.change(own, |r| r["origins"].as_array_mut().unwrap().push(json!("https://a.example")))));
    add("no origins", Box::new(|raw, own, _| raw.change(own, |record| record["origins"] = json!([]))));
    add("a later generation", Box::new(|raw, own, _| raw.change(own, |record| record["generation"] = json!(2))));
    add("an earlier generation", Box::new(|raw, own, _| raw.change(own, |record| record["generation"] = json!(0))));
    add("another environment", Box::new(|raw, own, _| {
        raw.change(own, |record| record["environment"] = json!("0198c5a0-0000-7000-8000-000000000001"));
    }));
    add("no secret", Box::new(|raw, own, _| raw.change(own, |record| record["sealed"] = json!({}))));
    add("a secret in the clear", Box::new(|raw, own, _| {
        raw.change(own, |record| {
            record["sealed"] = json!({});
            record["fields"]["token"] = json!("planted-by-hand");
        });
    }));
    add("a secret that is not base64", Box::new(|raw, own, _| raw.change(own, |record| record["sealed"]["token"] = json!("%%%"))));
    add("half a record", Box::new(|raw, own, _| {
        let mine = raw.read(own);
        let whole = &mine[&key(&mine, "account")];
        raw.write(&key(&mine, "account"), &whole[..whole.len() / 2]);
    }));
    let step = if long() { 1 } else { 11 };
    for at in (0..64).step_by(step) {
        add(&format!("byte {at} of the secret"), Box::new(move |raw, own, _| {
            raw.change(own, |record| {
                let mut sealed = BASE64_STANDARD.decode(record["sealed"]["token"].as_str().unwrap()).unwrap();
                let at = at * sealed.len() / 64;
                sealed[at] ^= 1 << (at % 8);
                record["sealed"]["token"] = json!(BASE64_STANDARD.encode(sealed));
            });
        }));
        add(&format!("byte {at} of the data key"), Box::new(move |raw, own, _| {
            let mine = raw.read(own);
            let mut wrapped = mine[&key(&mine, "data-key")].clone();
            let at = at * wrapped.len() / 64;
            wrapped[at] ^= 1 << (at % 8);
            raw.write(&key(&mine, "data-key"), &wrapped);
        }));
        add(&format!("{at}/64 of the secret"), Box::new(move |raw, own, _| {
            raw.change(own, |record| {
                let sealed = BASE64_STANDARD.decode(record["sealed"]["token"].as_str().unwrap()).unwrap();
                record["sealed"]["token"] = json!(BASE64_STANDARD.encode(&sealed[..at * sealed.len() / 64]));
            });
        }));
    }
    all
}

fn origin(address: &str) -> String {
    url::Url::parse(address).unwrap().origin().ascii_serialization()
}

fn server(kept: &Kept) -> &Server {
    match kept {
        Kept::Redis(server, _) => server,
        Kept::Embedded(_) => unreachable!(),
    }
}

#[tokio::test]
async fn v_03_ciphertext_is_bound_to_its_place() {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let other = Vendor::start(|asked| scim(asked, 3));
    let kept = Kept::redis();
    let gateway = Gateway::start(&kept, &format!("{},{}", vendor.authority(), other.authority()));
    let mut raw = Raw(server(&kept).connection());
    let link = |token: String| gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": token}));
    let mut cases = Vec::new();
    for (number, (name, tamper)) in tampers(&other.at("/scim")).into_iter().enumerate() {
        let (own, donor) = (link(format!("own-{number}-token")).await, link(format!("donor-{number}-token")).await);
        let answer = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={own}")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        cases.push((name, tamper, own, donor));
    }
    let mut tampered = Vec::new();
    for (name, tamper, own, donor) in cases {
        tamper(&mut raw, &own, &donor);
        tampered.push((name, own));
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (before, before_other) = (vendor.count(), other.count());
    let mut wrong = Vec::new();
    for (name, own) in &tampered {
        for path in [
            format!("/unified/user-directory/users?integrated_account_id={own}"),
            format!("/unified/user-directory/users/u1?integrated_account_id={own}"),
            format!("/proxy/Users?integrated_account_id={own}"),
            format!("/passthrough/{own}/Users"),
        ] {
            let answer = gateway.get(&path).await;
            let fine = matches!((answer.status, answer.code().as_str()), (500, "credential_unreadable") | (404, "not_found"))
                || (name == "half a record" && answer.status == 500);
            if !fine {
                wrong.push(format!("{name}: {path}: {}", answer.text().chars().take(200).collect::<String>()));
            }
        }
        let shown = gateway.get(&format!("/integrated-account/{own}")).await;
        let flagged = shown.status == 200 && shown.json()["last_error"].is_string();
        if !flagged && !matches!(shown.status, 404 | 500) {
            wrong.push(format!("{name}: the account shows no error: {}", shown.text()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!((vendor.count(), other.count()), (before, before_other), "a vendor was asked");
    let alive = link("after-all-token".into()).await;
    assert_eq!(gateway.get(&format!("/unified/user-directory/users?integrated_account_id={alive}")).await.status, 200);
    assert!(gateway.stop());
}

#[tokio::test]
async fn v_03_two_secrets_of_one_account_do_not_change_places() {
    use rollcall::sandbox::keeper_commander::{Faults, start};
    const ANSWER_KEY: &str = "0123456789abcdef0123456789abcdef";
    let faults = Faults { users: 3, queue: false, encryption_key: Some(ANSWER_KEY.into()), ..Faults::default() };
    let (sandbox, control, running) = start(faults).unwrap();
    tokio::spawn(running);
    let kept = Kept::redis();
    let gateway = Gateway::start(&kept, &sandbox.addr.to_string());
    let context = json!({"service_url": sandbox.base, "api_key": sandbox.token, "encryption_key": ANSWER_KEY});
    let account = gateway.link("keeper", "service_mode", context).await;
    let mut raw = Raw(server(&kept).connection());
    raw.change(&account, |record| {
        let (one, two) = (record["sealed"]["api_key"].clone(), record["sealed"]["encryption_key"].clone());
        record["sealed"] = json!({"api_key": two, "encryption_key": one});
    });
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let before = control.runs();
    let answer = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "credential_unreadable"), "{}", answer.text());
    assert_eq!(control.runs(), before, "the service was asked");
    sandbox.stop().await;
}
