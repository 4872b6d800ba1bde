//! The audit log: who did what to which object, once for each action, in a row that cannot be changed unnoticed.
//!
//! An action is noted before it begins; where that cannot be done it does not begin. Its entry is written when it ends, in the
//! same step in which the note goes. What was done to objects of ours is answered when its entry is written; of what failed, and
//! of what a vendor has done, the note stands meanwhile and the entry follows. A note that nobody ends, because its node is gone,
//! becomes an entry with the outcome `unknown`. Each entry holds the hash of the one before, and the head their number: all of them
//! are marks under a system key, so that whoever can write the store cannot make another log of it.

mod chain;
mod entry;
mod read;
mod tidy;
mod verify;

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use uuid::Uuid;

use self::{
    chain::{Chain, Item},
    entry::{Begun, hashed, sealed, shown_id},
};
pub use self::{
    entry::{AuditEntry, AuditOutcome, Ended},
    read::{AuditPage, WantedEntries},
    verify::{AuditHead, AuditProblem, Verified, VerifyPlace},
};
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, Clock, EnvironmentId, Tasks, TokenId},
    store::repo,
    vault::{AuditMark, SystemKeys},
};

/// The kind of object that the keys of the ring are: the operator names them, and nobody else.
pub const ROOT_KEY: &str = "root_key";

/// The name of the gateway itself where it acts of its own accord.
pub const GATEWAY: &str = "rollcall";

/// What is about to be done.
#[derive(Clone, Debug)]
pub struct Act {
    /// Whose log it belongs into.
    pub environment: EnvironmentId,
    /// The name of the token; [`GATEWAY`] where nobody asked.
    pub actor: String,
    /// The token, if there is one.
    pub token: Option<TokenId>,
    /// A fixed word: noun, dot, verb. Nothing of a caller's.
    pub action: Cow<'static, str>,
    /// The kind of object it is done to.
    pub target_kind: Option<String>,
    /// Its id; what is no UUID is only kept as a keyed hash, but for the ids of root keys.
    pub target_id: Option<String>,
    /// The linked account it is done to or through.
    pub account: Option<AccountId>,
    /// The customer's label, kept as a keyed hash.
    pub tenant: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
}

impl Act {
    /// Something the gateway does of its own accord.
    pub fn of_gateway(environment: EnvironmentId, action: &'static str) -> Self {
        Self {
            environment,
            actor: GATEWAY.to_owned(),
            token: None,
            action: action.into(),
            target_kind: None,
            target_id: None,
            account: None,
            tenant: None,
            request_id: None,
        }
    }
}

/// The audit logs of all environments.
pub struct Audit {
    chain: Arc<Chain>,
    tasks: Tasks,
    life: Option<Duration>,
    notes_passing: bool,
}

/// An action that was noted and has not ended. One that is dropped ends as `unknown` after a while.
#[must_use = "an action that nobody ends becomes one of unknown outcome"]
struct Open {
    chain: Arc<Chain>,
    environment: EnvironmentId,
    begun: Begun,
    version: u64,
}

impl Audit {
    /// Over the records. Entries live for `life`, else for ever; `notes_passing` says whether writing calls of the passthrough
    /// are noted.
    pub fn new(
        records: repo::Audit,
        keys: Arc<SystemKeys>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        (life, notes_passing): (Option<Duration>, bool),
    ) -> Self {
        Self { chain: Arc::new(Chain::new(records, keys, clock, tasks.clone())), tasks, life, notes_passing }
    }

    /// Whether writing calls of the passthrough are noted.
    pub fn notes_passing(&self) -> bool {
        self.notes_passing
    }

    /// Notes that an action begins. An error means that it must not.
    async fn begin(&self, act: Act) -> Result<Open> {
        let environment = act.environment;
        let begun = self.begun(act);
        let noted = async {
            self.chain.head(environment).await?;
            let (bytes, _) = sealed(&self.chain.keys, AuditMark::Open, environment, &begun)?;
            Ok(self.chain.records.open(environment, begun.id, bytes.into()).await?)
        };
        let version = noted.await.map_err(unwritable)?;
        Ok(Open { chain: self.chain.clone(), environment, begun, version })
    }

    /// Does the work of an action, from its note to its entry. With `waits` the entry of what was done is written before this
    /// answers; where it cannot be, that is the answer.
    pub async fn around<T>(&self, act: Act, waits: bool, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.around_naming(act, waits, work, |_| None).await
    }

    /// The same of work that alone knows what it made: `made` tells its id.
    pub async fn around_naming<T>(
        &self,
        act: Act,
        waits: bool,
        work: impl Future<Output = Result<T>>,
        made: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T> {
        let environment = act.environment;
        let mut open = self.begin(act).await?;
        let outcome = work.await;
        if let Some(id) = outcome.as_ref().ok().and_then(made) {
            open.begun.target_id = Some(shown_id(&self.chain.keys, environment, &id));
        }
        let ended = Ended::of(&outcome);
        if waits && outcome.is_ok() {
            open.end(ended).await.map_err(unended)?;
        } else {
            open.end_later(ended);
        }
        self.tidy_sometimes(environment);
        outcome
    }

    /// Writes the entry of something that was not noted before: at best, and later.
    pub fn note(&self, act: Act, ended: Ended) {
        let environment = act.environment;
        let begun = self.begun(act);
        self.chain.push(environment, Item { begun, ended, open: None, is_left: false, tell: None, since: None });
        self.tidy_sometimes(environment);
    }

    /// Goes on with work for a while although whoever asked for it goes away.
    pub async fn to_end<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.tasks.finish(work).await.unwrap_or_else(|| Err(Error::internal("a write panicked")))
    }

    fn begun(&self, act: Act) -> Begun {
        let keys = &self.chain.keys;
        let Act { environment, actor, token, action, target_kind, target_id, account, tenant, request_id } = act;
        let is_root_key = target_kind.as_deref() == Some(ROOT_KEY);
        Begun {
            id: Uuid::now_v7(),
            began_at: self.chain.clock.now(),
            actor,
            token_id: token.filter(|token| !token.0.is_nil()),
            action: action.into_owned(),
            target_kind,
            target_id: target_id.map(|id| if is_root_key { id } else { shown_id(keys, environment, &id) }),
            account,
            tenant: tenant.map(|tenant| hashed(keys, environment, &tenant)),
            request_id,
        }
    }
}

impl Open {
    /// Writes how it ended.
    async fn end(self, ended: Ended) -> Result<()> {
        let (tell, told) = oneshot::channel();
        self.push(ended, Some(tell));
        told.await.unwrap_or_else(|_| Err(Error::internal("the writer of the audit log is gone")))
    }

    /// Lets it be written how it ended, while others go on.
    fn end_later(self, ended: Ended) {
        self.push(ended, None);
    }

    fn push(self, ended: Ended, tell: Option<oneshot::Sender<Result<()>>>) {
        let Self { chain, environment, begun, version } = self;
        chain.push(environment, Item { begun, ended, open: Some(version), is_left: false, tell, since: None });
    }
}

/// Nothing was done, because it could not be noted.
fn unwritable(error: Error) -> Error {
    if error.code() == Code::Internal {
        return error;
    }
    let detail = "The audit log cannot be written, so nothing was done.";
    Error::new(Code::StoreUnavailable, detail).because(error.cause().unwrap_or_default())
}

/// It was done, and the note says that it began.
fn unended(error: Error) -> Error {
    let detail = "It was done, but the store did not take its entry in the audit log. Look before you send it again.";
    Error::new(Code::StoreUnavailable, detail).because(error.cause().unwrap_or_default())
}
