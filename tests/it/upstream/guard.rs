//! G-04 at the guard itself, rule by rule, without a client.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rollcall::upstream::{
    Allow, EgressProxy, Guard,
    egress::{Dial, DialError, Resolve, System},
};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::{
    addresses::{PUBLIC_V4, PUBLIC_V6, blocked},
    dialling::{Names, Recorder},
};

fn guard(allow: &str) -> (Guard, Arc<Names>, Arc<Recorder>) {
    let (names, recorder) = (Arc::new(Names::default()), Arc::new(Recorder::default()));
    (Guard::over(Allow::parse(allow).unwrap(), names.clone(), recorder.clone()), names, recorder)
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn g_04_an_address_is_judged_by_its_form() {
    for (allow, address, refusal) in [
        ("", "https://public.example/x?y", None),
        ("", "https://public.example:8443", None),
        ("", "https://public.example:444", Some("port 444 is only open")),
        ("other.example:444", "https://public.example:444", Some("port 444 is only open")),
        ("public.example:444", "https://public.example:444", None),
        ("public.example:444", "https://public.example", None),
        ("", "http://public.example", Some("http is only for hosts")),
        ("public.example:443", "http://public.example", Some("http is only for hosts")),
        ("public.example:80", "http://public.example", None),
        ("public.example:8080", "http://public.example:8080", None),
        ("public.example:21", "ftp://public.example", Some("the scheme `ftp` is not https")),
        ("", "data:text/plain,x", Some("the scheme `data` is not https")),
        ("", "https://user@public.example", Some("user name or password")),
        ("", "https://:pw@public.example", Some("user name or password")),
        ("", "https://user:pw@public.example", Some("user name or password")),
        ("public.example:443", "https://user@public.example", Some("user name or password")),
        ("", "https://public.example.", Some("ends with a dot")),
        ("", "https://8.8.8.8", Some("must be a name")),
        ("8.8.8.0/24", "https://8.8.8.8", None),
        ("8.8.9.0/24", "https://8.8.8.8", Some("must be a name")),
        ("8.8.8.8:443", "https://8.8.8.8", None),
        ("", "https://[2600::1]", Some("must be a name")),
        ("2600::/16", "https://[2600::1]", None),
        ("10.0.0.0/8", "https://10.1.2.3", Some("10.1.2.3 is a private address")),
        ("10.1.2.3:443", "https://10.1.2.3", None),
        ("10.1.2.3:444", "https://10.1.2.3", Some("10.1.2.3 is a private address")),
        ("[::1]:9000", "http://[::1]:9000", None),
        ("[::1]:9000", "https://[::1]", Some("::1 is a loopback address")),
    ] {
        let (guard, ..) = guard(allow);
        match (guard.check(&url(address)), refusal) {
            (Ok(()), None) => {}
            (Err(text), Some(part)) => assert!(text.contains(part), "{allow} {address}: {text}"),
            (found, _) => panic!("{allow} {address}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn g_04_every_range_is_refused_as_a_literal_and_as_an_answer() {
    let (guard, names, recorder) = guard("");
    for (n, address) in blocked().into_iter().enumerate() {
        let literal = SocketAddr::new(address, 443).to_string();
        assert!(guard.check(&url(&format!("https://{literal}"))).unwrap_err().contains(" is "), "{address}");
        assert!(matches!(guard.resolve(literal.rsplit_once(':').unwrap().0, 443).await, Err(DialError::Refused(_))), "{address}");
        let name = format!("n{n}.example");
        names.add(&name, &[&["93.184.216.34", &address.to_string()]]);
        assert!(matches!(guard.resolve(&name, 443).await, Err(DialError::Refused(text)) if text.contains("resolves to")));
        assert!(matches!(guard.dial(&name, 443).await, Err(DialError::Refused(_))));
    }
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
    for (n, address) in PUBLIC_V4.iter().chain(&PUBLIC_V6).enumerate() {
        let name = format!("p{n}.example");
        names.add(&name, &[&[address]]);
        assert_eq!(guard.resolve(&name, 8443).await, Ok(vec![SocketAddr::new(ip(address), 8443)]));
        assert!(matches!(guard.dial(&name, 8443).await, Err(DialError::Unreachable(_))));
        assert_eq!(recorder.take(), [ip(address)]);
    }
}

/// What a range is called shows that the right row of the table was found.
#[tokio::test]
async fn g_04_a_refusal_says_what_the_address_is() {
    let (guard, names, _) = guard("");
    for (address, what) in [
        ("0.1.2.3", "this host"),
        ("100.100.0.1", "a carrier's shared address"),
        ("169.254.169.254", "a link-local address"),
        ("192.168.1.1", "a private address"),
        ("198.19.0.1", "a benchmarking address"),
        ("239.0.0.1", "a multicast address"),
        ("250.0.0.1", "a reserved address"),
        ("168.63.129.16", "a cloud platform's own address"),
        ("::", "the unspecified address"),
        ("::1", "a loopback address"),
        ("::2", "not a global unicast address"),
        ("::ffff:10.0.0.1", "an IPv4-mapped address"),
        ("64:ff9b::1", "a NAT64 address"),
        ("2001::1", "a protocol assignment"),
        ("2001:db8::1", "a documentation address"),
        ("2002::1", "a 6to4 address"),
        ("fc00::1", "a private address"),
        ("fe80::1", "a link-local address"),
        ("ff02::1", "a multicast address"),
        ("4000::1", "not a global unicast address"),
        ("6001:db8::1", "not a global unicast address"),
    ] {
        names.add("x.example", &[&[address]]);
        let refused = guard.resolve("x.example", 443).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("{}, which is {what}", ip(address))), "{address}: {refused}");
    }
}

#[tokio::test]
async fn g_04_a_name_that_is_none_or_resolves_to_nothing_is_not_dialled() {
    let (guard, names, recorder) = guard("10.1.2.3:8443,inside.example:8443,10.0.0.0/8");
    names.add("nowhere.example", &[]);
    names.add("public.example.", &[&["93.184.216.34"]]);
    names.add("", &[&["93.184.216.34"]]);
    names.add("inside.example", &[&["10.1.2.3", "10.1.2.4"]]);
    names.add("outside.example", &[&["10.1.2.3"]]);
    for (host, port, wanted) in [
        ("nowhere.example", 443, "the name nowhere.example does not resolve"),
        ("unknown.example", 443, "the name unknown.example does not resolve"),
        ("public.example.", 443, "the host ends with a dot"),
        ("", 443, "the address has no host"),
        ("inside.example", 443, "which is a private address"),
        ("outside.example", 8443, "which is a private address"),
        ("10.1.2.3", 443, "10.1.2.3 is a private address"),
        ("[::1]", 8443, "::1 is a loopback address"),
        ("8.8.8.8", 443, "must be a name"),
    ] {
        let refused = guard.resolve(host, port).await.unwrap_err().to_string();
        assert!(refused.contains(wanted), "{host}:{port}: {refused}");
        assert_eq!(guard.dial(host, port).await.unwrap_err().to_string(), refused);
    }
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
    assert_eq!(guard.resolve("10.1.2.3", 8443).await, Ok(vec!["10.1.2.3:8443".parse().unwrap()]));
    let both = ["10.1.2.3:8443", "10.1.2.4:8443"].map(|address| address.parse().unwrap());
    assert_eq!(guard.resolve("inside.example", 8443).await, Ok(both.to_vec()));
    assert!(guard.dial("inside.example", 8443).await.is_err());
    assert_eq!(recorder.take(), [ip("10.1.2.3"), ip("10.1.2.4")]);
}

/// Opens one address, lets another wait for ever, and knows no other.
struct Choosy {
    opens: SocketAddr,
    hangs: IpAddr,
}

#[async_trait]
impl Dial for Choosy {
    fn admits(&self, address: SocketAddr) -> bool {
        address == self.opens
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if address.ip() == self.hangs {
            std::future::pending::<()>().await;
        }
        match address == self.opens {
            true => TcpStream::connect(address).await,
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

#[tokio::test]
async fn a_name_s_addresses_share_the_time_and_the_socket_has_no_delay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let opens = listener.local_addr().unwrap();
    let names = Arc::new(Names::default());
    names.add("slow.example", &[&["127.0.0.3", "127.0.0.2", "127.0.0.1"]]);
    names.add("shut.example", &[&["127.0.0.2"]]);
    let port = opens.port();
    let allow = format!("slow.example:{port},shut.example:{port},127.0.0.0/8");
    let guard = Guard::over(Allow::parse(&allow).unwrap(), names, Arc::new(Choosy { opens, hangs: ip("127.0.0.3") }));
    let begun = Instant::now();
    let stream = guard.dial("slow.example", port).await.unwrap();
    assert_eq!((stream.peer_addr().unwrap(), stream.nodelay().unwrap()), (opens, true));
    assert!(begun.elapsed() > Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let shut = guard.dial("shut.example", port).await;
    assert!(matches!(&shut, Err(DialError::Unreachable(text)) if text == "shut.example: connection refused"), "{shut:?}");
}

#[tokio::test]
async fn a_client_that_opens_its_own_sockets_asks_the_dialler_about_literals() {
    let (guard, _, recorder) = guard("10.1.2.3:443,[::1]:9000");
    assert_eq!(guard.clear(&url("https://public.example")), Ok(()));
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
    for (address, asked) in [("https://10.1.2.3", "10.1.2.3"), ("https://[::1]:9000", "::1")] {
        assert!(matches!(guard.clear(&url(address)), Err(DialError::Unreachable(_))), "{address}");
        assert_eq!(recorder.take(), [ip(asked)]);
    }
    assert!(matches!(guard.clear(&url("https://10.1.2.4")), Err(DialError::Refused(_))));
    assert!(matches!(guard.clear(&url("http://public.example")), Err(DialError::Refused(_))));
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
    // The machine's own dialler leaves it at the guard's word.
    assert_eq!(Guard::new(Allow::parse("10.1.2.3:443").unwrap()).clear(&url("https://10.1.2.3")), Ok(()));
}

#[tokio::test]
async fn the_machine_s_own_resolver_and_sockets_work() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(System.resolve("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    assert!(!System.resolve("localhost").await.unwrap().is_empty());
    assert_eq!(System.dial(address).await.unwrap().peer_addr().unwrap(), address);
    let guard = Guard::new(Allow::parse(&address.to_string()).unwrap());
    assert_eq!(guard.dial("127.0.0.1", address.port()).await.unwrap().peer_addr().unwrap(), address);
    assert!(matches!(guard.dial("127.0.0.1", 1).await, Err(DialError::Refused(_))));
}

#[tokio::test]
async fn a_proxy_is_dialled_instead_and_only_for_hosts_that_pass() {
    let through = |proxy: &str| {
        let (guard, names, recorder) = guard("own.example:9999,127.0.0.0/8,named.example:444");
        names.add("public.example", &[&["93.184.216.34"]]);
        names.add("inside.example", &[&["10.1.2.3"]]);
        names.add("own.example", &[&["127.0.0.1"]]);
        let own = Allow::parse("own.example:9999").unwrap();
        (guard.through(Some(EgressProxy::parse(proxy).unwrap()), own), names, recorder)
    };
    let (guard, names, recorder) = through("http://proxy.internal:3128");
    let lost = guard.dial("public.example", 443).await.unwrap_err();
    assert_eq!(lost, DialError::Unreachable("the name of the egress proxy does not resolve".to_owned()));
    names.add("proxy.internal", &[&["10.0.0.9"]]);
    assert!(matches!(guard.dial("inside.example", 443).await, Err(DialError::Refused(_))));
    assert_eq!(recorder.take(), Vec::<IpAddr>::new());
    for (host, port, dialled) in [("public.example", 443, "10.0.0.9"), ("own.example", 9999, "127.0.0.1")] {
        assert!(matches!(guard.dial(host, port).await, Err(DialError::Unreachable(_))));
        assert_eq!(recorder.take(), [ip(dialled)], "{host}");
    }
    assert_eq!(guard.check(&url("https://named.example:444")), Ok(()), "what is allowed stays allowed");
    let (guard, _, recorder) = through("http://[::1]:3128");
    assert!(guard.dial("public.example", 443).await.is_err());
    assert_eq!(recorder.take(), [ip("::1")]);
}

#[test]
fn the_operators_list_is_kept_as_it_was_meant() {
    let list = |text: &str| Allow::parse(text).unwrap();
    assert_eq!(list(" A.example:443 ,10.1.2.3/8,,[::1]:9 ,fd00::1/8").to_string(), "a.example:443,[::1]:9,10.0.0.0/8,fd00::/8");
    assert!(list(" , ").is_empty() && !list("a.example:443").is_empty() && !list("10.0.0.0/8").is_empty());
    assert!(!list("a.example:443,10.0.0.0/8").is_empty());
    let mut both = list("a.example:443");
    both.extend(list("b.example:80,10.0.0.0/8"));
    assert_eq!(both.to_string(), "a.example:443,b.example:80,10.0.0.0/8");
    let wrong = Allow::parse("a.example,10.0.0.0/33,b.example:443").unwrap_err();
    assert!(wrong.contains("`a.example`") && wrong.contains("; `10.0.0.0/33`") && !wrong.contains("b.example:443`"), "{wrong}");
    let guard = Guard::new(list("a.example:443,b.example:80"));
    for (address, named) in [
        ("https://a.example/x", true),
        ("https://b.example", false),
        ("http://b.example", true),
        ("http://a.example", false),
        ("https://c.example", false),
        ("data:x", false),
    ] {
        assert_eq!(guard.names(&url(address)), named, "{address}");
    }
}

#[test]
fn the_operators_list_is_read_or_refused_with_a_reason() {
    for good in ["", " ", "a.example:443", "127.0.0.1:8080, 10.0.0.0/8 ,[::1]:9000,fd00::/8,", "A.EXAMPLE:1"] {
        Allow::parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    for (bad, word) in [
        ("a.example", "port"),
        ("10.0.0.1", "port"),
        ("::1", "port"),
        ("10.0.0.0/33", "CIDR"),
        ("a.example/8", "CIDR"),
        ("https://a.example:443", "scheme"),
        ("a.example:0", "port"),
        ("a.example:99999", "port"),
        (":443", "host"),
        ("u@a.example:443", "host"),
        ("*.example:443", "host"),
        ("a.example.:443", "host"),
    ] {
        let error = Allow::parse(bad).unwrap_err();
        assert!(error.contains(word) && error.contains(&format!("`{bad}`")), "{bad}: {error}");
    }
    let guard = Guard::new(Allow::parse("A.example:8080").unwrap());
    assert!(guard.names(&Url::parse("http://a.EXAMPLE:8080/x").unwrap()));
    assert!(!guard.names(&Url::parse("http://a.example/x").unwrap()));
}
