//! Environments: walls between tenants. Which side a caller stands on is its token's; whoever administers `default`
//! administers the walls.

use std::sync::Arc;

use uuid::Uuid;

use super::{Accounts, Caller, NewToken, Run, Tokens};
use crate::{
    error::{Code, Error, Result},
    model::{ApiToken, Clock, EnvironmentId, Later, Scope, Scopes},
    store::{
        StoreError,
        repo::{self, Environment, Listed},
    },
    vault::TokenText,
};

/// The longest name, characters.
const LONGEST: usize = 100;
/// What is left in an environment is counted so far.
const COUNTED: usize = 1000;
/// How often a change begins again because somebody else was faster.
const TRIES: usize = 10;

/// The environments.
pub struct Environments {
    records: repo::Installation,
    accounts: Arc<Accounts>,
    tokens: repo::Tokens,
    clock: Arc<dyn Clock>,
    /// The one of the first start.
    default: EnvironmentId,
}

impl Environments {
    /// Over the records; `default` is the environment of the first start.
    pub fn new(
        records: repo::Installation,
        accounts: Arc<Accounts>,
        tokens: repo::Tokens,
        clock: Arc<dyn Clock>,
        default: EnvironmentId,
    ) -> Self {
        Self { records, accounts, tokens, clock, default }
    }

    /// Every environment that the caller may see, in id order.
    pub async fn list(&self, caller: &Caller) -> Result<Listed<Environment>> {
        if self.administers_all(caller) {
            return Ok(self.records.readable().await?);
        }
        let records = self.records.environment(caller.environment).await?.into_iter().collect();
        Ok(Listed { records, unreadable: 0 })
    }

    /// One of them.
    pub async fn get(&self, caller: &Caller, id: &str) -> Result<Environment> {
        Ok(self.find(caller, id).await?.0)
    }

    /// Makes an environment and a first administrator's token of it; its text is never shown again.
    pub async fn create(
        &self,
        caller: &Caller,
        run: Run,
        name: &str,
        tokens: &Tokens,
    ) -> Result<(Environment, ApiToken, TokenText)> {
        self.must_administer_all(caller)?;
        check_name(name)?;
        let made = Environment {
            id: EnvironmentId(run.id),
            name: name.to_owned(),
            created_at: self.clock.now(),
            updated_at: None,
            later: Later::default(),
        };
        let environment = match self.records.create_environment(&made).await {
            Err(StoreError::Conflict(_)) => {
                // A run before this one may have made it.
                let before = self.records.environment(made.id).await?.filter(|before| run.again && before.name == name);
                before.ok_or_else(|| taken(name))?
            }
            done => done.map(|()| made)?,
        };
        let new = NewToken { name: "first administrator".to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None };
        let token_run = Run { id: Uuid::new_v5(&run.id, b"first administrator"), ..run };
        let (token, text) = tokens.create_in(token_run, &Caller { environment: environment.id, ..caller.clone() }, new).await?;
        Ok((environment, token, text))
    }

    /// Gives an environment another name.
    pub async fn rename(&self, caller: &Caller, id: &str, name: &str) -> Result<Environment> {
        for _ in 0..TRIES {
            let (before, version) = self.find(caller, id).await?;
            // Whether a name is taken says something of other environments.
            self.must_administer_all(caller)?;
            check_name(name)?;
            if before.id == self.default && before.name != name {
                let detail = format!("The environment `{}` is found by its name and keeps it.", before.name);
                return Err(Error::new(Code::InvalidBody, detail).field("name"));
            }
            let now = Environment { name: name.to_owned(), updated_at: Some(self.clock.now()), ..before.clone() };
            match self.records.rename_environment(&before, &now, version).await {
                Err(StoreError::Conflict(_)) => match self.records.environment_named(name).await? {
                    Some(other) if other.id != before.id => return Err(taken(name)),
                    _ => {}
                },
                done => return Ok(done.map(|()| now)?),
            }
        }
        Err(Error::new(
            Code::Busy,
            "This environment is being changed all the time; nothing was written. Send the request again.",
        ))
    }

    /// Ends an environment that nothing is left in. Once its record is gone nothing is linked in it any more: an account that is being
    /// linked meanwhile is either seen after that, or sees for itself that its environment is gone.
    pub async fn delete(&self, caller: &Caller, id: &str) -> Result<()> {
        let (environment, version) = self.find(caller, id).await?;
        self.must_administer_all(caller)?;
        if environment.id == self.default {
            let detail = format!("`{}` is where this installation is administered, and stays.", environment.name);
            return Err(Error::new(Code::StillInUse, detail));
        }
        let accounts = self.accounts.records.list(environment.id, None, COUNTED).await?.len();
        let tokens = self.tokens.list(environment.id, None, COUNTED).await?.len();
        if accounts + tokens > 0 {
            let count = |count: usize| if count < COUNTED { count.to_string() } else { format!("{COUNTED} or more") };
            let detail = format!("Still in `{}`: accounts: {}, tokens: {}.", environment.name, count(accounts), count(tokens));
            return Err(Error::new(Code::StillInUse, detail));
        }
        self.records.delete_environment(&environment, version, self.clock.now()).await?;
        if let Err(error) = self.accounts.clear(environment.id).await {
            tracing::warn!(environment = %environment.id, %error, "what is left of an ended environment is removed by the next sweep");
        }
        Ok(())
    }

    /// An environment the caller may see and the version of its record; any other id is as good as missing.
    async fn find(&self, caller: &Caller, id: &str) -> Result<(Environment, u64)> {
        let id: EnvironmentId = id.parse().map_err(|_| Error::not_found())?;
        if id != caller.environment && !self.administers_all(caller) {
            return Err(Error::not_found());
        }
        self.records.environment_versioned(id).await?.ok_or_else(Error::not_found)
    }

    fn administers_all(&self, caller: &Caller) -> bool {
        caller.environment == self.default && caller.scopes.allow(Scope::Admin)
    }

    fn must_administer_all(&self, caller: &Caller) -> Result<()> {
        if self.administers_all(caller) {
            return Ok(());
        }
        let detail =
            "Environments are made, named and ended with a token of the environment `default` that has the scope `admin`.";
        Err(Error::new(Code::ScopeMissing, detail).field(Scope::Admin.as_str()))
    }
}

fn check_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    if length == 0 || length > LONGEST || name.trim() != name || name.chars().any(char::is_control) {
        let detail = format!("`name` is 1 to {LONGEST} characters, without control characters and blanks around it.");
        return Err(Error::new(Code::InvalidBody, detail).field("name"));
    }
    Ok(())
}

fn taken(name: &str) -> Error {
    Error::new(Code::NameTaken, format!("There is an environment `{name}` already.")).field("name")
}
