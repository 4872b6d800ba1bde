//! G-04: no socket to an address that is not public, unless the operator listed it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use http::{HeaderMap, Method, uri::PathAndQuery};
use http_body_util::Empty;
use rollcall::{
    connector::PageStyle,
    mapping::Path,
    upstream::{Access, Allow, Failure, Guard, ListAsk, Upstream, egress::Dial, headers::response_headers, passthrough::Pool},
};
use url::Url;

use super::{
    addresses::{PUBLIC_V4, PUBLIC_V6, blocked},
    dialling::{Names, Recorder},
    support::{NoStore, Server, access, answer, http_request, place, users},
};

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Addresses a customer or a vendor could name; none may lead to a dial.
fn hostile(names: &Names) -> Vec<String> {
    let mut urls = Vec::new();
    for (n, ip) in blocked().into_iter().enumerate() {
        urls.push(format!("https://{}/x", host(ip)));
        let name = format!("n{n}.evil.example");
        names.add(&name, &[&[&ip.to_string()]]);
        urls.push(format!("https://{name}/x"));
        let mixed = format!("m{n}.evil.example");
        names.add(&mixed, &[&["93.184.216.34", &ip.to_string()]]);
        urls.push(format!("https://{mixed}/x"));
    }
    for form in [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "017700000001",
        "127.0.0.1.",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "10.1",
        "0xa.0.0.1",
        "012.0.0.1",
        "0",
        "0x0",
        "127.0.0.1%2f",
        "１２７.0.0.1",
        "127。0。0。1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "ip6-localhost",
        "[fe80::1%25eth0]",
    ] {
        urls.push(format!("https://{form}/x"));
    }
    for name in ["localhost", "ip6-localhost"] {
        names.add(name, &[&["127.0.0.1"], &["::1"]]);
    }
    names.add("public.example", &[&["93.184.216.34"]]);
    for form in [
        "http://public.example/x",
        "http://127.0.0.1/x",
        "ftp://public.example/x",
        "file:///etc/passwd",
        "gopher://public.example/",
        "https://user@public.example/x",
        "https://user:pw@public.example/x",
        "https://:pw@public.example/x",
        "https://public.example./x",
        "https://public.example:22/x",
        "https://public.example:25/x",
        "https://public.example:80/x",
        "https://public.example:6379/x",
        "https://public.example:8080/x",
        "https://public.example:0/x",
        "https://public.example@127.0.0.1/x",
        "https://8.8.8.8/x",
        "https://[2600::1]/x",
        "https://unknown.example/x",
        "ws://public.example/",
        "data:text/plain,x",
    ] {
        urls.push(form.to_owned());
    }
    urls
}

fn recording(allow: &str) -> (Arc<Guard>, Arc<Names>, Arc<Recorder>) {
    let (names, recorder) = (Arc::new(Names::default()), Arc::new(Recorder::default()));
    let guard = Guard::over(Allow::parse(allow).unwrap(), names.clone(), recorder.clone());
    (Arc::new(guard), names, recorder)
}

pub async fn through_unified(guard: &Arc<Guard>, access: &Access) -> Failure {
    let upstream = Upstream::new(guard.clone(), Arc::new(NoStore));
    upstream.list(access, &users("[*]", PageStyle::None), &ListAsk::default()).await.unwrap_err()
}

pub async fn through_pool(guard: &Arc<Guard>, access: &Access) -> Failure {
    let pool = Pool::new(guard.clone());
    let target = PathAndQuery::from_static("/x");
    match pool.send(access, http_request(Method::GET, target, HeaderMap::new(), Empty::new())).await {
        Ok(_) => panic!("{} was answered", access.base),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn g_04_no_dial_to_a_blocked_address() {
    let (guard, names, recorder) = recording("");
    let urls = hostile(&names);
    assert!(urls.len() >= 150, "{}", urls.len());
    for url in &urls {
        // What does not parse is refused where it is typed in.
        let Ok(base) = Url::parse(url) else { continue };
        let mut access = access("https://public.example");
        access.hosts = vec![base.clone()];
        access.base = base;
        through_unified(&guard, &access).await;
        assert_eq!(recorder.take(), Vec::<IpAddr>::new(), "unified: {url}");
        through_pool(&guard, &access).await;
        assert_eq!(recorder.take(), Vec::<IpAddr>::new(), "passthrough: {url}");
    }
}

#[tokio::test]
async fn g_04_public_addresses_are_dialled() {
    let (guard, names, recorder) = recording("");
    for (n, ip) in PUBLIC_V4.iter().chain(&PUBLIC_V6).enumerate() {
        let name = format!("p{n}.example");
        names.add(&name, &[&[ip]]);
        for port in ["", ":8443"] {
            let access = access(&format!("https://{name}{port}"));
            through_unified(&guard, &access).await;
            assert_eq!(recorder.take(), [ip.parse::<IpAddr>().unwrap()], "unified: {ip}");
            through_pool(&guard, &access).await;
            assert_eq!(recorder.take(), [ip.parse::<IpAddr>().unwrap()], "passthrough: {ip}");
        }
    }
}

#[tokio::test]
async fn g_04_rebinding_is_judged_at_every_dial() {
    let (guard, names, recorder) = recording("");
    let access = access("https://rebinding.example");
    for _ in 0..3 {
        names.add(
            "rebinding.example",
            &[&["93.184.216.34"], &["127.0.0.1"], &["93.184.216.34", "10.0.0.1"], &["::ffff:10.0.0.1"]],
        );
        for wanted in [1, 0, 0, 0, 0] {
            through_pool(&guard, &access).await;
            assert_eq!(recorder.take().len(), wanted);
        }
        names.add(
            "rebinding.example",
            &[&["93.184.216.34"], &["127.0.0.1"], &["93.184.216.34", "10.0.0.1"], &["::ffff:10.0.0.1"]],
        );
        for wanted in [1, 0, 0, 0, 0] {
            through_unified(&guard, &access).await;
            assert_eq!(recorder.take().len(), wanted);
        }
    }
}

#[tokio::test]
async fn g_04_a_private_host_needs_host_and_cidr() {
    let cases = [
        ("inside.example:8443", false),
        ("10.0.0.0/8", false),
        ("inside.example:8443,10.0.0.0/8", true),
        ("inside.example:443,10.0.0.0/8", false),
        ("other.example:8443,10.0.0.0/8", false),
        ("inside.example:8443,192.168.0.0/16", false),
        ("10.1.2.3:8443", false),
        ("inside.example:8443,10.1.2.3:8443", false),
    ];
    for (allow, wanted) in cases {
        let (guard, names, recorder) = recording(allow);
        names.add("inside.example", &[&["10.1.2.3"]]);
        for scheme in ["https", "http"] {
            let access = access(&format!("{scheme}://inside.example:8443"));
            through_unified(&guard, &access).await;
            assert_eq!(!recorder.take().is_empty(), wanted, "unified {scheme} {allow}");
            through_pool(&guard, &access).await;
            assert_eq!(!recorder.take().is_empty(), wanted, "passthrough {scheme} {allow}");
        }
    }
    let (guard, _, recorder) = recording("10.1.2.3:8080");
    for (base, wanted) in [
        ("http://10.1.2.3:8080", true),
        ("http://10.1.2.3:8081", false),
        ("http://10.1.2.4:8080", false),
        ("http://[::ffff:10.1.2.3]:8080", false),
    ] {
        through_unified(&guard, &access(base)).await;
        assert_eq!(!recorder.take().is_empty(), wanted, "{base}");
        through_pool(&guard, &access(base)).await;
        assert_eq!(!recorder.take().is_empty(), wanted, "{base}");
    }
}

/// Dials one server and writes down everything.
struct Fence {
    server: SocketAddr,
    dialled: Mutex<Vec<SocketAddr>>,
}

#[async_trait]
impl Dial for Fence {
    fn admits(&self, address: SocketAddr) -> bool {
        self.dialled.lock().unwrap().push(address);
        address == self.server
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        self.dialled.lock().unwrap().push(address);
        match address == self.server {
            true => tokio::net::TcpStream::connect(address).await,
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

#[tokio::test]
async fn g_04_links_of_a_vendor_lead_nowhere_else() {
    let names = Arc::new(Names::default());
    let mut urls = hostile(&names);
    urls.extend(["//evil.example/x", "\\\\evil.example\\x", "/\\evil.example", "https://public.example/x"].map(str::to_owned));
    let links = Arc::new(urls);
    let server = {
        let links = links.clone();
        Server::start(move |seen, _| {
            let n: usize = seen.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(0);
            let body = serde_json::json!({"next": links[n], "items": [{"id": 1}]}).to_string();
            let link: String = links[n].chars().filter(char::is_ascii).collect();
            answer(200, &[("link", &format!("<{link}>; rel=\"next\""))], body.as_bytes())
        })
    };
    let address: SocketAddr = server.base.trim_start_matches("http://").parse().unwrap();
    let fence = Arc::new(Fence { server: address, dialled: Mutex::default() });
    let guard = Arc::new(Guard::over(Allow::parse(&address.to_string()).unwrap(), names, fence.clone()));
    let upstream = Upstream::new(guard, Arc::new(NoStore));
    let access = Arc::new(access(&server.base));
    for n in 0..links.len() {
        for style in [
            PageStyle::NextUrl { next: Path::parse("next").unwrap(), limit: None, max: 10 },
            PageStyle::LinkHeader { limit: None, max: 10 },
        ] {
            let users = users("items[*]", style);
            let ask = ListAsk { limit: 10, remote_query: vec![("n".into(), n.to_string())], ..ListAsk::default() };
            let refused = upstream.list(&access, &users, &ask).await;
            assert!(
                matches!(refused, Err(Failure::Egress(_) | Failure::PagingBroken(_))),
                "{}: {:?}",
                links[n],
                refused.map(|p| p.next)
            );
        }
        let mut headers = HeaderMap::new();
        if let Ok(value) = http::HeaderValue::from_str(&links[n]) {
            headers.insert("location", value);
            let kept = response_headers(headers, &place(&access, "/users"));
            assert!(!kept.contains_key("location"), "{}", links[n]);
        }
    }
    assert!(fence.dialled.lock().unwrap().iter().all(|dialled| *dialled == address));
    assert_eq!(server.seen().len(), links.len() * 2);
}

#[tokio::test]
async fn a_refusal_names_the_reason_and_not_the_query() {
    let (guard, names, _) = recording("");
    names.add("inside.example", &[&["10.1.2.3"]]);
    let failure = through_unified(&guard, &super::support::with_query(access("https://inside.example"), "api_key")).await;
    let Failure::Egress(text) = &failure else { panic!("{failure:?}") };
    assert!(text.contains("private address") && text.contains("ROLLCALL_EGRESS_ALLOW"), "{text}");
    assert!(!text.contains("api_key"));
}
