//! Our own door over TLS: nothing but TLS is answered, the commands of this machine find their way, and a new certificate is
//! shown without a restart.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use super::{cli::run, vendor::Vendor};
use crate::support::{
    gateway::{Gateway, Kept, client, client_trusting, command},
    redis::Certificates,
};

/// A folder with a certificate that the gateway shows, to be replaced.
struct Shown(tempfile::TempDir);

impl Shown {
    fn of(certificates: &Certificates) -> Shown {
        let shown = Shown(tempfile::tempdir().unwrap());
        shown.put(certificates);
        shown
    }

    fn put(&self, certificates: &Certificates) {
        let [certificate, key] = certificates.pair();
        fs::copy(certificate, self.file("server.crt")).unwrap();
        fs::copy(key, self.file("server.key")).unwrap();
        fs::copy(certificates.ca(), self.file("ca.crt")).unwrap();
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, kept: &Kept, allow: &str) -> Gateway {
        let settings = [
            ("ROLLCALL_PUBLIC_URL", "https://localhost:{port}"),
            ("ROLLCALL_TLS_CERT_FILE", self.file("server.crt").to_str().unwrap()),
            ("ROLLCALL_TLS_KEY_FILE", self.file("server.key").to_str().unwrap()),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        Gateway::start_with(kept, allow, &settings.each_ref().map(|(name, value)| (*name, value.as_str())))
    }
}

async fn is_trusted(gateway: &Gateway, ca: &Path) -> bool {
    client_trusting(ca).get(format!("{}/ping", gateway.base)).send().await.is_ok()
}

#[tokio::test]
async fn the_door_speaks_tls_and_nothing_else() {
    let certificates = Certificates::make();
    let (kept, vendor, shown) = (Kept::embedded(), Vendor::start(), Shown::of(&certificates));
    let gateway = shown.start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let answer = gateway.get(&format!("/passthrough/{account}/Users?count=2")).await;
    assert_eq!((answer.status, answer.header("rollcall-error")), (200, None), "{}", answer.text());
    assert_eq!(gateway.walk(&format!("/unified/user-directory/users?integrated_account_id={account}&limit=2")).await.len(), 5);
    let plain = gateway.base.replace("https:", "http:");
    assert!(client().get(format!("{plain}/ping")).send().await.is_err(), "plain http was answered");
    assert!(client().get(format!("{}/ping", gateway.base)).send().await.is_err(), "an unknown authority was trusted");
}

#[tokio::test]
async fn the_commands_of_this_machine_find_the_door() {
    let certificates = Certificates::of("DNS:rollcall.example");
    let (kept, shown) = (Kept::embedded(), Shown::of(&certificates));
    let files = [
        ("ROLLCALL_TLS_CERT_FILE", shown.file("server.crt").to_str().unwrap().to_owned()),
        ("ROLLCALL_TLS_KEY_FILE", shown.file("server.key").to_str().unwrap().to_owned()),
    ];
    let gateway = Gateway::start_with(&kept, "", &files.each_ref().map(|(name, value)| (*name, value.as_str())));
    let port = gateway.base.rsplit(':').next().unwrap().to_owned();
    let ask = |args: &[&str]| {
        let mut command = command(args);
        command.envs(kept.settings()).envs(files.clone()).env("ROLLCALL_LISTEN", format!("127.0.0.1:{port}"));
        run(&mut command)
    };
    let (code, out, err) = ask(&["token", "create", "--name", "t", "--scope", "proxy:read"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with("rck_"), "{out}");
    let (code, out, err) = ask(&["healthcheck"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = ask(&["doctor"]);
    assert!(code == Some(0) && out.contains("a gateway runs at https://"), "{out}{err}");
    // Whoever else listens there is not the gateway.
    fs::copy(&Certificates::make().pair()[0], shown.file("server.crt")).unwrap();
    let (code, _, err) = ask(&["healthcheck"]);
    assert!(code == Some(1) && err.contains("another certificate"), "{err}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_within_a_second_and_a_broken_one_is_not() {
    let (old, new) = (Certificates::make(), Certificates::make());
    let (kept, shown) = (Kept::embedded(), Shown::of(&old));
    let gateway = shown.start(&kept, "");
    assert!(is_trusted(&gateway, &old.ca()).await && !is_trusted(&gateway, &new.ca()).await);

    fs::write(shown.file("server.crt"), "no certificate").unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while !gateway.said().contains("the new certificate cannot be used") {
        assert!(Instant::now() < end, "{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_trusted(&gateway, &old.ca()).await, "the certificate in memory is still shown");

    shown.put(&new);
    let began = Instant::now();
    while !is_trusted(&gateway, &new.ca()).await {
        assert!(began.elapsed() < Duration::from_secs(5), "{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_trusted(&gateway, &old.ca()).await);
}

#[test]
fn files_that_are_no_identity_are_refused_at_the_start() {
    let (one, other) = (Certificates::make(), Certificates::make());
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "nothing").unwrap();
    let [certificate, key] = one.pair();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for (certificate, key, said, exit) in [
        (path(&text), path(&key), "is not a PEM certificate", 1),
        (path(&certificate), path(&text), "is not a PEM private key", 1),
        (path(&certificate), path(&other.pair()[1]), "is not the key of", 1),
        (path(&certificate), String::new(), "ROLLCALL_TLS_KEY_FILE", 2),
        (String::new(), path(&key), "ROLLCALL_TLS_CERT_FILE", 2),
        ("/nowhere/x.crt".to_owned(), path(&key), "there is no file", 2),
    ] {
        let mut serve = command(&["serve"]);
        serve.env("ROLLCALL_STORE", format!("embedded:{}", folder.path().join("store").display()));
        serve
            .env("ROLLCALL_TLS_CERT_FILE", &certificate)
            .env("ROLLCALL_TLS_KEY_FILE", &key)
            .env("ROLLCALL_LISTEN", "127.0.0.1:0");
        let (code, out, err) = run(&mut serve);
        assert!(code == Some(exit) && err.contains(said), "{said}: {code:?} {out}{err}");
        assert!(!err.contains("BEGIN"), "{err}");
    }
}

#[tokio::test]
async fn a_connection_that_never_shakes_hands_is_ended() {
    let (kept, shown) = (Kept::embedded(), Shown::of(&Certificates::make()));
    let gateway = shown.start(&kept, "");
    let mut silent = TcpStream::connect(gateway.base.trim_start_matches("https://").replace("localhost", "127.0.0.1")).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let begun = Instant::now();
    // The end, or a reset; anything but silence.
    let ended = silent.read(&mut [0; 16]);
    assert!(ended.as_ref().map_or(true, |read| *read == 0), "{ended:?}");
    assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "it stands for ever");
    assert!((3..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
