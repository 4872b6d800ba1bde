//! `rollcall doctor`: whether keys, store, connectors and exposure are as recommended.

use std::{net::IpAddr, os::unix::fs::MetadataExt, path::Path};

use serde::Serialize;
use serde_json::json;

use super::{Failure, print_data, print_json, serve_file::ServeFile, settings};
use crate::{
    app::Core,
    config::{GlobalArgs, Purpose, Settings, StoreSetting},
    connector::Catalog,
    model::SystemClock,
};

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

#[derive(Serialize)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    detail: String,
}

/// Looks at everything; fails when something is bad.
pub async fn doctor(global: GlobalArgs) -> Result<(), Failure> {
    let settings = settings(&global, Purpose::Tool)?;
    let mut findings = vec![keys(&settings), exposure(&settings), egress(&settings)];
    findings.extend(connectors(&settings));
    findings.extend(store(&settings).await);
    if global.json {
        print_json(&json!({"findings": findings}))?;
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Good => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Bad => "BAD    ",
            };
            print_data(&format!("{mark}  {:<10}  {}", finding.about, finding.detail))?;
        }
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        bad => Err(Failure::Failed(format!("{bad} of {} findings are bad", findings.len()))),
    }
}

fn finding(about: &'static str, verdict: Verdict, detail: impl Into<String>) -> Finding {
    Finding { about, verdict, detail: detail.into() }
}

fn keys(settings: &Settings) -> Finding {
    let file = settings.keys_file.display();
    if !settings.keys_file.exists() {
        return match settings.store {
            StoreSetting::Embedded(_) => finding("keys", Verdict::Good, format!("{file} will be made at the first start")),
            StoreSetting::Redis(_) => {
                finding("keys", Verdict::Bad, format!("{file} does not exist; with Redis the key ring must be given"))
            }
        };
    }
    match crate::vault::KeyRing::load(&settings.keys_file) {
        Err(why) => finding("keys", Verdict::Bad, why.to_string()),
        Ok(_) if same_folder(&settings.keys_file, &settings.store) => {
            finding("keys", Verdict::Warning, format!("{file} lies inside the store's folder; a copy of the folder holds both"))
        }
        Ok(ring) => finding("keys", Verdict::Good, format!("{file}: primary key {}", ring.primary_id())),
    }
}

fn same_folder(keys: &Path, store: &StoreSetting) -> bool {
    let StoreSetting::Embedded(folder) = store else { return false };
    let inode = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    keys.parent().and_then(inode).is_some_and(|parent| inode(folder) == Some(parent))
}

fn exposure(settings: &Settings) -> Finding {
    let listens_outside = match settings.listen.ip() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback(),
    };
    match (&settings.public_url, listens_outside) {
        (None, true) => finding(
            "exposure",
            Verdict::Warning,
            format!("{} is reachable from outside and `ROLLCALL_PUBLIC_URL` is not set: any `Host` is accepted", settings.listen),
        ),
        (Some(url), _) if url.scheme() == "http" => {
            finding("exposure", Verdict::Warning, "the public address is not https: tokens travel in the clear")
        }
        _ => finding("exposure", Verdict::Good, format!("listens on {}", settings.listen)),
    }
}

fn egress(settings: &Settings) -> Finding {
    match &settings.egress_allow {
        none if none.is_empty() => finding("egress", Verdict::Good, "no private address can be called"),
        some => finding("egress", Verdict::Warning, format!("these private addresses can be called: {some}")),
    }
}

fn connectors(settings: &Settings) -> Vec<Finding> {
    match Catalog::load(settings.connectors_dir.as_deref()) {
        Err(problems) => {
            vec![finding("connectors", Verdict::Bad, format!("the built-in connectors have {} mistakes", problems.len()))]
        }
        Ok(catalog) if catalog.problems().is_empty() => {
            vec![finding("connectors", Verdict::Good, format!("{} loaded", catalog.all().count()))]
        }
        Ok(catalog) => {
            let shown = catalog.problems().iter().map(ToString::to_string);
            shown.map(|text| finding("connectors", Verdict::Bad, text)).collect()
        }
    }
}

/// Asks the gateway that runs on this folder, else opens the store itself.
async fn store(settings: &Settings) -> Vec<Finding> {
    if let Some(found) = running(settings).await {
        return vec![found];
    }
    if let StoreSetting::Embedded(folder) = &settings.store
        && !folder.exists()
    {
        return vec![finding("store", Verdict::Good, format!("{} will be made at the first start", folder.display()))];
    }
    match Core::open(settings, std::sync::Arc::new(SystemClock), None, &[]).await {
        Err(why) => vec![finding("store", Verdict::Bad, why.to_string())],
        Ok(core) if core.warnings.is_empty() => vec![finding("store", Verdict::Good, settings.store.to_string())],
        Ok(core) => core.warnings.into_iter().map(|warning| finding("store", Verdict::Warning, warning)).collect(),
    }
}

async fn running(settings: &Settings) -> Option<Finding> {
    let file = ServeFile::read(settings)?;
    let url = file.url.clone();
    let api = file.api().ok()?;
    let (status, answer) = api.call(http::Method::GET, "/readyz", None).await.ok()?;
    let verdict = if status == 200 { Verdict::Good } else { Verdict::Bad };
    Some(finding("store", verdict, format!("a gateway runs at {}: {answer}", url)))
}
