//! `rollcall backup` and `rollcall restore`.

use std::{
    convert::Infallible,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure,
    door::{Door, Missing},
    harmless, print_json, settings,
};
use crate::{
    app::open_store,
    config::{GlobalArgs, Purpose},
    model::{Secret, SystemClock},
    service::backup::{Checked, Header, Line, Part, PartSum, PartWriter, Restored},
    upstream::own::Flowing,
    vault::KeyRing,
};

const PARTS: [Part; 2] = [Part::Data, Part::DataKeys];

/// Where a backup goes.
#[derive(Args)]
pub struct BackupArgs {
    /// A new folder: it gets `data.ndjson` and `data-keys.ndjson`. Keep the second apart from the first and for a shorter time;
    /// the key ring is in neither
    dir: PathBuf,
}

/// Where a backup comes from, and where to.
#[derive(Args)]
pub struct RestoreArgs {
    /// The folder of a backup
    dir: PathBuf,
    /// The keys, where they are kept elsewhere; `data-keys.ndjson` of the folder when left out
    #[arg(long, value_name = "FILE")]
    data_keys: Option<PathBuf>,
    /// The empty store to write into: `embedded:DIR` or an address such as `redis://…`; the one of the settings when left out,
    /// so that a password stays off the command line
    #[arg(long, value_name = "STORE", value_parser = secret)]
    into: Option<Secret>,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// A file that gets its name when it is whole.
struct Saving {
    to: PathBuf,
    writer: PartWriter<BufWriter<File>>,
}

/// What was saved.
struct Saved {
    header: Header,
    sums: [PartSum; 2],
}

/// Saves everything that lives for ever, while the gateway goes on.
pub async fn backup(args: BackupArgs, global: GlobalArgs) -> Result<(), Failure> {
    refuse_unless_new(&args.dir)?;
    let door = Door::open(&global, Missing::Fails).await?;
    let saved = save(&door, &args.dir).await;
    let Saved { header, sums: [data, keys] } = door.close().await.and(saved)?;
    if global.json {
        let file = |part: Part, sum: &PartSum| json!({"file": part.file(), "entries": sum.entries, "sha256": sum.sha256});
        let files = [file(Part::Data, &data), file(Part::DataKeys, &keys)];
        return print_json(&json!({"directory": args.dir, "created_at": header.created_at, "files": files}));
    }
    eprintln!(
        "Saved {} values and {} keys in {}. Keep {} apart from {}, and not as long: a deleted account is gone from a backup when no \
         copy of its key is left. The key ring is in neither.",
        data.entries,
        keys.entries,
        args.dir.display(),
        Part::DataKeys,
        Part::Data
    );
    Ok(())
}

/// A backup never goes over another one; what an interrupted one left is no backup.
fn refuse_unless_new(dir: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(dir) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(Failure::Failed(format!("{}: {why}", dir.display()))),
        Ok(entries) => entries,
    };
    for entry in entries {
        let path = entry?.path();
        if !PARTS.iter().any(|part| path == unfinished(dir, *part)) {
            return Err(Failure::Failed(format!("{} is not empty; a backup goes into a new folder", dir.display())));
        }
    }
    Ok(())
}

fn unfinished(dir: &Path, part: Part) -> PathBuf {
    dir.join(format!("{}.part", part.file()))
}

async fn save(door: &Door, dir: &Path) -> Result<Saved, Failure> {
    let mut lines = Lines::of(door.flow("/backup").await?);
    let Line::Backup(header) = lines.next().await? else { return Err(cut_off()) };
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut data = Saving::begin(dir, Part::Data, &header)?;
    let mut data_keys = Saving::begin(dir, Part::DataKeys, &header)?;
    loop {
        match lines.next().await? {
            Line::Entry(entry) => data.writer.put(&entry)?,
            Line::Key(entry) => data_keys.writer.put(&entry)?,
            Line::End { entries, keys } => {
                let sums = [data.end()?, data_keys.end()?];
                File::open(dir)?.sync_all()?;
                let whole = sums[0].entries == entries && sums[1].entries == keys;
                return if whole { Ok(Saved { header, sums }) } else { Err(cut_off()) };
            }
            Line::Failed { code, detail } => {
                return Err(Failure::Failed(format!("the backup broke off: {code}: {}", harmless(&detail))));
            }
            Line::Backup(_) => return Err(cut_off()),
        }
    }
}

fn cut_off() -> Failure {
    Failure::Failed("the backup was cut off; nothing of it can be used".to_owned())
}

impl Saving {
    fn begin(dir: &Path, part: Part, header: &Header) -> std::io::Result<Saving> {
        let to = dir.join(part.file());
        let from = unfinished(dir, part);
        // What an interrupted one left may be somebody else's to read.
        let _ = fs::remove_file(&from);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(from)?;
        Ok(Saving { to, writer: PartWriter::begin(BufWriter::new(file), part, header)? })
    }

    fn end(self) -> std::io::Result<PartSum> {
        let (mut out, sum) = self.writer.end()?;
        out.flush()?;
        out.get_ref().sync_all()?;
        let mut unfinished = self.to.clone().into_os_string();
        unfinished.push(".part");
        fs::rename(unfinished, &self.to)?;
        Ok(sum)
    }
}

/// An answer, line by line.
struct Lines {
    flowing: Flowing,
    ready: Vec<u8>,
    at: usize,
}

impl Lines {
    fn of(flowing: Flowing) -> Lines {
        Lines { flowing, ready: Vec::new(), at: 0 }
    }

    async fn next(&mut self) -> Result<Line, Failure> {
        let mut searched = self.at;
        loop {
            if let Some(length) = self.ready[searched..].iter().position(|byte| *byte == b'\n') {
                let line = &self.ready[self.at..searched + length];
                let line = serde_json::from_slice(line).map_err(|_| {
                    Failure::Failed(
                        "the gateway sends a backup of another release; use the command of its own release".to_owned(),
                    )
                });
                self.at = searched + length + 1;
                return line;
            }
            self.ready.drain(..self.at);
            (self.at, searched) = (0, self.ready.len());
            let piece = self.flowing.next().await?.ok_or_else(cut_off)?;
            self.ready.extend_from_slice(&piece);
        }
    }
}

/// Brings a backup back into an empty store.
pub async fn restore(args: RestoreArgs, global: GlobalArgs) -> Result<(), Failure> {
    let own = GlobalArgs { store: args.into.clone().or_else(|| global.store.clone()), ..global.clone() };
    let settings = settings(&own, Purpose::Tool).map_err(|why| match why {
        Failure::Usage(why) if args.into.is_some() => Failure::Usage(why.replace("flag --store:", "flag --into:")),
        why => why,
    })?;
    let (data, keys) = (args.dir.join(Part::Data.file()), args.data_keys.unwrap_or_else(|| args.dir.join(Part::DataKeys.file())));
    let ring = KeyRing::load(&settings.keys_file)?;
    let checked = Checked::read(open(&data)?, open(&keys)?, Arc::new(ring))?;
    let made = checked.header.created_at;
    let store = open_store(&settings, Arc::new(SystemClock)).await?;
    let restored = checked.write(store, open(&data)?).await?;
    if global.json {
        let Restored { accounts, left_out, unreadable, unreadable_apps } = restored;
        return print_json(&json!({
            "store": settings.store.to_string(), "created_at": made, "accounts": accounts, "left_out": left_out,
            "unreadable": unreadable, "unreadable_apps": unreadable_apps,
        }));
    }
    eprintln!("Restored {} accounts into {}, as they were at {made}.", restored.accounts, settings.store);
    tell("Left out, because their keys are not among the keys", &json!(restored.left_out));
    tell("To be linked again, because they were linked anew between data and keys", &json!(restored.unreadable));
    tell("OAuth apps of environments to be given anew, because they do not open", &json!(restored.unreadable_apps));
    Ok(())
}

fn tell(what: &str, named: &Value) {
    let ids: Vec<&str> = named.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !ids.is_empty() {
        eprintln!("{what}: {}", ids.join(", "));
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))?;
    Ok(BufReader::with_capacity(256 * 1024, file))
}
