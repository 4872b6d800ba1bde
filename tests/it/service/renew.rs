//! Refresh tokens and the store: what came to nothing is noted although the store fails just then, what a later release wrote
//! meanwhile ends and loses nothing, and nobody comes back whose grant has ended.

use std::{sync::Mutex, time::Instant};

use rollcall::{model::EnvironmentId, store::repo::Accounts as Records};
use tokio::runtime::Handle;

use super::{
    refusing::{Cut, How},
    *,
};

const USERS: &str = r#"{"totalResults": 1, "Resources": [{"id": "1", "userName": "u", "active": true}]}"#;
const TOKENS: &str = r#"{"access_token": "one", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#;
const REFUSED: (u16, &str) = (401, r#"{"error": "invalid_client"}"#);
const OVER: (u16, &str) = (400, r#"{"error": "invalid_grant"}"#);

type Deed = Box<dyn FnOnce() + Send>;

/// What the token endpoint answers instead of tokens, and what is done, once, while it or the list of users is asked.
#[derive(Clone, Default)]
struct Script {
    says: Arc<Mutex<Option<(u16, &'static str)>>>,
    at_token: Arc<Mutex<Option<Deed>>>,
    at_users: Arc<Mutex<Option<Deed>>>,
}

impl Script {
    fn start(&self) -> Replay {
        let script = self.clone();
        Replay::start(move |seen| {
            let is_token = seen.path == "/token";
            let deed = if is_token { &script.at_token } else { &script.at_users };
            if is_token || seen.path.ends_with("/Users") {
                let deed = deed.lock().unwrap().take();
                deed.into_iter().for_each(|deed| deed());
            }
            match (is_token, *script.says.lock().unwrap()) {
                (true, Some((status, body))) => Reply::json(status, body),
                (true, None) => Reply::json(200, TOKENS),
                _ if seen.path.ends_with("/Users") => Reply::json(200, USERS),
                _ => Reply::json(404, "{}"),
            }
        })
    }

    fn says(&self, answer: Option<(u16, &'static str)>) {
        *self.says.lock().unwrap() = answer;
    }

    fn at_token(&self, deed: impl FnOnce() + Send + 'static) {
        *self.at_token.lock().unwrap() = Some(Box::new(deed));
    }
}

fn asked(vendor: &Replay) -> usize {
    vendor.seen().iter().filter(|seen| seen.path == "/token").count()
}

/// A gateway with an account of a grant, and another node over a store that can be cut off.
struct Stand {
    _folder: TempDir,
    clock: Arc<ManualClock>,
    core: Core,
    vendor: Replay,
    cut: Arc<Cut>,
    node: Arc<Accounts>,
    id: AccountId,
}

impl Stand {
    async fn new(script: &Script) -> Stand {
        let vendor = script.start();
        let (folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
        let at = |path: &str| format!("http://127.0.0.1:{}{path}", vendor.port);
        let context = json!({"base_url": at("/scim"), "authorize_url": at("/auth"), "token_url": at("/token"), "client_id": "me",
            "client_secret": "synthetic-secret",
            "oauth": {"token": {"access_token": "zero", "refresh_token": "first", "expires_in": 3600}}});
        let new = NewAccount { if_there: IfThere::Stays, ..new_account("oauth2", context) };
        let id = core.services.accounts.import(core.environment, new).await.unwrap().0.id;
        let (cut, store) = Cut::before(core.services.store.clone());
        let node = accounts_over(&core, store, &clock);
        Stand { _folder: folder, clock, core, vendor, cut, node, id }
    }

    fn environment(&self) -> EnvironmentId {
        self.core.environment
    }

    fn records(&self) -> Records {
        Records::new(self.core.services.store.clone())
    }

    /// The access token is over.
    fn end_access(&self) {
        self.clock.advance(DAY / 12);
    }

    /// A call through the node before whose store something stands.
    async fn call(&self) -> Result<(), Code> {
        let id = self.id.to_string();
        let opened = tokio::time::timeout(Duration::from_secs(20), self.node.open(self.environment(), &id)).await;
        opened.expect("in time").map(|_| ()).map_err(|error| error.code())
    }

    /// The access token that another node works with.
    async fn elsewhere(&self) -> Result<String, Code> {
        let opened = self.core.services.accounts.open(self.environment(), &self.id.to_string()).await;
        opened.map(|linked| linked.access.secrets["access_token"].expose().to_owned()).map_err(|error| error.code())
    }

    /// Whether there is a note of a try, and whether it says that the vendor gave no answer that settles it.
    async fn note(&self) -> Option<bool> {
        self.records().token_intent(self.id).await.unwrap().map(|(intent, _)| intent.unanswered)
    }

    async fn status(&self) -> AccountStatus {
        self.core.services.accounts.get(self.environment(), &self.id.to_string()).await.unwrap().status
    }

    /// Everything that goes on beside the calls has ended.
    async fn rest(&self) {
        assert!(self.core.tasks.wait(Duration::from_secs(15)).await, "something goes on for ever");
    }
}

#[tokio::test]
async fn what_came_to_nothing_is_noted_once_the_store_is_back() {
    // What the vendor answers, and what is to be known of the try.
    for (answer, noted) in [((503, "{}"), Some(true)), (REFUSED, None)] {
        let script = Script::default();
        let stand = Stand::new(&script).await;
        stand.end_access();
        script.says(Some(answer));
        let cut = stand.cut.clone();
        script.at_token(move || cut.set(How::Away));
        let begun = Instant::now();
        let code = stand.call().await.unwrap_err();
        assert!(code != Code::StoreUnavailable && begun.elapsed() < Duration::from_secs(3), "{code:?} {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stand.note().await, Some(false), "the store was away");
        stand.cut.set(How::There);
        stand.rest().await;
        assert_eq!(stand.note().await, noted, "{answer:?}");
        script.says(None);
        assert_eq!((stand.elsewhere().await.as_deref(), asked(&stand.vendor)), (Ok("one"), 2), "{answer:?}");
    }
}

#[tokio::test]
async fn a_note_that_the_store_does_not_take_is_no_other_process_that_ended() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    stand.end_access();
    script.says(Some(REFUSED));
    stand.cut.set(How::Keeping);
    assert_eq!(stand.call().await, Err(Code::ReauthRequired));
    let id = stand.id.to_string();
    let again = stand.node.refresh_credentials(stand.environment(), &id).await.map_err(|error| error.code());
    assert_eq!((again, asked(&stand.vendor)), (Err(Code::StoreUnavailable), 1), "nobody knows better than this node");
    stand.cut.set(How::There);
    stand.rest().await;
    assert_eq!(stand.note().await, None);
}

#[tokio::test]
async fn a_note_that_was_not_confirmed_is_taken_back_once_the_store_is_back() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    stand.end_access();
    stand.cut.set(How::Unsure);
    let begun = Instant::now();
    assert_eq!(stand.call().await, Err(Code::StoreUnavailable));
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody waits for that: {:?}", begun.elapsed());
    assert_eq!(stand.note().await, Some(false), "it stands");
    tokio::time::sleep(Duration::from_millis(300)).await;
    stand.cut.set(How::There);
    stand.rest().await;
    assert_eq!((stand.note().await, asked(&stand.vendor)), (None, 0));
    assert_eq!((stand.elsewhere().await.as_deref(), asked(&stand.vendor)), (Ok("one"), 1));
}

/// The record as another release writes it just then, and as it was before.
async fn written_by_a_later_release(stand: &Stand, script: &Script) -> impl Future<Output = ()> {
    let (store, slot) = (stand.core.services.store.clone(), account_slot(stand.id));
    let key = Key { slot: slot.clone(), name: "account".to_owned() };
    let before = store.get(&key).await.unwrap().unwrap().value;
    let mut later: Value = serde_json::from_slice(&before).unwrap();
    later["status"] = json!("hibernating");
    let put = |value: Vec<u8>| Batch {
        slot: slot.clone(),
        fence: None,
        writes: vec![Write::Put { name: "account".into(), value: value.into(), ttl: None, expect: Expect::Any }],
    };
    let (later, before, handle, its_store) =
        (put(later.to_string().into()), put(before.into()), Handle::current(), store.clone());
    script.at_token(move || drop(handle.block_on(its_store.commit(later)).unwrap()));
    async move { drop(store.commit(before).await.unwrap()) }
}

#[tokio::test]
async fn a_record_of_a_later_release_costs_no_token_that_came_meanwhile() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    stand.end_access();
    let put_back = written_by_a_later_release(&stand, &script).await;
    let before = stand.records().token(stand.id).await.unwrap().unwrap().1;
    assert_eq!(stand.call().await, Err(Code::LaterRelease));
    assert_ne!(stand.records().token(stand.id).await.unwrap().unwrap().1, before, "the token is kept");
    assert_eq!(stand.note().await, None);
    put_back.await;
    assert_eq!((stand.elsewhere().await.as_deref(), asked(&stand.vendor)), (Ok("one"), 1));
}

#[tokio::test]
async fn a_record_of_a_later_release_is_not_written_over_by_the_end_of_its_grant() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    stand.end_access();
    script.says(Some(OVER));
    let put_back = written_by_a_later_release(&stand, &script).await;
    assert_eq!(stand.call().await, Err(Code::LaterRelease));
    assert_eq!(stand.note().await, None, "nothing is in doubt");
    put_back.await;
    assert_eq!(stand.status().await, AccountStatus::Active);
    assert_eq!((stand.elsewhere().await, asked(&stand.vendor)), (Err(Code::ReauthRequired), 2));
    assert_eq!(stand.status().await, AccountStatus::NeedsReauth, "whoever can read the record ends it");
}

/// An access token works for a while after its grant has ended, and a look had begun before that.
#[tokio::test]
async fn a_good_look_does_not_bring_back_an_account_whose_grant_ended_meanwhile() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    script.says(Some(OVER));
    let (accounts, environment, id) = (stand.core.services.accounts.clone(), stand.environment(), stand.id.to_string());
    let (handle, renewing, text) = (Handle::current(), accounts.clone(), id.clone());
    *script.at_users.lock().unwrap() = Some(Box::new(move || {
        let ended = handle.block_on(renewing.refresh_credentials(environment, &text)).map_err(|error| error.code());
        assert_eq!(ended, Err(Code::ReauthRequired));
    }));
    let tested = accounts.test(environment, &id).await.map(|_| ()).map_err(|error| error.code());
    assert!(script.at_users.lock().unwrap().is_none(), "the vendor was not asked");
    assert_eq!((tested, stand.status().await), (Err(Code::ReauthRequired), AccountStatus::NeedsReauth));
    assert_eq!(told(&stand.core, stand.id).await, ["created", "active", "authentication_error"]);
}

/// The client alone was refused: what works again comes back.
#[tokio::test]
async fn a_good_look_brings_an_account_back_whose_grant_goes_on() {
    let script = Script::default();
    let stand = Stand::new(&script).await;
    let (accounts, environment, id) = (&stand.core.services.accounts, stand.environment(), stand.id.to_string());
    script.says(Some(REFUSED));
    let refused = accounts.refresh_credentials(environment, &id).await.map_err(|error| error.code());
    assert_eq!((refused, stand.status().await), (Err(Code::ReauthRequired), AccountStatus::NeedsReauth));
    accounts.test(environment, &id).await.unwrap();
    assert_eq!(stand.status().await, AccountStatus::Active);
}
