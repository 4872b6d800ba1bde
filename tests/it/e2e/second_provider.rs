//! A second provider, npm's oauth2-mock-server: it signs its access tokens, checks PKCE and lets its token answers be bent.

use serde_json::{Value, json};

use super::{
    grants::{gateway as with_grants, key, link, lists},
    oauth_apps::{linked, users},
    vendor::is_sound,
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept},
    house::authority,
    peers::{self, Peer},
};

/// Both its ports: the provider's and that of the users behind it.
fn ports(peer: &Peer) -> String {
    format!("{},{}", authority(peer.told("token_url")), peer.authority())
}

/// What clients asked the token endpoint for since the last look.
fn asked(peer: &mut Peer) -> Vec<Value> {
    peer.order(&json!({}))["asked"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_provider_that_does_not_rotate_is_asked_with_the_same_refresh_token() {
    let mut peer = peers::mock();
    let (kept, ports) = (Kept::embedded(), ports(&peer));
    let (mut gateway, account) = linked(&mut peer, &kept, &ports).await;
    assert_eq!(asked(&mut peer)[0]["grant"], "authorization_code");
    let mut shown = Vec::new();
    for bend in [
        json!({}),
        json!({"drop": ["refresh_token"]}),
        json!({"put": {"refresh_token": ""}}),
        json!({"put": {"refresh_token": null}}),
    ] {
        for _ in 0..2 {
            peer.order(&json!({"bend": bend, "revoke": true}));
            let reply = users(&gateway, ADMIN, &account).await;
            assert_eq!(reply.status, 200, "{bend}: {}", reply.text());
            let one = asked(&mut peer);
            assert_eq!((one.len(), &one[0]["grant"]), (1, &json!("refresh_token")), "{bend}: {one:?}");
            shown.push(one[0]["shown"].clone());
        }
        assert!(gateway.stop());
        gateway = Gateway::start(&kept, &ports);
    }
    assert!(shown[0] != shown[1] && shown[1] != shown[2], "it rotated: {shown:?}");
    assert!(shown[2..].iter().all(|token| *token == shown[2]), "it did not: {shown:?}");

    let gone = gateway.call("DELETE", &format!("/integrated-account/{account}"), None).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    let mut ended = peer.order(&json!({}))["ended"].as_array().unwrap().clone();
    for _ in 0..100 {
        if !ended.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        ended.extend(peer.order(&json!({}))["ended"].as_array().unwrap().clone());
    }
    assert_eq!(ended[0]["token"], shown[2], "the refresh token is given back: {ended:?}");
    is_sound(&gateway);
}

#[tokio::test]
async fn tokens_of_odd_lives_are_used() {
    let mut peer = peers::mock();
    let (kept, ports) = (Kept::embedded(), ports(&peer));
    let (gateway, account) = linked(&mut peer, &kept, &ports).await;
    for life in [
        json!("3600"),
        json!(3600.5),
        json!(" 60 "),
        Value::Null,
        json!(0),
        json!(-5),
        json!("soon"),
        json!(1e300),
        json!([]),
        json!(true),
    ] {
        peer.order(&json!({"bend": {"put": {"expires_in": life}}, "revoke": true}));
        for _ in 0..3 {
            let reply = users(&gateway, ADMIN, &account).await;
            assert_eq!(reply.status, 200, "{life}: {}", reply.text());
        }
        assert_eq!(asked(&mut peer).len(), 1, "{life}: one token served three calls");
    }
    is_sound(&gateway);
}

#[tokio::test]
async fn grants_without_a_person_get_signed_tokens() {
    let mut peer = peers::mock();
    let (kept, ports) = (Kept::embedded(), ports(&peer));
    let plain = Gateway::start(&kept, &ports);
    let client = json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_id": "c", "client_secret": "synthetic", "scope": "a b"});
    lists(&plain, &link(&plain, "oauth2_client_credentials", &client).await).await;
    let told = asked(&mut peer);
    assert!(told.iter().all(|asked| asked["grant"] == "client_credentials" && asked["scope"] == "a b"), "{told:?}");
    assert!(plain.stop());

    let kept = Kept::embedded();
    let gateway = with_grants(&kept, &ports);
    let (private, _) = key(kept.folder());
    let context = json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_email": "svc@example.com", "private_key": private});
    lists(&gateway, &link(&gateway, "service_account", &context).await).await;
    assert_eq!(asked(&mut peer)[0]["grant"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
}
