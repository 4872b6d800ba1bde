//! Credentials before they are stored: fields checked, addresses allowed, the vendor asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Map;

use super::{
    Accounts, check_context, check_tenant,
    credential::{build_access, field_problems, known_expiry, seal_fields},
    find_method,
    grant::Granted,
    renew::FirstToken,
    split_context,
};
use crate::{
    connector::{Connector, LinkMethod, Meaning, Resolved, TokenUrls},
    error::{Code, Error, Result, VendorAnswer},
    model::{Account, AccountId, EnvironmentId, Warning},
    service::{NewAccount, cut_short},
    upstream::{Access, Failure, Tested},
};

/// How warnings begin that say that a credential is taken but shows nothing: it does not count as linked.
const NOTHING_VISIBLE: &str = "nothing_visible";

/// Warns that new tokens were kept, although the vendor was too busy to say what they show.
const NOT_TRIED: &str = "not_tried";
/// The pauses before a vendor that gave new tokens, and is busy, is asked again what they show.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];

/// A credential that was verified and is ready to be stored.
pub(in crate::service) struct Verified {
    pub(super) account: Account,
    pub(super) access: Arc<Access>,
    pub(super) wrapped_key: Vec<u8>,
    pub(super) token: Option<FirstToken>,
    pub(super) warnings: Vec<Warning>,
    /// A refresh token was used up for it that nobody has a second of.
    pub(super) is_spent: bool,
}

impl Accounts {
    /// Resolves the fields, asks the vendor, seals the secrets.
    pub(super) async fn verify(
        &self,
        mut account: Account,
        connector: Arc<Connector>,
        method: Arc<LinkMethod>,
        given: &BTreeMap<String, String>,
        grant: Option<Granted>,
    ) -> Result<Verified> {
        let resolved = self.resolve(&method, given)?;
        account.fields = resolved.fields.clone();
        account.origins = resolved.origins.clone();
        account.expires_at = account.expires_at.or_else(|| known_expiry(&resolved, self.clock.now()));
        let (key, wrapped_key) = self.vault.new_data_key(account.environment, account.id);
        account.sealed = seal_fields(&account, &key, &resolved);
        let access = build_access(&account, connector, method, resolved)?;
        let access = self.with_app_of(&mut account, grant.as_ref(), access).await?;
        // Tokens from elsewhere are in use there, or go on with what a caller has; a kept grant stays kept.
        let is_agreed = matches!(grant, Some(Granted::Code(_)));
        let is_brought = grant.is_some() && !is_agreed;
        let is_spent = matches!(&grant, Some(Granted::Tokens(tokens)) if tokens.must_refresh(self.clock.now()));
        let (access, token) = Box::pin(self.first_token(&account, &key, access, grant)).await?;
        let access = Arc::new(access);
        let tested = match self.try_once(&access).await {
            Err(error) if is_spent && may_pass(&error) => self.try_again(&access).await,
            tested => tested,
        };
        if tested.is_err() && (is_agreed || (!is_brought && access.refresh_token().is_some())) {
            self.give_unused_back(Arc::clone(&access)).await;
        }
        let Tested { facts, warnings } = if is_spent { tested.map_err(used_up)? } else { tested? };
        account.facts = facts;
        account.checked_at = Some(self.clock.now());
        account.data_version += 1;
        Ok(Verified { account, access, wrapped_key, token, warnings, is_spent })
    }

    /// The same for a credential that its vendor has just given for the refresh token that was brought: that one is used up, and what
    /// came of it must not be lost because the vendor is busy now.
    async fn try_again(&self, access: &Arc<Access>) -> Result<Tested> {
        for pause in AGAIN {
            tokio::time::sleep(pause).await;
            match self.try_once(access).await {
                Err(error) if may_pass(&error) => {}
                tested => return tested,
            }
        }
        let message = "The vendor gave new tokens for the refresh token, and could not be asked what they show; they are kept.";
        let warning = Warning { code: NOT_TRIED.to_owned(), message: message.to_owned(), field: None };
        Ok(Tested { facts: Map::new(), warnings: vec![warning] })
    }

    /// Asks the vendor whether it takes the credential, and lets it see something.
    async fn try_once(&self, access: &Arc<Access>) -> Result<Tested> {
        let (upstream, asked) = (Arc::clone(&self.upstream), Arc::clone(access));
        let tested = self.opened.tasks.finish(async move { upstream.test(&asked).await }).await.ok_or_else(cut_short)?;
        let tested = tested.map_err(|failure| refused_there(access, failure))?;
        match tested.warnings.iter().find(|warning| warning.code.starts_with(NOTHING_VISIBLE)) {
            Some(warning) => Err(Error::new(Code::CredentialRefused, &warning.message)),
            None => Ok(tested),
        }
    }

    /// The fields, validated, and every address in them allowed.
    fn resolve(&self, method: &LinkMethod, given: &BTreeMap<String, String>) -> Result<Resolved> {
        let resolved = method.resolve(given, &|url| self.guard.names(url)).map_err(field_problems)?;
        for url in resolved.hosts.iter().chain([&resolved.base]).chain(resolved.token_urls.iter().flat_map(TokenUrls::all)) {
            self.guard.check(url).map_err(|why| Error::new(Code::EgressRefused, why))?;
        }
        Ok(resolved)
    }

    /// The credential of an account that is not linked yet, for the customer's way to the vendor; nothing is asked.
    pub(in crate::service) async fn unlinked(&self, environment: EnvironmentId, new: &NewAccount) -> Result<Access> {
        check_tenant(&new.tenant_id)?;
        let connector = self.connector(environment, &new.integration)?;
        self.installs.connector_in_use(environment, &connector.slug).await?;
        let method = find_method(&connector, &new.authentication_method)?;
        let (fields, context) = split_context(&method, self.whole_context(new, &method).await?)?;
        check_context(&context)?;
        let resolved = self.resolve(&method, &fields)?;
        let (id, slug) = (new.id.unwrap_or_else(AccountId::generate), connector.slug.clone());
        let access = Access::new(id, environment, connector, method, 0, resolved, Map::new());
        let access = access.map_err(|problem| field_problems(vec![problem]))?;
        match access.method.needs_browser() {
            true => self.with_app(access).await,
            false => Err(Error::internal(format!("{slug} is linked without a browser by this method"))),
        }
    }

    /// The stored fields with the changed ones laid over; all secrets must come along when the destination changes.
    pub(super) async fn merge_fields(
        &self,
        account: &Account,
        method: &LinkMethod,
        changed: BTreeMap<String, Option<String>>,
    ) -> Result<BTreeMap<String, String>> {
        let secrets: Vec<&str> = method.fields.iter().filter(|f| f.kind.is_secret()).map(|f| f.name.as_str()).collect();
        let moved = changed.iter().any(|(name, value)| {
            method.decides_destination(name) && value.as_deref() != account.fields.get(name).map(String::as_str)
        });
        let absent: Vec<&str> =
            secrets.iter().copied().filter(|name| account.sealed.contains_key(*name) && !changed.contains_key(*name)).collect();
        if moved && !absent.is_empty() {
            let detail = format!(
                "A change of the address, or of whom its server is trusted by, needs all secrets again; missing: {}.",
                absent.join(", ")
            );
            return Err(Error::new(Code::SecretsRequired, detail).field(format!("context.{}", absent[0])));
        }
        let mut fields = account.fields.clone();
        if !absent.is_empty() {
            for (name, secret) in self.unseal(account).await? {
                fields.insert(name, secret.expose().to_owned());
            }
        }
        for (name, value) in changed {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        Ok(fields)
    }
}

/// A credential that does not verify is the caller's to mend: 422 with what the vendor said; silence stays 502/504.
pub(super) fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Answered { answer, message, wait, meaning } if !is_passing(meaning) => {
            let said = message.unwrap_or_else(|| unexplained(&answer));
            let error = Error::new(Code::CredentialRefused, said).vendor(answer);
            wait.into_iter().fold(error, Error::retry_after)
        }
        Failure::Distrusted { field, .. } => {
            Error::new(Code::InvalidField, failure.to_string()).field(format!("context.{field}"))
        }
        other => other.into(),
    }
}

/// The same for the first calls with a credential: where nothing is found that a vendor of this kind has, its address is wrong.
fn refused_there(access: &Access, failure: Failure) -> Error {
    match failure {
        Failure::Answered { meaning: Meaning::Missing, message: None, answer, .. } if answer.status == Some(404) => {
            let field = access.method.address_field(&access.fields);
            let what = field.map_or_else(|| "the address".to_owned(), |field| format!("`{}`", field.title));
            let detail = format!("Nothing answers like this vendor's API at this address (404): check {what}.");
            let error = Error::new(Code::CredentialRefused, detail).vendor(answer);
            field.into_iter().fold(error, |error, field| error.field(format!("context.{}", field.name)))
        }
        failure => refused(failure),
    }
}

/// What an answer says that the connector has no sentence for.
fn unexplained(answer: &VendorAnswer) -> String {
    let plain = match answer.status.unwrap_or_default() {
        status @ (401 | 403) => format!("The vendor does not accept this credential ({status})."),
        status => format!("The vendor answered {status}."),
    };
    match answer.plain_words() {
        Some(words) => format!("{plain} It says: {words}"),
        None => plain,
    }
}

fn is_passing(meaning: Meaning) -> bool {
    matches!(meaning, Meaning::RateLimited | Meaning::NotReady)
}

/// Whoever reads that a field is wrong would send the same refresh token again, and most vendors end a grant for that.
fn used_up(error: Error) -> Error {
    error.more("The refresh token of this request was used up by it; do not send it again.")
}

fn may_pass(error: &Error) -> bool {
    let is_its_fault = error.vendor_answer().and_then(|answer| answer.status).is_some_and(|status| status >= 500);
    error.code().row().retryable || is_its_fault
}
