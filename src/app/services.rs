//! Everything a handler can ask for, over the tools that were opened.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    config::Settings,
    connector::Catalog,
    model::{Clock, EnvironmentId, Tasks},
    service::{
        Accounts, Administrator, Audit, Authorizations, Backups, Care, Directory, Environments, Events, Export, Idempotency,
        Installs, Keys, Links, OAuthApps, Opened, Passthrough, PlatformCursors, Rates, RequestLog, Services, Snapshots, Tokens,
    },
    store::{Store, repo},
    upstream::{Guard, Upstream},
    vault::{SystemKeys, Vault},
};

/// What services work with.
pub(super) struct Tools {
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<ArcSwap<Catalog>>,
    pub(super) vault: Arc<Vault>,
    pub(super) guard: Arc<Guard>,
    pub(super) keys: Arc<SystemKeys>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
    pub(super) environment: EnvironmentId,
}

impl Tools {
    /// Makes them. Administrators are those that stand in no store; `apps` are the operator's OAuth apps.
    pub(super) fn services(
        &self,
        settings: &Settings,
        administrators: Vec<Administrator>,
        apps: Arc<ArcSwap<OAuthApps>>,
    ) -> Services {
        let records = repo::Installs::new(self.store());
        let installs = Arc::new(Installs::new(records, self.catalog.clone(), self.keys(), self.clock(), apps));
        let upstream = Arc::new(Upstream::new(self.guard.clone(), self.store()));
        let audit = self.audit(settings);
        let accounts = self.accounts(&installs, &upstream, &audit);
        let events = Arc::new(Events::new(repo::Events::new(self.store()), self.clock()));
        let pending = repo::Authorizations::new(self.store());
        let public_url = settings.public_url.clone();
        let authorizations = Authorizations::new(accounts.clone(), pending, self.keys(), self.clock(), public_url);
        let authorizations = Arc::new(authorizations);
        let log = Arc::new(RequestLog::new(repo::Log::new(self.store()), self.keys(), self.clock(), self.environment));
        let tokens = Arc::new(self.tokens(administrators));
        Services {
            environments: self.environments(&accounts),
            care: self.care(settings, &accounts, (&events, &audit)),
            links: self.links((&accounts, &tokens), &authorizations, (&installs, &audit)),
            directory: self.directory(&accounts, &upstream),
            passthrough: Passthrough { accounts: accounts.clone(), upstream, tasks: self.tasks.clone() },
            rates: Rates::new(self.store(), settings.token_limit, settings.account_limit),
            idempotency: Idempotency::new(repo::Idempotency::new(self.store()), self.keys(), self.tasks.clone()),
            export: self.export(&accounts, &log, (&audit, &events)),
            keys: self.rotation(&accounts),
            backups: Backups::new(self.store(), self.clock(), self.environment),
            cursors: PlatformCursors::new(self.keys()),
            catalog: self.catalog.clone(),
            store: self.store(),
            tokens,
            installs,
            accounts,
            events,
            authorizations,
            log,
            audit,
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn keys(&self) -> Arc<SystemKeys> {
        self.keys.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn accounts(&self, installs: &Arc<Installs>, upstream: &Arc<Upstream>, audit: &Arc<Audit>) -> Arc<Accounts> {
        let records = repo::Accounts::new(self.store());
        let opened = Opened::new(self.tasks.clone(), audit.clone());
        let (vault, guard) = (self.vault.clone(), self.guard.clone());
        Accounts::new(records, installs.clone(), vault, upstream.clone(), guard, self.clock(), opened)
    }

    fn audit(&self, settings: &Settings) -> Arc<Audit> {
        let kept = (settings.audit_life, settings.audit_passthrough);
        Arc::new(Audit::new(repo::Audit::new(self.store()), self.keys(), self.clock(), self.tasks.clone(), kept))
    }

    fn tokens(&self, administrators: Vec<Administrator>) -> Tokens {
        Tokens::new(repo::Tokens::new(self.store()), self.keys(), self.clock(), self.tasks.clone(), administrators)
    }

    fn environments(&self, accounts: &Arc<Accounts>) -> Environments {
        let (records, tokens) = (repo::Installation::new(self.store()), repo::Tokens::new(self.store()));
        Environments::new(records, accounts.clone(), tokens, self.clock(), self.environment)
    }

    fn care(&self, settings: &Settings, accounts: &Arc<Accounts>, (events, audit): (&Arc<Events>, &Arc<Audit>)) -> Arc<Care> {
        let (records, logs) =
            ((repo::Installation::new(self.store()), repo::Queues::new(self.store())), (events.clone(), audit.clone()));
        Arc::new(Care::new(accounts.clone(), logs, records, self.clock(), settings.probe_every))
    }

    fn links(
        &self,
        (accounts, tokens): (&Arc<Accounts>, &Arc<Tokens>),
        authorizations: &Arc<Authorizations>,
        (installs, audit): (&Arc<Installs>, &Arc<Audit>),
    ) -> Links {
        let (records, around) = (repo::Links::new(self.store()), (installs.clone(), audit.clone()));
        let (accounts, authorizations) = ((accounts.clone(), tokens.clone()), authorizations.clone());
        Links::new(records, self.keys(), accounts, authorizations, around, (self.tasks.clone(), self.clock()))
    }

    fn directory(&self, accounts: &Arc<Accounts>, upstream: &Arc<Upstream>) -> Directory {
        let (snapshots, blobs) = (Snapshots::new(repo::Snapshots::new(self.store())), repo::Blobs::new(self.store()));
        Directory::new(accounts.clone(), upstream.clone(), snapshots, blobs, self.keys(), self.clock())
    }

    fn export(&self, accounts: &Arc<Accounts>, log: &Arc<RequestLog>, (audit, events): (&Arc<Audit>, &Arc<Events>)) -> Export {
        let (snapshots, told) = (repo::Snapshots::new(self.store()), (audit.clone(), events.clone()));
        Export::new(accounts.clone(), snapshots, log.clone(), told, self.clock())
    }

    fn rotation(&self, accounts: &Arc<Accounts>) -> Keys {
        let data_keys = repo::Accounts::new(self.store()).data_keys();
        let installation = repo::Installation::new(self.store());
        Keys::new(installation, data_keys, accounts.clone(), self.vault.clone(), self.clock(), self.environment)
    }
}
