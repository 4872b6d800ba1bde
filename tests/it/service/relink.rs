//! An account that is linked anew: what is noted of it meanwhile, and what a repeated run of an import costs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rollcall::{
    model::{Account, AccountId, AccountStatus, Forbidden},
    store::repo::Accounts,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::*;

const USERS: &str = r#"{"totalResults": 1, "Resources": [{"id": "1", "userName": "u", "active": true}]}"#;

fn wanted(id: AccountId, method: &str, context: Value) -> NewAccount {
    NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: method.to_owned(),
        context: context.as_object().unwrap().clone(),
        is_sandbox: false,
        id: Some(id),
        must_be_new: false,
        grant: None,
    }
}

/// What a call notes while the vendor verifies the new credential.
type Noting = Arc<Mutex<Option<(Accounts, AccountId)>>>;

#[tokio::test]
async fn a_link_over_an_account_is_not_lost_to_what_calls_note_meanwhile() {
    let (noting, handle) = (Noting::default(), Handle::current());
    let now = noting.clone();
    let vendor = Replay::start(move |seen| {
        if let Some((records, id)) = now.lock().unwrap().take() {
            handle.block_on(async {
                let (before, version) = records.get(id).await.unwrap().unwrap();
                let forbidden = Forbidden {
                    resource: "users".to_owned(),
                    method: "list".to_owned(),
                    missing_scopes: Vec::new(),
                    occurred_at: before.updated_at,
                };
                let status = AccountStatus::NeedsReauth;
                let noted = Account { last_forbidden: Some(forbidden), status, ..before };
                records.update(&noted, version, &[]).await.unwrap();
            });
        }
        if seen.path.ends_with("/Users") { Reply::json(200, USERS) } else { Reply::json(404, "{}") }
    });
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, id) = (&core.services.accounts, AccountId::generate());
    let context = json!({"base_url": format!("http://127.0.0.1:{}", vendor.port), "token": "synthetic-token"});
    let import = async || accounts.import(core.environment, wanted(id, "bearer", context.clone())).await;
    let (first, _) = import().await.unwrap();
    *noting.lock().unwrap() = Some((Accounts::new(core.services.store.clone()), id));
    let (second, _) = import().await.unwrap();
    assert!(noting.lock().unwrap().is_none(), "nothing was noted meanwhile");
    let kept = accounts.get(core.environment, &id.to_string()).await.unwrap();
    assert_eq!((kept.generation, second.generation), (first.generation + 1, first.generation + 1));
    assert_eq!((kept.status, kept.last_forbidden), (AccountStatus::Active, None), "what was noted was of the old credential");
}

#[tokio::test]
async fn a_repeated_import_does_not_show_a_refresh_token_twice() {
    let shown = Arc::new(AtomicUsize::new(0));
    let count = shown.clone();
    let vendor = Replay::start(move |seen| match seen.path.as_str() {
        "/token" => match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::json(
                200,
                r#"{"access_token": "second", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#,
            ),
            _ => Reply::json(400, r#"{"error": "invalid_grant"}"#),
        },
        path if path.ends_with("/Users") => Reply::json(200, USERS),
        _ => Reply::json(404, "{}"),
    });
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, id) = (&core.services.accounts, AccountId::generate());
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", vendor.port);
    let context = json!({"base_url": at("/scim"), "authorize_url": at("/auth"), "token_url": at("/token"), "client_id": "me",
        "client_secret": "synthetic-secret", "oauth": {"token": {"refresh_token": "first"}}});
    let import = async || accounts.import(core.environment, wanted(id, "oauth2", context.clone())).await;
    let (linked, _) = import().await.unwrap();
    // The same run once more, as after a node that ended before it answered.
    let (again, _) = import().await.unwrap();
    assert_eq!((again.id, again.generation, again.status), (linked.id, linked.generation, AccountStatus::Active));
    assert_eq!(shown.load(Ordering::SeqCst), 1, "the refresh token is used once");
}

/// Record, data key and token of an account are read one after the other, while a new link puts others in their place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_in_the_midst_of_a_new_link_reads_again() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (accounts, id) = (core.services.accounts.clone(), AccountId::generate());
    let context = json!({"base_url": vendor.base(), "token": SECRET});
    let import = async || accounts.import(core.environment, wanted(id, "bearer", context.clone())).await.map(|_| ());
    import().await.unwrap();
    let over = Arc::new(AtomicUsize::new(0));
    let (ended, reader, environment) = (over.clone(), accounts.clone(), core.environment);
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while ended.load(Ordering::SeqCst) == 0 {
            reader.reopen();
            match reader.open(environment, &id.to_string()).await {
                Ok(_) => read += 1,
                Err(error) => panic!("after {read} good reads: {error}"),
            }
        }
        read
    });
    for _ in 0..60 {
        import().await.unwrap();
    }
    over.store(1, Ordering::SeqCst);
    assert!(reading.await.unwrap() > 60);
}
