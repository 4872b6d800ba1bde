//! What accounts go through whose customers agreed at the vendor is told once for each change. The vendor is the real npm
//! `oidc-provider`, which ends a whole grant when a used refresh token comes again.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::state::{NO_PROBES, events, until_events};
use crate::support::{
    gateway::{Answer, Gateway, Kept, client},
    peers::{self, Peer},
};

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCOPE: &str = "openid scim.read";
const BACK: &str = "http://127.0.0.1:9/back";

fn authority(peer: &Peer) -> String {
    peer.base().trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

/// Asks the provider's token endpoint as another system does that has the same client.
async fn ask(peer: &Peer, form: &[(&str, &str)]) -> Answer {
    let browser = &peer.ready["browser"];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client().post(peer.told("token_url")).basic_auth(browser["id"].as_str().unwrap(), browser["secret"].as_str());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    Answer::read(request.send().await.unwrap()).await
}

/// Somebody agrees at the provider; the tokens that come of it, as `context.oauth` takes them.
async fn agreed(peer: &mut Peer) -> Value {
    let mut at = url::Url::parse(peer.told("authorize_url")).unwrap();
    at.query_pairs_mut().extend_pairs([
        ("client_id", peer.ready["browser"]["id"].as_str().unwrap()),
        ("response_type", "code"),
        ("redirect_uri", BACK),
        ("scope", SCOPE),
        ("state", "any"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let said = peer.order(&json!({"agree": at.as_str()}));
    let came = url::Url::parse(said["came"].as_str().unwrap()).unwrap_or_else(|_| panic!("{said}"));
    let query: BTreeMap<_, _> = came.query_pairs().into_owned().collect();
    let code = query.get("code").unwrap_or_else(|| panic!("no code: {came}"));
    let form =
        [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", BACK), ("code_verifier", VERIFIER)];
    let given = ask(peer, &form).await;
    assert_eq!(given.status, 200, "{}", given.text());
    let given = given.json();
    json!({"token": {"access_token": given["access_token"], "refresh_token": given["refresh_token"], "expires_in": 600}})
}

fn context(peer: &Peer, oauth: &Value) -> Value {
    let browser = &peer.ready["browser"];
    json!({"base_url": peer.base(), "authorize_url": peer.told("authorize_url"), "token_url": peer.told("token_url"),
        "client_id": browser["id"], "client_secret": browser["secret"], "scope": SCOPE, "oauth": oauth})
}

/// The grant ends as a thief's use of an old refresh token ends it; the access tokens with it.
async fn end_grant(peer: &mut Peer, oauth: &Value) {
    let used = oauth["token"]["refresh_token"].as_str().unwrap();
    let refused = ask(peer, &[("grant_type", "refresh_token"), ("refresh_token", used)]).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_grant")), "{}", refused.text());
    peer.order(&json!({"revoke": true}));
}

async fn users(gateway: &Gateway, account: &str) -> Answer {
    gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await
}

#[tokio::test]
async fn each_change_of_an_oauth_account_is_told_once() {
    for kept in Kept::each() {
        let mut peer = peers::oidc(600);
        let nodes = if matches!(kept, Kept::Redis(..)) { 2 } else { 1 };
        let gateways: Vec<_> = (0..nodes).map(|_| Gateway::start_with(&kept, &authority(&peer), &[NO_PROBES])).collect();
        let callers = |account: &str| {
            let calls: Vec<_> = (0..40).map(|caller| (&gateways[caller % nodes], account.to_owned())).collect();
            async move { join_all(calls.iter().map(|(gateway, account)| users(gateway, account))).await }
        };
        let oauth = agreed(&mut peer).await;
        let account = gateways[0].link("scim", "oauth2", context(&peer, &oauth)).await;
        // New tokens are no change of the account's state.
        for _ in 0..3 {
            peer.order(&json!({"revoke": true}));
            assert!(callers(&account).await.iter().all(|reply| reply.status == 200));
        }
        until_events(&gateways[0], &account, 20, &["created", "active"]).await;

        end_grant(&mut peer, &oauth).await;
        let refused = callers(&account).await;
        assert!(refused.iter().any(|reply| reply.code() == "reauth_required"), "{}", refused[0].text());
        assert!(refused.iter().all(|reply| matches!(reply.status, 401 | 503)));
        let mut life = vec!["created", "active", "authentication_error"];
        until_events(&gateways[0], &account, 20, &life).await;
        let asked = peer.order(&json!({}))["asked"].clone();
        assert!(callers(&account).await.iter().all(|reply| reply.code() == "reauth_required"));
        assert_eq!(peer.order(&json!({}))["asked"], asked, "what is over is not asked for again");

        // The customer agrees anew, and both nodes go on.
        let body = json!({"context": {"oauth": agreed(&mut peer).await}});
        let linked = gateways[0].call("PATCH", &format!("/integrated-account/{account}"), Some(&body)).await;
        assert_eq!((linked.status, &linked.json()["status"]), (200, &json!("active")), "{}", linked.text());
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert!(callers(&account).await.iter().all(|reply| reply.status == 200));
        life.extend(["updated", "active"]);
        until_events(&gateways[0], &account, 20, &life).await;

        let path = format!("/integrated-account/{account}");
        let deletions = join_all(gateways.iter().chain(&gateways).map(|gateway| gateway.call("DELETE", &path, None))).await;
        assert_eq!(deletions.iter().filter(|reply| reply.status == 200).count(), 1, "{}", deletions[0].text());
        life.push("deleted");
        for gateway in &gateways {
            until_events(gateway, &account, 20, &life).await;
        }
        // Nothing comes after the end.
        callers(&account).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(events(&gateways[0], &account).await, life);
    }
}

/// Truto's two forms of a change of credentials alone.
#[tokio::test]
async fn new_tokens_are_a_change_of_credentials() {
    let mut peer = peers::oidc(600);
    let gateway = Gateway::start_with(&Kept::embedded(), &authority(&peer), &[NO_PROBES]);
    let first = agreed(&mut peer).await;
    let account = gateway.link("scim", "oauth2", context(&peer, &first)).await;
    let place = format!("/integrated-account/{account}/credentials");
    peer.order(&json!({"revoke": true}));
    assert_eq!(users(&gateway, &account).await.status, 200, "the refresh token is used now");
    end_grant(&mut peer, &first).await;
    assert_eq!(users(&gateway, &account).await.code(), "reauth_required");
    let change = async |body: Value| gateway.call("PATCH", &place, Some(&body)).await;
    let empty = change(json!({"oauth": {"token": {}}})).await;
    assert_eq!((empty.status, empty.json()["field"].as_str()), (422, Some("oauth.token")), "{}", empty.text());
    let stale = change(json!({"oauth": first})).await;
    assert_eq!((stale.status, stale.code().as_str()), (422, "credential_refused"), "{}", stale.text());
    let changed = change(json!({"oauth": agreed(&mut peer).await})).await;
    assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("active")), "{}", changed.text());
    assert_eq!(users(&gateway, &account).await.status, 200);
    let secret = peer.ready["browser"]["secret"].clone();
    let changed = change(json!({"context": {"client_secret": secret}})).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(users(&gateway, &account).await.status, 200);
}

#[tokio::test]
async fn a_grant_that_the_customer_took_back_is_found_without_a_caller() {
    let mut peer = peers::oidc(600);
    let gateway = Gateway::start_with(&Kept::embedded(), &authority(&peer), &[("ROLLCALL_PROBE_EVERY", "1s")]);
    let oauth = agreed(&mut peer).await;
    let account = gateway.link("scim", "oauth2", context(&peer, &oauth)).await;
    peer.order(&json!({"revoke": true}));
    assert_eq!(users(&gateway, &account).await.status, 200, "the refresh token is good, and used now");
    end_grant(&mut peer, &oauth).await;
    until_events(&gateway, &account, 30, &["created", "active", "authentication_error"]).await;
}
