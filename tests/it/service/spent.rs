//! A change of an account that costs what nobody gives twice: a refresh token that a caller brings, or one that was used and of
//! which nobody knows what came, or a customer's consent.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use rollcall::{
    model::Account,
    service::{
        Accounts, Opened, Run,
        link::{Attempt, Filled, NewLink, View},
    },
    store::{
        Batch, Expect, Key, Store, Write,
        repo::{TokenIntent, account_slot},
    },
    upstream::Upstream,
    vault::Vault,
};

use super::{
    relink::{Meanwhile, USERS, count, granted, granting, wanted},
    *,
};
use crate::support::stores::{Between, Through};

const TOKENS: &str = r#"{"access_token": "one", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#;

/// A vendor that takes its time and gives tokens once.
fn slow() -> Replay {
    let given = AtomicUsize::new(0);
    Replay::start(move |seen| match seen.path.as_str() {
        "/token" => {
            let number = given.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(500));
            if number == 0 { Reply::json(200, TOKENS) } else { Reply::json(400, r#"{"error": "invalid_grant"}"#) }
        }
        path if path.ends_with("/Users") => Reply::json(200, USERS),
        _ => Reply::json(404, "{}"),
    })
}

async fn inside_before(vendor: &Replay) -> (TempDir, Arc<ManualClock>, Core) {
    inside_of(format!("127.0.0.1:{}", vendor.port)).await
}

/// An account with tokens of before.
async fn linked(core: &Core, vendor: &Replay, labels: Value) -> Account {
    let tokens = json!({"access_token": "zero", "refresh_token": "first", "expires_in": 3600});
    let mut context = granted(vendor, tokens);
    context.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
    core.services.accounts.import(core.environment, wanted(AccountId::generate(), "oauth2", context)).await.unwrap().0
}

fn to(context: Value) -> ChangeAccount {
    ChangeAccount { context: context.as_object().cloned(), ..ChangeAccount::default() }
}

fn bringing(refresh: &str) -> Value {
    json!({"oauth": {"token": {"refresh_token": refresh}}})
}

/// The access token that calls are made with.
async fn in_use(core: &Core, account: &Account) -> String {
    core.services.accounts.reopen();
    let linked = core.services.accounts.open(core.environment, &account.id.to_string()).await.unwrap();
    linked.access.secrets["access_token"].expose().to_owned()
}

fn code<T>(outcome: &Result<T, Error>) -> Option<Code> {
    outcome.as_ref().err().map(Error::code)
}

#[tokio::test]
async fn of_changes_that_bring_one_refresh_token_one_shows_it() {
    let vendor = slow();
    let (_folder, _clock, core) = inside_before(&vendor).await;
    let account = linked(&core, &vendor, json!({})).await;
    let id = account.id.to_string();
    let changes = (0..3).map(|_| core.services.accounts.change(core.environment, &id, to(bringing("brought"))));
    let outcomes = join_all(changes).await;
    assert_eq!(count(&vendor, "/token"), 1);
    let mut codes: Vec<_> = outcomes.iter().map(code).collect();
    codes.sort_by_key(Option::is_some);
    assert_eq!(codes, [None, Some(Code::Conflict), Some(Code::Conflict)]);
    let kept = core.services.accounts.get(core.environment, &id).await.unwrap();
    assert_eq!((kept.generation, kept.status), (account.generation + 1, AccountStatus::Active));
    assert_eq!(in_use(&core, &account).await, "one");
}

/// What a caller sends, for an account at this vendor.
type Context = fn(&Replay) -> Value;

/// A caller sends the refresh token that it linked the account by, while the account's own renewal shows it to the vendor.
#[tokio::test]
async fn a_change_and_a_renewal_do_not_show_the_same_refresh_token() {
    let moved: Context = |vendor| {
        let mut context = bringing("first");
        context["base_url"] = json!(format!("http://127.0.0.1:{}/other", vendor.port));
        context["client_secret"] = json!("synthetic-secret");
        context
    };
    let with_access: Context = |_| json!({"oauth": {"token": {"access_token": "zero", "refresh_token": "first"}}});
    // What the renewal brought, which the caller does not know, goes to no other address.
    let cases: [(Context, Option<Code>); 3] = [(|_| bringing("first"), None), (with_access, None), (moved, Some(Code::Conflict))];
    for (context, refused) in cases {
        let vendor = slow();
        let (_folder, clock, core) = inside_before(&vendor).await;
        let account = linked(&core, &vendor, json!({})).await;
        let (id, accounts, context) = (account.id.to_string(), &core.services.accounts, context(&vendor));
        clock.advance(Duration::from_secs(3601));
        let change = async {
            while count(&vendor, "/token") == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            accounts.change(core.environment, &id, to(context.clone())).await
        };
        let (renewed, changed) = tokio::join!(accounts.refresh_credentials(core.environment, &id), change);
        assert_eq!((code(&renewed), code(&changed)), (None, refused), "{context}");
        assert_eq!((count(&vendor, "/token"), in_use(&core, &account).await), (1, "one".to_owned()), "{context}");
    }
}

/// It is kept before the vendor is asked what it shows, so that a refusal of the change does not cost it.
#[tokio::test]
async fn the_accounts_own_refresh_token_that_is_brought_is_renewed_as_its_own() {
    let (refuses, given) = (Arc::new(AtomicBool::new(true)), AtomicUsize::new(0));
    let now = refuses.clone();
    let vendor = Replay::start(move |seen| match seen.path.as_str() {
        "/token" if given.fetch_add(1, Ordering::SeqCst) == 0 => Reply::json(200, TOKENS),
        "/token" => Reply::json(400, r#"{"error": "invalid_grant"}"#),
        _ if seen.header("authorization") == Some("Bearer one") && now.load(Ordering::SeqCst) => Reply::json(403, "{}"),
        path if path.ends_with("/Users") => Reply::json(200, USERS),
        _ => Reply::json(404, "{}"),
    });
    let (_folder, _clock, core) = inside_before(&vendor).await;
    let account = linked(&core, &vendor, json!({})).await;
    let (id, accounts) = (account.id.to_string(), &core.services.accounts);
    let changed = accounts.change(core.environment, &id, to(bringing("first"))).await;
    assert_eq!((code(&changed), in_use(&core, &account).await), (Some(Code::CredentialRefused), "one".to_owned()));
    refuses.store(false, Ordering::SeqCst);
    accounts.change(core.environment, &id, to(json!({"client_secret": "another"}))).await.unwrap();
    assert_eq!((count(&vendor, "/token"), in_use(&core, &account).await), (1, "one".to_owned()));
}

/// The right to the account's tokens may end while the vendor is asked: then another node renews by the same refresh token, and
/// what it got must not be written over.
#[tokio::test]
async fn the_accounts_own_refresh_token_takes_no_newer_ones_place() {
    let (at_vendor, is_at_vendor) = std::sync::mpsc::channel::<()>();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let waits = std::sync::Mutex::new((at_vendor, goes_on));
    let vendor = Replay::start(move |seen| match seen.path.as_str() {
        path if path.ends_with("/Users") => {
            if seen.header("authorization") == Some("Bearer brought") {
                let (at_vendor, goes_on) = &*waits.lock().unwrap();
                at_vendor.send(()).unwrap();
                goes_on.recv().unwrap();
            }
            Reply::json(200, USERS)
        }
        _ => Reply::json(404, "{}"),
    });
    let (_folder, _clock, core) = inside_before(&vendor).await;
    let account = linked(&core, &vendor, json!({})).await;
    let (id, accounts) = (account.id.to_string(), &core.services.accounts);
    let tokens = json!({"oauth": {"token": {"access_token": "brought", "refresh_token": "first", "expires_in": 3600}}});
    let meanwhile = async {
        tokio::task::spawn_blocking(move || is_at_vendor.recv().unwrap()).await.unwrap();
        let (store, slot) = (&core.services.store, account_slot(account.id));
        let newer = store.get(&Key { slot: slot.clone(), name: "token".to_owned() }).await.unwrap().unwrap().value;
        let put = Write::Put { name: "token".to_owned(), value: newer, ttl: None, expect: Expect::Any };
        store.commit(Batch { slot, fence: None, writes: vec![put] }).await.unwrap();
        go_on.send(()).unwrap();
    };
    let (changed, ()) = tokio::join!(accounts.change(core.environment, &id, to(tokens.clone())), meanwhile);
    assert_eq!((code(&changed), in_use(&core, &account).await), (Some(Code::Conflict), "zero".to_owned()));
    drop(go_on);
    let kept = accounts.get(core.environment, &id).await.unwrap();
    assert_eq!((kept.generation, kept.status), (account.generation, AccountStatus::Active));
}

/// The node that changed the account was lost before it answered; the caller sends the same write again.
#[tokio::test]
async fn a_change_that_is_sent_again_finds_what_it_did() {
    let vendor = slow();
    let (_folder, clock, core) = inside_before(&vendor).await;
    let account = linked(&core, &vendor, json!({})).await;
    let (id, accounts) = (account.id.to_string(), &core.services.accounts);
    let in_run = |run: Run| ChangeAccount { run: Some(run), ..to(bringing("brought")) };
    let first = Run::only();
    let (changed, _) = accounts.change(core.environment, &id, in_run(first)).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let label = ChangeAccount { tenant_id: Some("renamed".to_owned()), ..ChangeAccount::default() };
    accounts.change(core.environment, &id, label).await.unwrap();
    let again = Run { again: true, unsure: true, ..first };
    let (found, _) = accounts.change(core.environment, &id, in_run(again)).await.unwrap();
    assert_eq!((found.generation, found.tenant_id.as_str()), (changed.generation, "renamed"));
    let (found, _) =
        accounts.change_secrets(core.environment, &id, bringing("brought").as_object().unwrap().clone(), again).await.unwrap();
    assert_eq!((found.generation, count(&vendor, "/token")), (changed.generation, 1));
    // Another write of before, whose outcome is not there, is no reason to say that it was done.
    let other = Run { again: true, unsure: true, ..Run::only() };
    let refused = accounts.change(core.environment, &id, in_run(other)).await;
    assert_eq!((code(&refused), count(&vendor, "/token")), (Some(Code::CredentialRefused), 2));
    let kept = accounts.get(core.environment, &id).await.unwrap();
    assert_eq!((kept.generation, kept.status), (changed.generation, AccountStatus::Active), "and ends nothing");
    assert_eq!(in_use(&core, &account).await, "one");
}

/// A vendor that gives tokens to whoever shows this client's secret.
fn wants_client(basic: &'static str, refusal: &'static str) -> Replay {
    Replay::start(move |seen| match seen.path.as_str() {
        "/token" if seen.header("authorization") == Some(basic) => Reply::json(200, TOKENS),
        "/token" => Reply::json(400, refusal),
        path if path.ends_with("/Users") => Reply::json(200, USERS),
        _ => Reply::json(404, "{}"),
    })
}

/// What a node that died in the midst of a renewal leaves.
async fn left_in_the_midst(core: &Core, account: &Account, recovering: bool) {
    let (records, id) = (repo::Accounts::new(core.services.store.clone()), account.id);
    let hold = records.hold_token(id).await.unwrap().unwrap();
    let (version, record) = (records.token(id).await.unwrap().unwrap().1, records.version_of(id).await.unwrap().unwrap());
    let intent = TokenIntent { version, fence: hold.fence, begun_at: account.created_at, recovering, unanswered: false };
    records.put_intent(id, &intent, None, record, &hold).await.unwrap();
    records.release_token(&hold).await.unwrap();
}

/// `me:mended`.
const MENDED: &str = "Basic bWU6bWVuZGVk";

/// A client's secret that became wrong can be mended although a node died in the midst of a renewal.
#[tokio::test]
async fn a_renewal_of_which_nobody_knows_the_end_goes_on_with_the_changed_fields() {
    let vendor = wants_client(MENDED, r#"{"error": "invalid_client"}"#);
    let (_folder, _clock, core) = inside_before(&vendor).await;
    let account = linked(&core, &vendor, json!({})).await;
    left_in_the_midst(&core, &account, false).await;
    let (id, accounts) = (account.id.to_string(), &core.services.accounts);
    for (secret, refused) in [("wrong-too", Some(Code::CredentialRefused)), ("mended", None)] {
        let changed = accounts.change(core.environment, &id, to(json!({"client_secret": secret}))).await;
        assert_eq!(code(&changed), refused, "{secret}");
    }
    let shown = vendor.seen().into_iter().filter(|seen| seen.path == "/token");
    let shown: Vec<bool> = shown.map(|seen| seen.header("authorization") == Some(MENDED)).collect();
    assert_eq!((shown, in_use(&core, &account).await), (vec![false, true], "one".to_owned()));
    let kept = accounts.get(core.environment, &id).await.unwrap();
    assert_eq!(kept.status, AccountStatus::Active);
}

/// Where two nodes died with it, or the vendor says so to the same client, the refresh token is over; where the client is another
/// one, it may be that.
#[tokio::test]
async fn a_change_says_that_a_refresh_token_is_over_once_it_is_known() {
    let secret = || json!({"client_secret": "mended"});
    for (recovering, change, says, shown) in [
        (true, secret(), Code::ReauthRequired, 0),
        (false, secret(), Code::ReauthRequired, 1),
        (false, json!({"client_id": "another"}), Code::CredentialRefused, 1),
    ] {
        let vendor = wants_client("nobody", r#"{"error": "invalid_grant"}"#);
        let (_folder, _clock, core) = inside_before(&vendor).await;
        let account = linked(&core, &vendor, json!({})).await;
        left_in_the_midst(&core, &account, recovering).await;
        let (id, accounts) = (account.id.to_string(), &core.services.accounts);
        let changed = accounts.change(core.environment, &id, to(change.clone())).await;
        assert_eq!((code(&changed), count(&vendor, "/token")), (Some(says), shown), "{recovering}, {change}");
        let kept = accounts.get(core.environment, &id).await.unwrap();
        let ended = says == Code::ReauthRequired;
        let status = if ended { AccountStatus::NeedsReauth } else { AccountStatus::Active };
        let is_said = kept.last_error.is_some_and(|why| why.starts_with("refresh_outcome_unknown"));
        assert_eq!((kept.status, is_said, kept.generation), (status, ended, account.generation), "{recovering}, {change}");
    }
}

/// A store that does not confirm the next records of accounts that are written, and takes them all the same or does not.
struct Unsure {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
    takes: bool,
}

#[async_trait]
impl Between for Unsure {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        let is_record = batch.writes.iter().any(|write| matches!(write, Write::Put { name, .. } if name == "account"));
        let less = |left: usize| left.checked_sub(1);
        if !is_record || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            return self.inner.commit(batch).await;
        }
        if self.takes {
            self.inner.commit(batch).await?;
        }
        Err(StoreError::Unavailable("it does not answer just now".to_owned()))
    }
}

/// The accounts of a node that reaches the store through that.
fn accounts_over(core: &Core, clock: &Arc<ManualClock>, store: Arc<dyn Store>) -> Arc<Accounts> {
    let (vault, guard) = (Arc::new(Vault::new(core.ring.clone())), core.guard.clone());
    let upstream = Arc::new(Upstream::new(guard.clone(), store.clone()));
    let opened = Opened::new(core.tasks.clone(), core.services.audit.clone());
    Accounts::new(repo::Accounts::new(store), core.services.installs.clone(), vault, upstream, guard, clock.clone(), opened)
}

#[tokio::test]
async fn what_a_brought_refresh_token_gave_outlives_an_outage_of_the_store() {
    for (changes, takes) in [(false, false), (false, true), (true, false), (true, true)] {
        let what = format!("changes: {changes}, takes: {takes}");
        let vendor = slow();
        let (_folder, clock, core) = inside_before(&vendor).await;
        let unsure = Unsure { inner: core.services.store.clone(), left: AtomicUsize::new(0), takes };
        let store = Arc::new(Through(unsure));
        let accounts = accounts_over(&core, &clock, store.clone());
        let out = || store.left.store(if takes { 1 } else { 5 }, Ordering::SeqCst);
        let account = if changes {
            let before = linked(&core, &vendor, json!({"plan": "gold"})).await;
            out();
            let mut context = bringing("brought");
            context["plan"] = json!("silver");
            accounts.change(core.environment, &before.id.to_string(), to(context)).await
        } else {
            let mut context = granted(&vendor, json!({"refresh_token": "brought"}));
            context["plan"] = json!("silver");
            out();
            accounts.import(core.environment, wanted(AccountId::generate(), "oauth2", context)).await
        };
        let (account, _) = account.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(store.left.load(Ordering::SeqCst), 0, "{what}");
        assert_eq!((count(&vendor, "/token"), in_use(&core, &account).await), (1, "one".to_owned()), "{what}");
        let kept = core.services.accounts.get(core.environment, &account.id.to_string()).await.unwrap();
        assert_eq!((kept.status, &kept.context["plan"]), (AccountStatus::Active, &json!("silver")), "{what}");
        assert_eq!(account, kept, "{what}: the caller is shown what is kept");
        let events = if changes { vec!["created", "active", "updated", "active"] } else { vec!["created", "active"] };
        assert_eq!(told(&core, account.id).await, events, "{what}");
    }
}

/// A credential that costs nothing is not held: its caller sends it again.
#[tokio::test]
async fn what_can_be_had_again_is_not_held_while_the_store_is_away() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let unsure = Unsure { inner: core.services.store.clone(), left: AtomicUsize::new(1), takes: false };
    let accounts = accounts_over(&core, &clock, Arc::new(Through(unsure)));
    let new = || wanted(AccountId::generate(), "bearer", vendor.context());
    assert_eq!(code(&accounts.import(core.environment, new()).await), Some(Code::StoreUnavailable));
    assert_eq!(code(&accounts.import(core.environment, new()).await), None);
}

/// Its owner changes an account's labels while a customer agrees anew at the vendor.
#[tokio::test]
async fn a_consent_is_laid_over_the_context_that_the_account_has_when_it_comes_back() {
    for (keeps, expected) in [
        (None, json!({"plan": "platinum", "note": 2, "seen": true})),
        (Some(true), json!({"plan": "platinum", "note": 2, "seen": true})),
        (Some(false), json!({"plan": "platinum"})),
    ] {
        let vendor = granting(&Meanwhile::default(), true);
        let (_folder, _clock, core) = inside_before(&vendor).await;
        let account = linked(&core, &vendor, json!({"plan": "gold", "old": true, "note": 1})).await;
        let (id, links) = (account.id.to_string(), &core.services.links);
        core.services.authorizations.reached_at("http://127.0.0.1:9999");
        let new = NewLink {
            integrated_account_id: Some(id.clone()),
            context: json!({"plan": "platinum"}).as_object().unwrap().clone(),
            persist_previous_context: keeps,
            ..NewLink::default()
        };
        let made = links.create(core.environment, new).await.unwrap();
        let (_, session) = links.open(made.text.expose(), View::default()).await.unwrap_or_else(|error| panic!("{error}"));
        let fields: BTreeMap<String, String> = granted(&vendor, json!({}))
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        let filled = Filled { integration: "scim".to_owned(), method: "oauth2".to_owned(), fields, apart: false };
        let Ok(Attempt::Elsewhere(begun)) = links.submit(session, filled).await else { panic!("not sent there") };
        let relabelled = to(json!({"plan": "silver", "old": null, "note": 2, "seen": true}));
        core.services.accounts.change(core.environment, &id, relabelled).await.unwrap();
        let state = begun.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = vec![("state".to_owned(), state), ("code".to_owned(), "the-code".to_owned())];
        let back = links.finish("scim", query, Some(begun.binding.expose())).await.unwrap_or_else(|error| panic!("{error}"));
        back.outcome.unwrap_or_else(|error| panic!("{error}"));
        let kept = core.services.accounts.get(core.environment, &id).await.unwrap();
        assert_eq!((kept.generation, Value::Object(kept.context)), (account.generation + 1, expected), "{keeps:?}");
        assert_eq!(kept.fields["client_id"], "me");
    }
}
