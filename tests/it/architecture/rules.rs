//! The rules themselves, as tables, and made-up sources that show each of them can fail.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{self, Named};

/// Rooms in their order: a room imports from rooms with a smaller number. Rooms of one number do not see each other, but
/// for the words (0) and the wiring (6).
const ROOMS: [(&str, u8); 16] = [
    ("model", 0),
    ("error", 0),
    ("mapping", 1),
    ("store", 1),
    ("vault", 1),
    ("connector", 2),
    ("upstream", 3),
    ("service", 4),
    ("http", 5),
    ("sandbox", 5),
    ("jobs", 5),
    ("app", 6),
    ("config", 6),
    ("cli", 6),
    ("main", 6),
    ("lib", 6),
];
const WIRING: u8 = 6;

/// An outside crate and the only rooms, or folders of rooms, that may name it. `*` is everywhere.
const CRATES: &[(&str, &[&str])] = &[
    // The web server stops at the ways in; `serve` starts and stops it.
    ("actix_http", &["http", "sandbox", "app"]),
    ("actix_server", &["http"]),
    ("actix_service", &["http"]),
    ("actix_tls", &["http"]),
    ("actix_web", &["http", "sandbox", "app", "cli"]),
    ("memchr", &["http/turn", "upstream/redact"]),
    ("utoipa_actix_web", &["http", "app"]),
    ("utoipa_swagger_ui", &["http", "app"]),
    ("utoipa", &["model", "error", "mapping", "connector", "service", "http", "sandbox", "app", "cli"]),
    // The network client stops at `upstream`.
    ("hyper", &["upstream"]),
    ("hyper_util", &["upstream"]),
    // The relay hands bodies from one side to the other and reads the frames of both.
    ("http_body", &["upstream", "http/relay", "http/routes/passthrough"]),
    ("http_body_util", &["upstream", "http/routes/passthrough"]),
    ("httparse", &["http/relay"]),
    ("ipnet", &["upstream"]),
    ("oauth2", &["upstream"]),
    ("reqwest", &["upstream"]),
    ("rustls", &["upstream", "store", "http/tls", "app"]),
    ("rustls_native_certs", &["upstream", "store"]),
    ("tower_service", &["upstream"]),
    ("x509_parser", &["connector", "upstream"]),
    ("tokio_rustls", &["upstream", "store"]),
    ("webpki_roots", &["upstream", "store"]),
    ("brotli_decompressor", &["upstream"]),
    ("flate2", &["upstream", "sandbox"]),
    // Storage.
    ("redb", &["store"]),
    ("redis", &["store"]),
    // Cryptography; Commander's encrypted answers are the one protocol that needs a cipher, pins need a digest.
    ("aws_lc_rs", &["vault", "upstream/trust", "upstream/transport/keeper_commander", "sandbox/keeper_commander"]),
    // A signature is nobody's but the vault's.
    ("jsonwebtoken", &["upstream", "vault/account_token"]),
    ("secrecy", &["model", "vault"]),
    ("zeroizing_alloc", &["main"]),
    ("subtle", &["vault"]),
    ("zeroize", &["model", "vault", "upstream", "service", "config", "app", "cli"]),
    // Files of connectors.
    ("pulldown_cmark", &["http/ui/markdown"]),
    ("rust_embed", &["connector", "http"]),
    ("schemars", &["model", "mapping", "connector", "cli"]),
    ("serde_saphyr", &["mapping", "connector", "cli"]),
    // Tasks and time: the words (but for the one place that starts tasks, and what a task is for), the mapping, the connectors and the vault know
    // neither.
    ("tokio", &["model/tasks", "model/trace", "store", "upstream", "service", "http", "sandbox", "jobs", "app", "cli", "main"]),
    ("async_trait", &["store", "upstream", "service", "http", "sandbox", "jobs", "app"]),
    ("futures_util", &["store", "upstream", "service", "http", "sandbox", "jobs", "app", "cli"]),
    ("arc_swap", &["vault", "connector", "upstream", "service", "http", "jobs", "app"]),
    ("moka", &["service"]),
    ("thread_local", &["service", "store/redis", "upstream"]),
    // Words of the web.
    ("http", &["connector", "upstream", "service", "http", "sandbox", "app", "cli"]),
    ("socket2", &["http/server"]),
    ("percent_encoding", &["store/redis", "connector", "upstream", "service", "http", "sandbox", "cli"]),
    ("url", &["store", "connector", "upstream", "service", "http", "sandbox", "app", "config", "cli"]),
    // The operator's side.
    ("clap", &["config", "cli", "main"]),
    ("clap_complete", &["cli"]),
    ("toml", &["config"]),
    ("rustix", &["store", "vault", "app", "cli", "main"]),
    ("metrics", &["store", "upstream", "service", "http", "jobs", "app"]),
    ("metrics_exporter_prometheus", &["http", "app", "cli/serve"]),
    ("tracing", &["store", "connector", "upstream", "service", "http", "sandbox", "jobs", "app", "config", "cli", "main"]),
    ("tracing_subscriber", &["app", "config", "cli", "main"]),
    // Plain data.
    ("base64", &["mapping", "store", "vault", "connector", "upstream", "service", "http", "sandbox", "app", "cli"]),
    ("bytes", &["*"]),
    ("jiff", &["*"]),
    ("serde", &["*"]),
    ("serde_json", &["*"]),
    ("serde_path_to_error", &["http"]),
    ("strsim", &["model"]),
    ("thiserror", &["*"]),
    ("uuid", &["*"]),
];

/// Where a vendor may be named.
const VENDOR_ROOMS: [&str; 2] = ["src/upstream/transport/", "src/sandbox/"];
/// Names of protocols that hold a vendor's name.
const PROTOCOLS: [&str; 3] = ["keeper_commander", "KeeperCommander", "Keeper Commander"];

/// The most lines a file may have.
const LINES: usize = 600;

/// The rules with what they need to know of the project.
pub(crate) struct Rules {
    dependencies: BTreeSet<String>,
    slugs: BTreeSet<String>,
}

impl Rules {
    pub(crate) fn new(dependencies: BTreeSet<String>, slugs: BTreeSet<String>) -> Self {
        Self { dependencies, slugs }
    }

    /// Rooms named by rooms that must not know them.
    pub(crate) fn directions(&self, file: &str, text: &str) -> Vec<String> {
        let ranks: BTreeMap<&str, u8> = ROOMS.into();
        let room = room_of(file);
        let Some(own) = ranks.get(room) else {
            return vec![format!("{file}: the room `{room}` stands on no floor; add it to ROOMS")];
        };
        let named = match paths::names(file, text) {
            Ok(named) => named.paths,
            Err(error) => return vec![error],
        };
        let found: BTreeSet<String> = named
            .iter()
            .filter(|n| !n.global && matches!(n.segments[0].as_str(), "crate" | "rollcall"))
            .filter_map(|n| {
                let target = n.segments.get(1).map_or("", String::as_str);
                match ranks.get(target) {
                    _ if target == room => None,
                    Some(rank) if rank < own || (rank == own && (*own == 0 || *own == WIRING)) => None,
                    Some(_) => Some(format!("{file}:{}: `{room}` must not import from `{target}`", n.line)),
                    None if *own == WIRING || room == target => None,
                    None => Some(format!("{file}:{}: `crate::{target}` names no room", n.line)),
                }
            })
            .collect();
        found.into_iter().collect()
    }

    /// Outside crates named by rooms that must not know them.
    pub(crate) fn crates(&self, file: &str, text: &str) -> Vec<String> {
        let table: BTreeMap<&str, &[&str]> = CRATES.iter().copied().collect();
        let names = match paths::names(file, text) {
            Ok(names) => names,
            Err(error) => return vec![error],
        };
        let folder = file.trim_start_matches("src/").trim_end_matches(".rs");
        let outside =
            |n: &&Named| self.dependencies.contains(&n.segments[0]) && (n.global || !names.modules.contains(&n.segments[0]));
        names
            .paths
            .iter()
            .filter(outside)
            .filter(|n| {
                let allowed = table.get(n.segments[0].as_str()).copied().unwrap_or_default();
                let within = |place: &str| place == "*" || folder == place || folder.starts_with(&format!("{place}/"));
                !allowed.iter().any(|place| within(place))
            })
            .map(|n| format!("{file}:{}: the crate `{}` must not be used here", n.line, n.segments[0]))
            .collect()
    }

    /// Dependencies that no room was given.
    pub(crate) fn unknown_crates(&self) -> Vec<String> {
        let known: BTreeSet<&str> = CRATES.iter().map(|(name, _)| *name).collect();
        let unknown = self.dependencies.iter().filter(|name| !known.contains(name.as_str()));
        unknown.map(|name| format!("Cargo.toml: the crate `{name}` has no room; add it to CRATES")).collect()
    }

    /// Vendors named where only data and protocols may name them.
    pub(crate) fn vendors(&self, file: &str, text: &str) -> Vec<String> {
        if VENDOR_ROOMS.iter().any(|room| file.starts_with(room)) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = PROTOCOLS.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
            let forms = |slug: &String| [slug.clone(), slug.replace('-', "_"), slug.replace('-', "")];
            for slug in self.slugs.iter().filter(|slug| forms(slug).iter().any(|form| names_vendor(&line, form))) {
                found.push(format!("{file}:{}: names the vendor `{slug}`; vendors are data in connectors/", number + 1));
            }
        }
        found
    }
}

fn room_of(file: &str) -> &str {
    file.trim_start_matches("src/").split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The slug as a word or as part of an identifier, whatever the case, but not inside another word (`bookkeeper`).
fn names_vendor(line: &str, slug: &str) -> bool {
    let lower = line.to_lowercase();
    lower.match_indices(slug).any(|(at, _)| {
        let before = lower[..at].chars().next_back();
        let after = lower[at + slug.len()..].chars().next();
        let starts = before.is_none_or(|c| !c.is_alphanumeric())
            || line.get(at..).is_some_and(|rest| rest.starts_with(char::is_uppercase));
        let ends = after.is_none_or(|c| !c.is_lowercase())
            || line.get(at + slug.len()..).is_some_and(|rest| rest.starts_with(char::is_uppercase));
        starts && ends
    })
}

/// Files longer than anybody reads.
pub(crate) fn length(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LINES { vec![format!("{file}: {lines} lines; at most {LINES}")] } else { Vec::new() }
}

/// Words that put work off. Spelled in two halves, because this file is read too.
pub(crate) fn leftovers(file: &str, text: &str) -> Vec<String> {
    let words =
        [("to", "do!"), ("TO", "DO"), ("FIX", "ME"), ("unimple", "mented!"), ("#[ig", "nore")].map(|(a, b)| format!("{a}{b}"));
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(word.as_str())) {
            found.push(format!("{file}:{}: `{word}`", number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let dependencies = ["actix_web", "reqwest", "redis", "aws_lc_rs", "http", "serde", "tokio"].map(String::from);
        Rules::new(dependencies.into(), ["keeper", "connectwise-psa"].map(String::from).into())
    }

    #[track_caller]
    fn one(found: Vec<String>, part: &str) {
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(part), "{found:?}");
    }

    #[test]
    fn a_forbidden_import_is_found_in_every_form() {
        let forms = [
            "use crate::http::Caller;",
            "use crate::{model::Slug, http::{self, Caller}};",
            "pub use crate::http as web;",
            "fn f() -> crate::http::Caller { loop {} }",
            "fn f() { let _: Vec<crate::http::Caller> = Vec::new(); }",
            "macro_rules! m { () => { $crate::http::f() } }",
            "struct S { #[serde(default = \"crate::http::f\")] a: u8 }",
            "mod inner { use super::super::super::http::Caller; }",
            "fn f() { x::<crate::http::Caller>() }",
            "use rollcall::http::Caller;",
        ];
        for text in forms {
            one(rules().directions("src/store/embedded.rs", text), "`store` must not import from `http`");
        }
    }

    #[test]
    fn the_order_holds_within_floor_one() {
        for (file, target) in [
            ("src/mapping/path.rs", "store"),
            ("src/store/mod.rs", "vault"),
            ("src/vault/mod.rs", "connector"),
            ("src/connector/mod.rs", "upstream"),
            ("src/upstream/mod.rs", "service"),
            ("src/service/mod.rs", "http"),
            ("src/http/mod.rs", "sandbox"),
            ("src/sandbox/mod.rs", "app"),
            ("src/model/ids.rs", "mapping"),
        ] {
            one(rules().directions(file, &format!("use crate::{target}::X;")), &format!("from `{target}`"));
        }
    }

    #[test]
    fn allowed_imports_pass() {
        for (file, text) in [
            ("src/http/routes/user.rs", "use crate::{service::Services, model::{self, Slug}, error::Error};"),
            ("src/http/routes/user.rs", "use super::super::problem::Problem; use http::HeaderName;"),
            ("src/store/mod.rs", "pub mod redis; mod tests { use super::*; use super::Store; }"),
            ("src/config/mod.rs", "mod tests { use super::store; }"),
            ("src/app/mod.rs", "use crate::http; use crate::config::Settings;"),
            ("src/model/ids.rs", "use crate::error::Error; /// See [`crate::http`].\nstruct A;"),
        ] {
            assert_eq!(rules().directions(file, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_placed_is_an_error() {
        one(rules().directions("src/attic/mod.rs", ""), "stands on no floor");
        one(rules().directions("src/store/mod.rs", "use crate::*;"), "names no room");
        one(rules().directions("src/store/mod.rs", "fn f( { "), "cannot be read as Rust");
        one(rules().crates("src/store/mod.rs", "fn f() { \"open"), "cannot be read as Rust");
    }

    #[test]
    fn an_outside_crate_is_found_in_every_form() {
        for text in [
            "use reqwest::Client;",
            "use reqwest;",
            "fn f(c: &reqwest::Client) {}",
            "fn f() -> ::reqwest::Client {}",
            "use {serde::Serialize, reqwest as r};",
        ] {
            one(rules().crates("src/service/directory/mod.rs", text), "`reqwest` must not be used here");
        }
        one(rules().crates("src/upstream/client.rs", "use aws_lc_rs::aead;"), "aws_lc_rs");
        one(rules().crates("src/mapping/table.rs", "#[tokio::main] fn f() {}"), "tokio");
        one(rules().crates("src/http/mod.rs", "use redis::Client;"), "redis");
        one(Rules::new(["brand_new".to_owned()].into(), [].into()).unknown_crates(), "has no room");
    }

    #[test]
    fn allowed_crates_pass() {
        for (file, text) in [
            ("src/upstream/transport/keeper_commander/answer.rs", "use aws_lc_rs::aead;"),
            ("src/upstream/client.rs", "use reqwest::Client; use http::Uri;"),
            ("src/store/mod.rs", "pub mod redis; use self::redis::Redis; fn f() { redis::open() }"),
            ("src/vault/mod.rs", "use crate::http::X; // reqwest::Client"),
            ("src/vault/mod.rs", "fn f() { a.reqwest(); x::reqwest::y() }"),
        ] {
            assert_eq!(rules().crates(file, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(length("src/a.rs", &"x\n".repeat(600)).is_empty());
        one(length("src/a.rs", &"x\n".repeat(601)), "601 lines");
    }

    #[test]
    fn a_vendors_name_is_found() {
        for text in [
            "\"keeper\"",
            "// Keeper says so",
            "fn keeper_users()",
            "struct KeeperUser;",
            "fn ask_keeper()",
            "MyKeeper",
            "KEEPER_URL",
        ] {
            one(rules().vendors("src/service/link/mod.rs", text), "names the vendor `keeper`");
        }
        one(rules().vendors("src/http/mod.rs", "connectwise_psa"), "connectwise-psa");
        for text in ["a bookkeeper", "keepers of the house", "keeper_commander", "Transport::KeeperCommander", "timekeeper_x"] {
            assert_eq!(rules().vendors("src/service/link/mod.rs", text), Vec::<String>::new(), "{text}");
        }
        assert!(rules().vendors("src/sandbox/keeper_commander.rs", "keeper").is_empty());
        assert!(rules().vendors("src/upstream/transport/keeper_commander/mod.rs", "keeper").is_empty());
    }

    #[test]
    fn work_put_off_is_found() {
        for (a, b) in
            [("to", "do!()"), ("// TO", "DO later"), ("# FIX", "ME"), ("unimple", "mented!()"), ("#[ig", "nore = \"slow\"]")]
        {
            assert_eq!(leftovers("src/a.rs", &format!("\n{a}{b}")).len(), 1, "{a}{b}");
        }
        assert!(leftovers("src/a.rs", "let todos = 1;").is_empty());
    }
}
