//! The way back: both files and the ring are looked at as a whole before the first write, and a store in which a restore has
//! begun cannot be served before it has ended.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io::BufRead,
    sync::Arc,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    BackupError, Entry, Header,
    part::{Part, PartReader},
};
use crate::{
    model::{Account, AccountId, Install, Slug},
    service::{
        accounts::{credential::open_fields, refresh::previous_opens, renew::opens as token_opens},
        installs::app::AppSeal,
    },
    store::{
        Store,
        repo::{Installation, account_slot, backup},
    },
    vault::{DataKey, KeyRing, SystemKeys, Vault, wrapping_key_id},
};

/// Entries that are written at once, and commits under way at the same time.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 512 * 1024;
const TOGETHER: usize = 64;

/// A backup that was read as a whole and opens.
pub struct Checked {
    /// What it says of itself.
    pub header: Header,
    keys: Keys,
    system_keys: Bytes,
    left_out: HashSet<AccountId>,
    restored: Restored,
    /// Tells it from every other one.
    mark: String,
}

/// What a restore brings back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Accounts, each with its key.
    pub accounts: usize,
    /// Accounts whose key is not among the keys: they were deleted since, or linked later than the keys were saved.
    pub left_out: Vec<AccountId>,
    /// Accounts that were linked anew between the two files: what they hold does not open, and they must be linked again.
    pub unreadable: Vec<AccountId>,
    /// Connectors whose OAuth app of the environment's own does not open, and must be given anew.
    pub unreadable_apps: Vec<Slug>,
}

/// Wrapped keys by slot and name.
type Keys = HashMap<(String, String), Entry>;

/// Entries of one slot.
struct Group {
    slot: String,
    entries: Vec<(String, Bytes)>,
    bytes: usize,
}

impl Checked {
    /// Reads both files to their ends and opens every account's credential with the ring. Changes nothing.
    pub fn read(data: impl BufRead, data_keys: impl BufRead, ring: Arc<KeyRing>) -> Result<Checked, BackupError> {
        let (keys, of_keys, of_keys_sum) = read_keys(data_keys, &ring)?;
        let (mut data, header) = PartReader::begin(data, Part::Data)?;
        if header.installation != of_keys.installation {
            let text = format!("{} and {} are of different installations.", Part::Data, Part::DataKeys);
            return Err(BackupError::File(text));
        }
        let system = keys.values().find(|key| backup::is_system_keys(&key.slot, &key.name));
        let system = system.ok_or_else(|| BackupError::File(format!("{} lacks the installation's own keys.", Part::DataKeys)))?;
        let system_keys = system.bytes()?;
        let own = SystemKeys::open(&ring, &system_keys)?;
        let vault = Vault::new(Arc::new(ArcSwap::new(ring.clone())));
        let mut restored = Restored::default();
        let (mut kept, mut account) = (HashSet::new(), None);
        while let Some(entry) = data.entry()? {
            if backup::is_account_record(&entry.slot, &entry.name) {
                account = judge(&entry, &keys, &vault, &mut restored)?;
                kept.insert(entry.slot);
            } else if backup::is_token(&entry.slot, &entry.name) {
                judge_token(&entry, account.as_ref(), &mut restored)?;
            } else if backup::is_install(&entry.slot, &entry.name) {
                judge_app(&entry, &own, &mut restored)?;
            }
        }
        let mark = format!("{} {of_keys_sum}", data.sha256());
        // A key without a record belongs to an account that is not in the data.
        let is_kept = |slot: &String| backup::account_of(slot).is_none() || kept.contains(slot);
        let keys = keys.into_iter().filter(|((slot, _), _)| is_kept(slot)).collect();
        let left_out = restored.left_out.iter().copied().collect();
        Ok(Checked { header, keys, system_keys, left_out, restored, mark })
    }

    /// Writes it into a store that holds nothing, or in which this very restore was begun before. `data` is the file again.
    pub async fn write(self, store: Arc<dyn Store>, data: impl BufRead) -> Result<Restored, BackupError> {
        let installation = Installation::new(store.clone());
        match installation.restoring().await? {
            Some(mark) if mark == self.mark => {}
            Some(_) => {
                let text = "Another restore into this store was begun and has not ended. Give an empty store.";
                return Err(BackupError::File(text.to_owned()));
            }
            None => {
                if backup::first_used(&*store).await?.is_some() {
                    let text = "The store is not empty; a backup is restored into an empty store only. Nothing was changed.";
                    return Err(BackupError::File(text.to_owned()));
                }
                installation.begin_restore(&self.mark).await?;
            }
        }
        let (mut data, header) = PartReader::begin(data, Part::Data)?;
        if header != self.header {
            return Err(BackupError::File(format!("{} was replaced while it was read.", Part::Data)));
        }
        while let Some(groups) = self.groups(&mut data)? {
            let store = &*store;
            let written =
                groups.into_iter().map(|group| async move { backup::put_back(store, &group.slot, group.entries).await });
            stream::iter(written).buffer_unordered(TOGETHER).try_collect::<Vec<()>>().await?;
        }
        self.put_keys_back(&*store).await?;
        installation.end_restore(self.system_keys).await?;
        Ok(self.restored)
    }

    /// The next entries, of several slots; none at the end of the file.
    fn groups<R: BufRead>(&self, data: &mut PartReader<R>) -> Result<Option<Vec<Group>>, BackupError> {
        let mut groups: Vec<Group> = Vec::new();
        while groups.len() <= TOGETHER {
            let Some(entry) = data.entry()? else { break };
            if self.is_left_out(&entry) {
                continue;
            }
            let value = entry.bytes()?;
            let room = |group: &Group| group.entries.len() < BATCH && group.bytes + value.len() < BATCH_BYTES;
            match groups.last_mut().filter(|group| group.slot == entry.slot && room(group)) {
                Some(group) => {
                    group.bytes += value.len();
                    group.entries.push((entry.name, value));
                }
                None => groups.push(Group { slot: entry.slot, bytes: value.len(), entries: vec![(entry.name, value)] }),
            }
        }
        Ok((!groups.is_empty()).then_some(groups))
    }

    /// Of an account without its key nothing comes back, its place in the list included.
    fn is_left_out(&self, entry: &Entry) -> bool {
        let account = backup::account_of(&entry.slot).or_else(|| backup::account_listed(&entry.slot, &entry.name));
        account.is_some_and(|account| self.left_out.contains(&account))
    }

    async fn put_keys_back(&self, store: &dyn Store) -> Result<(), BackupError> {
        let own = self.keys.values().filter(|key| !backup::is_system_keys(&key.slot, &key.name));
        let written = own.map(|key| async move {
            let entries = vec![(key.name.clone(), key.bytes()?)];
            Ok::<_, BackupError>(backup::put_back(store, &key.slot, entries).await?)
        });
        stream::iter(written).buffer_unordered(TOGETHER).try_collect::<Vec<()>>().await.map(|_| ())
    }
}

/// The keys by slot. A ring that lacks one that wraps them is refused here.
fn read_keys(input: impl BufRead, ring: &KeyRing) -> Result<(Keys, Header, String), BackupError> {
    let (mut reader, header) = PartReader::begin(input, Part::DataKeys)?;
    let (mut keys, mut lacking, mut locked) = (HashMap::new(), BTreeSet::new(), 0_usize);
    while let Some(entry) = reader.entry()? {
        let value = entry.bytes()?;
        let wrapped_by = match backup::is_system_keys(&entry.slot, &entry.name) {
            true => SystemKeys::sealed_by(&value),
            false => wrapping_key_id(&value),
        };
        if let Some(id) = wrapped_by.filter(|id| !ring.ids().any(|known| known == *id)) {
            lacking.insert(id.to_owned());
            locked += 1;
        }
        keys.insert((entry.slot.clone(), entry.name.clone()), entry);
    }
    if lacking.is_empty() {
        return Ok((keys, header, reader.sha256().to_owned()));
    }
    let ids = lacking.into_iter().collect::<Vec<_>>().join(", ");
    Err(BackupError::Ring(format!(
        "the key ring lacks {ids}, by which {locked} of the backup's keys are wrapped; give the ring the store had when they were \
         saved. Nothing was changed."
    )))
}

/// Whether an account can be had: its key is there, and opens what the account holds. Gives the account and its key, for what
/// follows it in its slot.
fn judge(entry: &Entry, keys: &Keys, vault: &Vault, restored: &mut Restored) -> Result<Option<(Account, DataKey)>, BackupError> {
    let odd = |_| BackupError::File(format!("{} holds an account that is not a record of this release.", Part::Data));
    let account: Account = serde_json::from_slice(&entry.bytes()?).map_err(odd)?;
    if account_slot(account.id).as_str() != entry.slot {
        return Err(BackupError::File(format!("{} holds an account in the place of another.", Part::Data)));
    }
    let Some(key) = keys.get(&backup::data_key_of(account.id)) else {
        restored.left_out.push(account.id);
        return Ok(None);
    };
    restored.accounts += 1;
    let wrapped = key.bytes()?;
    if let Ok(key) = vault.data_key(account.environment, account.id, &wrapped)
        && open_fields(&account, &key).is_ok()
    {
        return Ok(Some((account, key)));
    }
    restored.unreadable.push(account.id);
    Ok(None)
}

/// Whether a token opens that stands behind its account. Where the account itself does not, that is said already.
fn judge_token(entry: &Entry, account: Option<&(Account, DataKey)>, restored: &mut Restored) -> Result<(), BackupError> {
    let Some((account, key)) = account.filter(|(account, _)| account_slot(account.id).as_str() == entry.slot) else {
        return Ok(());
    };
    let sealed = entry.bytes()?;
    let opens = match backup::is_previous_token(&entry.slot, &entry.name) {
        true => previous_opens(account, key, &sealed),
        false => token_opens(account, key, &sealed),
    };
    if !opens && !restored.unreadable.contains(&account.id) {
        restored.unreadable.push(account.id);
    }
    Ok(())
}

/// Whether the environment's own OAuth app for a connector opens, if it has one.
fn judge_app(entry: &Entry, keys: &SystemKeys, restored: &mut Restored) -> Result<(), BackupError> {
    let odd = |_| BackupError::File(format!("{} holds a connector that is not a record of this release.", Part::Data));
    let Install { environment, connector, oauth_app, .. } = serde_json::from_slice(&entry.bytes()?).map_err(odd)?;
    let seal = AppSeal { keys, environment, connector: &connector };
    if oauth_app.is_some_and(|app| seal.open(app).is_err()) {
        restored.unreadable_apps.push(connector);
    }
    Ok(())
}
