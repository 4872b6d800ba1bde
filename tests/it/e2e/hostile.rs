//! Vendors, links and folders that are out for harm, against the whole binary.

use std::{
    io::Write,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rollcall::sandbox::{
    Sandbox,
    keeper_commander::{self, Control, Faults},
};
use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Asked, Vendor},
    cli::run,
    vendor::{self, is_sound, names, problem},
};
use crate::support::gateway::{ADMIN, Gateway, Kept, command};

/// The credential of the service; long enough to be told from any other text.
const KEY: &str = "service-key-7d1f0c9b2e64";

fn reply(status: u16, body: &str) -> Act {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    Act::Send([head.as_bytes(), body.as_bytes()].concat())
}

/// A Commander service whose commands answer like this.
fn service(commands: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Vendor {
    Vendor::start(move |asked| match asked.path() {
        "/health" => reply(200, r#"{"status":"ok"}"#),
        _ => commands(asked),
    })
}

fn import(service: &Vendor, key: &str) -> Value {
    let context = json!({"service_url": service.at(""), "api_key": key});
    json!({"tenant_id": "acme", "integration": "keeper", "authentication_method": "service_mode", "context": context})
}

#[tokio::test]
async fn v_01_a_commanders_words_hold_no_credential_and_have_an_end() {
    let service = service(|asked| {
        let words = format!("the key {} is wrong {}", asked.header("api-key"), "x".repeat(1 << 20));
        reply(401, &json!({"status": "error", "error": words}).to_string())
    });
    let gateway = Gateway::start_with(&Kept::embedded(), &service.authority(), &[("ROLLCALL_LOG", "debug")]);
    let refused = gateway.call("POST", "/integrated-account", Some(&import(&service, KEY))).await;
    problem(&refused, 422, "credential_refused", "vendor");
    let text = refused.text();
    assert!(text.contains("the key *** is wrong"), "{}", &text[..text.len().min(2000)]);
    assert!(!text.contains(KEY), "the credential is shown");
    assert!(text.len() < 200 << 10, "{} bytes of problem", text.len());
    let said = gateway.said();
    assert!(!said.contains(KEY) && said.len() < 200 << 10, "{} bytes of log", said.len());
}

/// Posts, and is gone as soon as the service was asked.
async fn send_and_leave(gateway: &Gateway, path: &str, body: &str, is_asked: impl Fn() -> bool) {
    let mut stream = TcpStream::connect(gateway.base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    // The unread answer to the first request makes the system reset the connection when it is closed.
    write!(stream, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n{head}\r\n{body}").unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while !is_asked() {
        assert!(Instant::now() < end, "the service was never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_leave_the_service_locked() {
    let service = service(|asked| {
        if asked.header("api-key") == "slow" {
            thread::sleep(Duration::from_secs(2));
        }
        reply(401, r#"{"status":"error","error":"no"}"#)
    });
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &service.authority());
    let body = import(&service, "slow").to_string();
    send_and_leave(&gateway, "/integrated-account", &body, || service.count() >= 2).await;
    let started = Instant::now();
    let refused = gateway.call("POST", "/integrated-account", Some(&import(&service, KEY))).await;
    problem(&refused, 422, "credential_refused", "vendor");
    assert!(started.elapsed() < Duration::from_secs(15), "the lock was held for {:?}", started.elapsed());
}

/// A Keeper account at a stand-in.
async fn keeper(faults: Faults) -> (Sandbox, Arc<Control>, Gateway, String) {
    let (sandbox, control, server) = keeper_commander::start(faults).unwrap();
    actix_web::rt::spawn(server);
    let gateway = Gateway::start(&Kept::embedded(), &sandbox.base.replace("http://", ""));
    let context = json!({"service_url": sandbox.base, "api_key": sandbox.token});
    let account = gateway.link("keeper", "service_mode", context).await;
    (sandbox, control, gateway, account)
}

#[actix_web::test]
async fn a_caller_who_leaves_his_own_command_does_not_leave_the_service_locked() {
    let slow = Faults { users: 0, queue: false, delay: Duration::from_millis(1500), ..Faults::default() };
    let (_sandbox, control, gateway, account) = keeper(slow).await;
    let path = format!("/passthrough/{account}/api/v1/executecommand");
    let body = json!({"command": "enterprise-info --users --format json"});
    let runs = control.runs();
    send_and_leave(&gateway, &path, &body.to_string(), || control.runs() != runs).await;
    let started = Instant::now();
    let answer = gateway.call("POST", &path, Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(started.elapsed() < Duration::from_secs(12), "the lock was held for {:?}", started.elapsed());
}

#[actix_web::test]
async fn a_command_does_not_write_on_the_services_machine() {
    let (_sandbox, control, gateway, account) = keeper(Faults { users: 0, ..Faults::default() }).await;
    let runs = control.runs();
    let run = async |route: &str, command: &str| {
        let path = format!("/passthrough/{account}/api/{route}");
        gateway.call("POST", &path, Some(&json!({"command": command}))).await
    };
    for command in [
        "audit-report --format csv --output /tmp/x",
        "audit-report --format csv --output=/tmp/x",
        "audit-report --format csv --outp /tmp/x",
        "audit-report --format csv --ou=/tmp/x",
        "audit-report --format csv '--output' /tmp/x",
        r#"audit-report --format csv --out"put"=/tmp/x"#,
        r"audit-report --format csv \--output /tmp/x",
        "audit-report --format csv &#45;-output /tmp/x",
        "audit-report --format csv ${x}",
        "enterprise-info -u -o/tmp/x",
    ] {
        for route in ["v1/executecommand", "v2/executecommand-async"] {
            let answer = run(route, command).await;
            names(&answer, 403, "denied_by_connector", "command");
        }
    }
    assert_eq!(control.runs(), runs, "a refused command reached the service");
    for command in ["enterprise-info --users --format json", "enterprise-info --users --format=json --columns 'name,status'"] {
        let answer = run("v1/executecommand", command).await;
        assert_eq!(answer.status, 200, "{command}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_handed_on() {
    let vendor = Vendor::start(|asked| match asked.path() {
        "/ServiceProviderConfig" => reply(404, "{}"),
        "/Users" => reply(200, r#"{"totalResults":0}"#),
        "/switch" => Act::Send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n".to_vec()),
        "/both" => Act::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n".to_vec(),
        ),
        _ => Act::Send(b"HTTP/1.1 200 OK\r\nrollcall-error: invalid_token\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
    });
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at(""), "token": "a-token"})).await;
    let switch = gateway.get(&format!("/passthrough/{account}/switch")).await;
    problem(&switch, 502, "vendor_bad_answer", "vendor");
    let both = gateway.get(&format!("/passthrough/{account}/both")).await;
    assert_eq!((both.status, both.text().as_str()), (200, "abcdef"), "the length of a chunked answer is in its chunks");
    let spoofed = gateway.get(&format!("/passthrough/{account}/spoof")).await;
    assert_eq!((spoofed.status, spoofed.header("rollcall-error")), (200, None), "the vendor speaks in our name");
}

#[tokio::test]
async fn a_context_has_an_end() {
    let vendor = vendor::Vendor::start();
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let path = format!("/integrated-account/{account}");
    let change = |name: &str| json!({"context": {name: "x".repeat(40 << 10)}});
    assert_eq!(gateway.call("PATCH", &path, Some(&change("a"))).await.status, 200);
    names(&gateway.call("PATCH", &path, Some(&change("b"))).await, 400, "invalid_body", "context");
    let mut large = vendor.import();
    large["context"]["note"] = json!("x".repeat(80 << 10));
    names(&gateway.call("POST", "/integrated-account", Some(&large)).await, 400, "invalid_body", "context");
    let fine = json!({"context": {"a": null, "b": "y"}});
    assert_eq!(gateway.call("PATCH", &path, Some(&fine)).await.json()["context"]["b"], "y");
    is_sound(&gateway);
}

#[tokio::test]
async fn the_stores_folder_is_the_owners_alone() {
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, "");
    assert_eq!(gateway.get("/ping").await.status, 200);
    let mode = |name: &str| std::fs::metadata(kept.folder().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("store"), mode("store/rollcall.redb")), (0o700, 0o600));
}

#[test]
fn v_01_a_serve_file_anybody_could_have_written_is_not_followed() {
    let vendor = Vendor::start(|_| reply(200, r#"{"status":"ok"}"#));
    let kept = Kept::embedded();
    let store = kept.folder().join("store");
    std::fs::create_dir(&store).unwrap();
    let file = store.join("serve.json");
    std::fs::write(&file, json!({"url": vendor.at(""), "token": "theirs"}).to_string()).unwrap();
    for (mode, followed) in [(0o600, true), (0o644, false), (0o666, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let before = vendor.count();
        run(command(&["token", "list"]).envs(kept.settings()));
        assert_eq!(vendor.count() > before, followed, "mode {mode:o}");
    }
}

#[tokio::test]
async fn a_vendors_words_do_not_move_the_operators_cursor() {
    let service = service(|_| reply(401, r#"{"status":"error","error":"\u001b[2Jall \u009b31mis\nwell"}"#));
    let kept = Kept::embedded();
    let mut add = command(&["account", "add", "--integration", "keeper", "--method", "service_mode", "--tenant", "acme"]);
    add.args(["--field", &format!("service_url={}", service.at("")), "--field", &format!("api_key={KEY}")]);
    add.envs(kept.settings()).env("ROLLCALL_EGRESS_ALLOW", service.authority()).env("ROLLCALL_LOG", "off");
    let (code, out, err) = run(&mut add);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("well"), "{err}");
    assert!(!err.chars().any(|c| c.is_control() && c != '\n'), "{err:?}");
}
