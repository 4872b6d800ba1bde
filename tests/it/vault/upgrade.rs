//! A store of a release that knew no account tokens: nodes that start together over it agree on the key that is missing.

use std::{sync::Arc, thread};

use base64::{Engine, engine::general_purpose::STANDARD};
use rollcall::{
    store::{redis::Redis, repo::Installation},
    vault::{KeyRing, SystemKeys},
};
use serde_json::json;

use super::{
    ring::{key, text, write},
    system_keys::OF_TWO_KEYS,
};
use crate::{
    e2e::vendor::Vendor,
    support::{
        gateway::{ADMIN, Gateway, Kept},
        redis::Server,
    },
};

#[tokio::test]
async fn nodes_that_start_together_agree_on_the_missing_key() {
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("keys.json");
    write(&ring, text("k1", &[("k1", key(1))]));
    let kept = Kept::Redis(Server::with(&["--appendonly", "yes", "--dir", "{dir}"]), folder);
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    let installation = Installation::new(Arc::new(Redis::connect(&server.url(), None).await.unwrap()));
    let before = STANDARD.decode(OF_TWO_KEYS).unwrap();
    installation.put_system_keys(&before).await.unwrap();

    let vendor = Vendor::start();
    let nodes: Vec<Gateway> = thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| Gateway::start(&kept, &vendor.authority()))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let account = nodes[0].link("scim", "bearer", vendor.context()).await;
    for maker in &nodes {
        let body = json!({"integrated_account_id": account});
        let made = maker.call_as(Some(ADMIN), "POST", "/integrated-account/token", Some(&body)).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let token = made.json()["token"].as_str().unwrap().to_owned();
        for node in &nodes {
            let answer = node.call_as(Some(&token), "GET", "/unified/user-directory/users", None).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let stored = installation.system_keys().await.unwrap().unwrap();
    let ring = KeyRing::load(&ring).unwrap();
    let (mut old, mut new) = (SystemKeys::open(&ring, &before).unwrap(), SystemKeys::open(&ring, &stored.value).unwrap());
    assert!(old.complete() && !new.complete(), "the key was kept");
    assert_eq!(old.token_hash(b"secret"), new.token_hash(b"secret"), "the others stayed");
}
