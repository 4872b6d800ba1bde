//! The guard before a proxy: what it lets pass and where the sockets go, on both clients.

use std::{net::IpAddr, sync::Arc};

use rollcall::upstream::{Allow, EgressProxy, Failure, Guard};

use super::{
    dialling::{Names, Recorder},
    egress::{through_pool, through_unified},
    support::access,
};

fn guard(allow: &str, proxy: &str) -> (Arc<Guard>, Arc<Names>, Arc<Recorder>) {
    let (names, recorder) = (Arc::new(Names::default()), Arc::new(Recorder::default()));
    let guard = Guard::over(Allow::parse(allow).unwrap(), names.clone(), recorder.clone());
    // What this process serves itself is called past the proxy.
    let own = Allow::parse("127.0.0.1:9999").unwrap();
    (Arc::new(guard.through(Some(EgressProxy::parse(proxy).unwrap()), own)), names, recorder)
}

#[tokio::test]
async fn a_name_is_judged_by_its_own_addresses_before_the_proxy_is_asked() {
    let (guard, names, recorder) = guard("", "http://proxy.internal:3128");
    names.add("proxy.internal", &[&["10.0.0.9"]]);
    names.add("inside.example", &[&["10.1.2.3"]]);
    names.add("mixed.example", &[&["93.184.216.34", "10.1.2.3"]]);
    for base in [
        "https://inside.example",
        "https://mixed.example",
        "https://proxy.internal",
        "https://proxy.internal:3128",
        "https://10.0.0.9",
    ] {
        let access = access(base);
        for failure in [through_unified(&guard, &access).await, through_pool(&guard, &access).await] {
            assert!(matches!(failure, Failure::Egress(_)), "{base}: {failure:?}");
        }
    }
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
}

#[tokio::test]
async fn sockets_go_to_the_proxy_alone() {
    let (guard, names, recorder) = guard("127.0.0.1:9999", "http://proxy.internal:3128");
    names.add("proxy.internal", &[&["10.0.0.9"]]);
    names.add("public.example", &[&["93.184.216.34"]]);
    for (base, dialled) in [("https://public.example", "10.0.0.9"), ("https://127.0.0.1:9999", "127.0.0.1")] {
        let dialled: IpAddr = dialled.parse().unwrap();
        let access = access(base);
        let only_there = |failure: Failure| {
            assert!(matches!(failure, Failure::Unreachable(_)), "{base}: {failure:?}");
            let seen = recorder.take();
            assert!(!seen.is_empty() && seen.iter().all(|address| *address == dialled), "{base}: {seen:?}");
        };
        only_there(through_unified(&guard, &access).await);
        only_there(through_pool(&guard, &access).await);
    }
}

#[test]
fn the_proxys_address_is_read_or_refused_without_being_quoted() {
    for good in ["http://proxy:3128", "http://proxy", "http://10.0.0.1:8080/", "http://[::1]:3128", "http://u:p%40@proxy:1"] {
        assert!(EgressProxy::parse(good).is_ok(), "{good}");
    }
    for (bad, word) in [
        ("secret-proxy:3128", "http://"),
        ("https://secret:secret@proxy", "http://"),
        ("socks5://secret@proxy", "http://"),
        ("http://", "not an address"),
        ("http://secret:secret@proxy/path", "more than"),
        ("http://proxy?secret", "more than"),
        ("http://proxy:0", "port"),
        ("http://proxy.:1", "host"),
        ("http://secret%3Ax:secret@proxy", "colon"),
        ("http://secret@pro xy", "not an address"),
    ] {
        let error = EgressProxy::parse(bad).err().unwrap_or_else(|| panic!("{bad}"));
        assert!(error.contains(word) && !error.contains("secret"), "{bad}: {error}");
    }
}
