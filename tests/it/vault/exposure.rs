//! V-08: every place that takes a secret out of its wrapping, reviewed one by one.
//!
//! A new call fails the test below. Whoever adds one adds it here too, with the reason why the secret must be read there
//! and where it goes.

use std::{collections::BTreeMap, fs};

use proc_macro2::{TokenStream, TokenTree};

/// File, number of calls, why.
const REVIEWED: &[(&str, usize, &str)] = &[
    ("src/model/secret.rs", 1, "the wrapping itself: `expose` reads the inner crate's text"),
    ("src/vault/ring.rs", 4, "a root key's base64: decoded into wiped memory, looked at, written into the ring's own file"),
    ("src/config/mod.rs", 2, "the store's address: whether it is TLS, and its host without user and password for the log"),
    ("src/config/layers.rs", 1, "checks of a setting's form; messages never quote the settings that may be secret"),
    ("src/app/mod.rs", 1, "the store's address is read into host, user and password, which is a secret again"),
    ("src/store/redis/node.rs", 1, "Redis' password goes into the client's login and to that server"),
    ("src/service/accounts/verify.rs", 1, "a kept secret joins the changed fields to be verified"),
    (
        "src/service/authorize.rs",
        6,
        "a verifier is kept sealed to its state; state and the browser's binding are hashed for comparing and for the cookie's name",
    ),
    (
        "src/service/accounts/grant.rs",
        3,
        "the form of a token that a caller brings is checked, and compared with the kept one; messages never quote it",
    ),
    ("src/service/accounts/refresh.rs", 3, "a refresh token is compared with the one before it, sealed, and opened"),
    (
        "src/service/accounts/credential.rs",
        2,
        "a given secret is sealed; and looked at for the end that it names itself, in wiped memory",
    ),
    ("src/service/accounts/renew.rs", 2, "an access token and its refresh token are sealed, in memory that is wiped"),
    (
        "src/service/installs/oauth_apps.rs",
        1,
        "the form of a client's secret in the operator's file is checked; messages never quote it",
    ),
    ("src/service/accounts/open.rs", 1, "opened secrets join the stored fields for resolving, which wraps them again"),
    (
        "src/service/tokens.rs",
        3,
        "an administrator's text is hashed; a new token's text is split for its hash; a text that was verified is compared",
    ),
    ("src/upstream/access.rs", 5, "headers (marked sensitive) and query of the vendor's requests"),
    ("src/upstream/headers.rs", 2, "a query credential that is cut out of a vendor's links"),
    ("src/upstream/own.rs", 2, "the command line's own token, into the header for the gateway the operator named"),
    ("src/upstream/passthrough_target.rs", 1, "a query credential goes into the target of the vendor's request"),
    ("src/upstream/redact.rs", 9, "the texts that are cut out of a vendor's answer before it is shown"),
    ("src/upstream/query.rs", 1, "a query credential goes into the address of the vendor's request"),
    (
        "src/upstream/token/mod.rs",
        13,
        "the client's id, secret and scopes, codes, verifiers, refresh tokens, assertions and logins go into the form or the header for \
         the token endpoint",
    ),
    ("src/upstream/token/assertion.rs", 6, "the private key goes into the signer, what is signed into claims and header"),
    (
        "src/upstream/token/authorize.rs",
        5,
        "the client's id, the state and the challenge of the verifier go into the vendor's address",
    ),
    (
        "src/upstream/transport/keeper_commander/wire.rs",
        1,
        "the customer's answer key, into the cipher that opens the vendor's answers",
    ),
    ("src/http/routes/account_token.rs", 1, "the one answer that shows a new account token's text"),
    ("src/http/routes/link_token.rs", 1, "the one answer that shows a new link token's text, and the address it stands in"),
    ("src/http/routes/connect.rs", 1, "what binds a browser on its way to a vendor, into that browser's own cookie"),
    ("src/http/routes/api_token.rs", 1, "the one answer that shows a new token's text"),
    ("src/http/routes/environment.rs", 1, "the one answer that shows the text of a new environment's first token"),
    ("src/cli/serve.rs", 2, "tokens of the operator: into files of mode 0600 or once onto the terminal"),
    ("src/cli/serve_file.rs", 1, "the token of this run, into a file of mode 0600 for the commands of this machine"),
    (
        "src/cli/demo.rs",
        5,
        "the demo's tokens, of the API and of a link, printed for the person who started it, for the sandbox alone",
    ),
];

const NAMES: [&str; 3] = ["expose", "expose_secret", "expose_secret_mut"];

/// Uses of the exposing names as tokens, so that neither comments nor line breaks hide or add one.
fn calls(text: &str) -> Result<usize, String> {
    fn count(stream: TokenStream, after_fn: &mut bool) -> usize {
        let mut found = 0;
        for token in stream {
            let is_fn = matches!(&token, TokenTree::Ident(word) if word == "fn");
            found += match token {
                TokenTree::Group(group) => count(group.stream(), &mut false),
                TokenTree::Ident(word) if NAMES.contains(&word.to_string().as_str()) && !*after_fn => 1,
                _ => 0,
            };
            *after_fn = is_fn;
        }
        found
    }
    let stream: TokenStream = text.parse().map_err(|error| format!("cannot be read as Rust: {error}"))?;
    Ok(count(stream, &mut false))
}

fn compare(found: &BTreeMap<String, usize>) -> Vec<String> {
    let reviewed: BTreeMap<&str, usize> = REVIEWED.iter().map(|(file, count, _)| (*file, *count)).collect();
    let differs = |file: &str, now: usize| match reviewed.get(file).copied().unwrap_or(0) {
        listed if listed == now => None,
        listed => Some(format!("{file}: {now} exposing calls, {listed} reviewed; look at each and change REVIEWED")),
    };
    let gone = reviewed.keys().filter(|file| !found.contains_key(**file)).filter_map(|file| differs(file, 0));
    found.iter().filter_map(|(file, now)| differs(file, *now)).chain(gone).collect()
}

#[test]
fn v_08_every_exposure_is_reviewed() {
    let found: BTreeMap<String, usize> = crate::architecture::files("src", &[".rs"])
        .into_iter()
        .map(|(name, path)| {
            let count = calls(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, count)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(compare(&found), Vec::<String>::new());
    assert!(REVIEWED.iter().all(|(_, count, why)| *count > 0 && why.len() > 20), "each entry has a reason");
}

#[test]
fn the_exposure_check_can_fail() {
    for (text, count) in [
        ("fn f() { s.expose() }", 1),
        ("fn f() { s\n    .expose_secret() }", 1),
        ("fn f() { list.map(Secret::expose) }", 1),
        ("macro_rules! m { ($s:expr) => { $s.expose() } }", 1),
        ("fn expose(&self) -> &str { self.0.expose_secret() }", 1),
        ("// s.expose()\nconst T: &str = \"s.expose()\"; use secrecy::ExposeSecret;", 0),
    ] {
        assert_eq!(calls(text), Ok(count), "{text}");
    }
    assert!(calls("fn f( {").is_err());
    let mut found: BTreeMap<String, usize> = REVIEWED.iter().map(|(file, count, _)| (file.to_string(), *count)).collect();
    assert!(compare(&found).is_empty());
    found.insert("src/service/attic.rs".to_owned(), 1);
    assert_eq!(compare(&found).len(), 1, "a new call");
    found.clear();
    assert_eq!(compare(&found).len(), REVIEWED.len(), "an entry whose call is gone");
}
