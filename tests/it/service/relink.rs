//! An account that is linked anew: what is noted of it meanwhile, and what a repeated run of an import costs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use jiff::Timestamp;
use rollcall::{
    model::{Account, AccountId, AccountStatus, Forbidden},
    service::AuthorizeAsk,
    store::repo::Accounts,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::*;

pub(super) const USERS: &str = r#"{"totalResults": 1, "Resources": [{"id": "1", "userName": "u", "active": true}]}"#;

pub(super) fn wanted(id: AccountId, method: &str, context: Value) -> NewAccount {
    NewAccount { id: Some(id), ..new_account(method, context) }
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

/// A run after one that failed in passing finds an account under the caller's id: somebody else's, or one from long before.
#[tokio::test]
async fn a_run_that_begins_again_takes_over_only_what_a_run_before_it_made() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (accounts, id) = (&core.services.accounts, AccountId::generate());
    let context = json!({"base_url": vendor.base(), "token": SECRET});
    let (made, _) = accounts.import(core.environment, wanted(id, "bearer", context.clone())).await.unwrap();
    let asked = vendor.asked();
    let again = |begun: Timestamp, tenant_id: &str, method: &str, context: &Value| NewAccount {
        if_there: IfThere::StaysIfNotOf(begun),
        tenant_id: tenant_id.to_owned(),
        ..wanted(id, method, context.clone())
    };
    let url = |path: &str| format!("http://{}{path}", vendor.authority());
    let grant = json!({"base_url": vendor.base(), "authorize_url": url("/auth"), "token_url": url("/token"), "client_id": "me",
        "client_secret": "synthetic-secret", "oauth": {"token": {"refresh_token": "first"}}});
    clock.advance(Duration::from_secs(1));
    for (what, new) in [
        ("a run that began after it was made", again(clock.now(), "acme", "bearer", &context)),
        ("another customer's", again(made.created_at, "other", "bearer", &context)),
        ("another way to link, which spends a refresh token", again(made.created_at, "acme", "oauth2", &grant)),
    ] {
        let error = accounts.import(core.environment, new).await.expect_err(what);
        assert_eq!((error.code(), error.field_name()), (Code::IdTaken, Some("id")), "{what}: {error}");
        assert_eq!(accounts.get(core.environment, &id.to_string()).await.unwrap(), made, "{what}");
    }
    assert_eq!(vendor.asked(), asked, "no vendor was asked");
    let own = again(made.created_at, "acme", "bearer", &context);
    let (anew, _) = accounts.import(core.environment, own).await.unwrap();
    assert_eq!((anew.id, anew.generation), (id, made.generation + 1));
}

/// What is done to an account, once, while its vendor is asked.
pub(super) type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A vendor with a token endpoint that gives each refresh token and code once. Meanwhile something is done before it answers a
/// question about users, or after it has given tokens.
pub(super) fn granting(meanwhile: &Meanwhile, users_wait: bool) -> Replay {
    let (now, given) = (meanwhile.clone(), AtomicUsize::new(0));
    Replay::start(move |seen| {
        let is_users = seen.path.ends_with("/Users");
        let reply = match seen.path.as_str() {
            "/revoke" => Reply::json(200, "{}"),
            "/token" => match given.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::json(
                    200,
                    r#"{"access_token": "one", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#,
                ),
                _ => Reply::json(400, r#"{"error": "invalid_grant"}"#),
            },
            _ if is_users => Reply::json(200, USERS),
            _ => Reply::json(404, "{}"),
        };
        let is_now = if users_wait { is_users } else { seen.path == "/token" };
        if let Some(deed) = is_now.then(|| now.lock().unwrap().take()).flatten() {
            deed();
        }
        reply
    })
}

pub(super) fn granted(vendor: &Replay, tokens: Value) -> Value {
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", vendor.port);
    json!({"base_url": at("/scim"), "authorize_url": at("/auth"), "token_url": at("/token"), "revoke_url": at("/revoke"),
        "client_id": "me", "client_secret": "synthetic-secret", "oauth": {"token": tokens}})
}

pub(super) fn count(vendor: &Replay, path: &str) -> usize {
    vendor.seen().iter().filter(|seen| seen.path == path).count()
}

/// Changes the record behind everybody's back.
fn altering(core: &Core, id: AccountId, alter: impl FnOnce(&mut Account) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let (records, handle) = (Accounts::new(core.services.store.clone()), Handle::current());
    Box::new(move || {
        handle.block_on(async {
            let (mut account, version) = records.get(id).await.unwrap().unwrap();
            alter(&mut account);
            records.update(&account, version, &[]).await.unwrap();
        });
    })
}

/// A credential that cost a refresh token is kept with the label, the switch and the context that its owner sets meanwhile.
#[tokio::test]
async fn a_new_credential_is_laid_over_the_labels_that_are_changed_meanwhile() {
    let meanwhile = Meanwhile::default();
    let vendor = granting(&meanwhile, true);
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, id) = (&core.services.accounts, AccountId::generate());
    let mut context = granted(&vendor, json!({"access_token": "zero", "expires_in": 3600}));
    context["plan"] = json!("gold");
    context["old"] = json!(true);
    let (first, _) = accounts.import(core.environment, wanted(id, "oauth2", context)).await.unwrap();
    *meanwhile.lock().unwrap() = Some(altering(&core, id, |account| {
        account.tenant_id = "renamed".to_owned();
        account.is_enabled = false;
        account.context.insert("note".to_owned(), json!(1));
        account.context.insert("plan".to_owned(), json!("silver"));
    }));
    let context = json!({"plan": "platinum", "old": null, "oauth": {"token": {"refresh_token": "first"}}});
    let change = ChangeAccount { context: context.as_object().cloned(), ..ChangeAccount::default() };
    let (changed, _) = accounts.change(core.environment, &id.to_string(), change).await.unwrap();
    assert!(meanwhile.lock().unwrap().is_none(), "nothing was changed meanwhile");
    let kept = accounts.get(core.environment, &id.to_string()).await.unwrap();
    assert_eq!((kept.generation, kept.tenant_id.as_str(), kept.is_enabled), (first.generation + 1, "renamed", false));
    assert_eq!(Value::Object(kept.context.clone()), json!({"plan": "platinum", "note": 1}));
    assert_eq!(changed, kept, "the caller is shown what is kept");
    assert_eq!(count(&vendor, "/token"), 1);
    let enabled = ChangeAccount { is_enabled: Some(true), ..ChangeAccount::default() };
    accounts.change(core.environment, &id.to_string(), enabled).await.unwrap();
    let linked = accounts.open(core.environment, &id.to_string()).await.unwrap();
    assert_eq!(linked.access.secrets["access_token"].expose(), "one", "what the refresh token brought");
}

/// The customer agrees once more, and somebody else links the account anew before that is stored.
#[tokio::test]
async fn what_was_agreed_to_and_is_not_kept_is_given_back_unless_its_account_works() {
    for works in [false, true] {
        what_is_not_kept(works).await;
    }
}

async fn what_is_not_kept(works: bool) {
    let meanwhile = Meanwhile::default();
    let vendor = granting(&meanwhile, true);
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, id) = (&core.services.accounts, AccountId::generate());
    let context = granted(&vendor, json!({"access_token": "zero", "expires_in": 3600}));
    accounts.import(core.environment, wanted(id, "oauth2", context.clone())).await.unwrap();
    let mut fields = context;
    fields.as_object_mut().unwrap().remove("oauth");
    let new = wanted(id, "oauth2", fields);
    let ask = AuthorizeAsk { environment: core.environment, link: "the-link".to_owned(), apart: false, new, scopes: None };
    let authorizations = &core.services.authorizations;
    let begun = authorizations.begin(ask).await.unwrap();
    let state = begun.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let query = vec![("state".to_owned(), state), ("code".to_owned(), "the-code".to_owned())];
    let came_back = authorizations.take_back("scim", query, Some(begun.binding.expose())).await.unwrap();
    *meanwhile.lock().unwrap() = Some(altering(&core, id, move |account| {
        account.generation += 1;
        account.status = if works { AccountStatus::Active } else { AccountStatus::NeedsReauth };
    }));
    let linked =
        authorizations.link(came_back, (true, Box::pin(async { Ok(()) }))).await.map(|_| ()).map_err(|error| error.code());
    assert_eq!((linked, count(&vendor, "/token")), (Err(Code::Conflict), 1));
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    // Many vendors would end with it what the account works with.
    assert_eq!(count(&vendor, "/revoke"), usize::from(!works));
}

/// A vendor that takes a refresh token and is busy then: what came of it is kept, also where the vendor stays busy.
#[tokio::test]
async fn what_a_brought_refresh_token_gave_outlives_a_busy_vendor() {
    for busy in [2, usize::MAX] {
        let (asked, given) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (looks, tokens) = (asked.clone(), given.clone());
        let vendor = Replay::start(move |seen| match seen.path.as_str() {
            "/token" if tokens.fetch_add(1, Ordering::SeqCst) == 0 => Reply::json(
                200,
                r#"{"access_token": "one", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#,
            ),
            "/token" => Reply::json(400, r#"{"error": "invalid_grant"}"#),
            path if path.ends_with("/Users") => match looks.fetch_add(1, Ordering::SeqCst) < busy {
                true => Reply::json(503, "{}"),
                false => Reply::json(200, USERS),
            },
            _ => Reply::json(404, "{}"),
        });
        let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
        let (accounts, id) = (&core.services.accounts, AccountId::generate());
        let context = granted(&vendor, json!({"refresh_token": "first"}));
        let (account, warnings) = accounts.import(core.environment, wanted(id, "oauth2", context)).await.unwrap();
        let warned = warnings.iter().any(|warning| warning.code == "not_tried");
        assert_eq!((account.status, warned), (AccountStatus::Active, busy == usize::MAX), "{warnings:?}");
        assert_eq!(given.load(Ordering::SeqCst), 1, "the refresh token is shown once");
        assert!(asked.load(Ordering::SeqCst) > 2, "the vendor was asked again");
    }
}

/// Callers that leave while the token endpoint is asked: what comes of the refresh token is kept all the same.
#[tokio::test]
async fn a_refresh_token_is_not_lost_with_its_caller() {
    for changes in [false, true] {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let meanwhile = Meanwhile::default();
        let vendor = granting(&meanwhile, false);
        let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
        let (accounts, id) = (&core.services.accounts, AccountId::generate());
        if changes {
            let context = granted(&vendor, json!({"access_token": "zero", "expires_in": 3600}));
            accounts.import(core.environment, wanted(id, "oauth2", context)).await.unwrap();
        }
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        *meanwhile.lock().unwrap() = Some(Box::new(move || {
            asked.send(()).unwrap();
            told.recv().unwrap();
        }));
        let text = id.to_string();
        let spend = async {
            let context = granted(&vendor, json!({"refresh_token": "first"}));
            if !changes {
                return accounts.import(core.environment, wanted(id, "oauth2", context)).await.map(|_| ());
            }
            let context = json!({"oauth": context["oauth"]}).as_object().cloned();
            accounts.change(core.environment, &text, ChangeAccount { context, ..ChangeAccount::default() }).await.map(|_| ())
        };
        tokio::select! {
            _ = spend => panic!("it was done at once"),
            asked = is_asked => asked.unwrap(),
        }
        tell.send(()).unwrap();
        assert!(core.tasks.wait(Duration::from_secs(10)).await);
        let linked = accounts.open(core.environment, &text).await.unwrap_or_else(|error| panic!("{changes}: {error}"));
        assert_eq!(linked.access.secrets["access_token"].expose(), "one", "{changes}");
        assert_eq!(count(&vendor, "/token"), 1);
    }
}
