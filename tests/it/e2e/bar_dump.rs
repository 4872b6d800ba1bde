//! V-02: who copies the store has neither credentials nor the people in it.

use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary, files},
    bar_vendor::{Vendor, address_of, scim},
};
use crate::support::gateway::{Gateway, Kept};

const PEOPLE: usize = 30;

#[tokio::test]
async fn v_02_store_dump_is_useless() {
    use rollcall::sandbox::keeper_commander::{API_KEY, Faults, start};
    let answer_key = "7c1e5a93bd20f846e1077a5c3d9b2f64";
    for kept in Kept::each() {
        // Index paging that answers everything at once makes a snapshot of the Commander account alone.
        let vendor = Vendor::start(|asked| scim(asked, PEOPLE));
        let faults = Faults { users: 20, queue: false, encryption_key: Some(answer_key.into()), ..Faults::default() };
        let (sandbox, _, running) = start(faults).unwrap();
        tokio::spawn(running);
        let gateway = Gateway::start(&kept, &format!("{},{}", vendor.authority(), sandbox.addr));
        let (token, password) = ("dump-token-4fD8/+kq", "dump-password-9:Zy\"w");
        let first = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": token})).await;
        let basic = json!({"base_url": vendor.at("/scim"), "username": "somebody", "password": password});
        let second = gateway.link("scim", "basic", basic).await;
        let context = json!({"service_url": sandbox.base, "api_key": API_KEY, "encryption_key": answer_key});
        let third = gateway.link("keeper", "service_mode", context).await;
        let api_token = gateway.token(&["directory:read"]).await;
        let mut people: Vec<String> = (1..=PEOPLE).map(address_of).collect();
        for account in [&first, &second, &third] {
            let users = gateway.walk(&format!("/unified/user-directory/users?integrated_account_id={account}&limit=7")).await;
            assert!(users.len() >= 20, "{}", users.len());
            collect_addresses(&users.into(), &mut people);
            gateway.get(&format!("/unified/user-directory/groups?integrated_account_id={account}&limit=1")).await;
        }
        people.sort();
        people.dedup();
        assert!(people.len() > PEOPLE + 15, "the snapshot's people are among them: {}", people.len());
        let mut planted: Vec<Canary> = [("token", token), ("password", password), ("api key", API_KEY), ("answer key", answer_key)]
            .map(|(name, text)| Canary::new(name, text))
            .into();
        planted.push(Canary::new("API token", api_token.clone()));
        planted.push(Canary::new("API token's secret", &api_token[27..]));
        planted.extend(people.iter().map(|address| Canary::new("a person", address)));
        let canaries = Canaries::new(planted);
        let dump = dump(&kept, gateway);
        assert!(dump.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 4096, "there is a dump");
        let text: Vec<u8> = dump.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert!(super::bar_canaries::occurs(&text, first.as_bytes()), "the dump is of this store");
        let hits: Vec<String> = dump.iter().flat_map(|(name, bytes)| canaries.hits(name, bytes)).collect();
        assert_eq!(hits, Vec::<String>::new());
        sandbox.stop().await;
    }
}

/// Every text with an `@` in it.
fn collect_addresses(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains('@') && text.len() >= 12 => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_addresses(item, found)),
        Value::Object(members) => members.values().for_each(|item| collect_addresses(item, found)),
        _ => {}
    }
}

/// What a thief of the store would have: the files of the running and of the ended gateway, Redis' files and every value.
fn dump(kept: &Kept, gateway: Gateway) -> Vec<(String, Vec<u8>)> {
    match kept {
        Kept::Embedded(folder) => {
            let mut dump = files(&folder.path().join("store"));
            assert!(gateway.stop());
            dump.extend(files(&folder.path().join("store")));
            // The file that lets this machine's command line in; it is not the store.
            dump.retain(|(name, _)| !name.ends_with("serve.json"));
            dump
        }
        Kept::Redis(server, _) => {
            let mut connection = server.connection();
            let _: () = redis::cmd("SAVE").query(&mut connection).unwrap();
            let mut dump = files(server.folder());
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            for key in keys {
                if let Ok(value) = redis::cmd("GET").arg(&key).query::<Vec<u8>>(&mut connection) {
                    dump.push((key, value));
                }
            }
            assert!(gateway.stop());
            dump
        }
    }
}
