//! `rollcall demo`: what it prints works as pasted.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::cli::run;
use crate::support::gateway::{client, command};

/// A running demo; killed when dropped.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(temporary: &Path, args: &[&str]) -> Demo {
        let mut command = command(&[&["demo", "--port", "0"], args].concat());
        // What an operator's shell may hold is not the demo's.
        command.env("ROLLCALL_PUBLIC_URL", "https://rollcall.example.com").env("ROLLCALL_KEYS_FILE", "no/such/folder/ring");
        command.env("TMPDIR", temporary).current_dir(temporary).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let out = child.stdout.take().unwrap();
        thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Demo { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("the demo says something in time")
    }

    /// Asks it to end; whether it ended well.
    fn stop(self) -> bool {
        self.end(Signal::TERM)
    }

    fn end(mut self, signal: Signal) -> bool {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let end = Instant::now() + Duration::from_secs(35);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.success(),
                None if Instant::now() > end => return false,
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_curl_lines_and_the_page_work_as_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("Ctrl-C")) {
        lines.push(demo.line());
    }
    let curls: Vec<&String> = lines.iter().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 5, "{lines:#?}");
    let answers: Vec<Value> = curls
        .iter()
        .map(|line| {
            let (code, out, err) = run(Command::new("bash").args(["-c", line]));
            assert_eq!(code, Some(0), "{line}: {err}");
            serde_json::from_str(&out).unwrap_or_else(|why| panic!("{line}: {why}: {out}"))
        })
        .collect();
    let ids = |page: &Value| -> Vec<String> {
        let list = page["result"].as_array().unwrap_or_else(|| panic!("{page}"));
        list.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    };
    let (first, second) = (ids(&answers[0]), ids(&answers[1]));
    assert!(!first.is_empty() && !second.is_empty() && second.iter().all(|id| !first.contains(id)), "{first:?} {second:?}");
    assert!(!ids(&answers[2]).is_empty(), "there are groups");
    assert_eq!(answers[3]["Resources"].as_array().map(Vec::len), Some(2), "{}", answers[3]);
    assert_eq!((&answers[4]["status"], &answers[4]["integration"]["name"]), (&json!("active"), &json!("scim")), "{}", answers[4]);
    let page = lines.iter().find(|line| line.starts_with("http://") && line.contains("link_token=")).expect("the page's address");
    let (code, out, err) = run(Command::new("curl").args(["-s", "-L", "-b", "", page]));
    assert!(code == Some(0) && out.contains("<form") && out.contains("SCIM 2.0"), "{code:?} {err} {out}");
    let own: Vec<&String> = lines.iter().filter(|line| line.starts_with("# ")).collect();
    assert!(own.iter().any(|line| *line == "# link one more yourself"), "{own:?}");
    assert!(demo.stop());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn json_says_everything_in_one_line_and_kept_data_keeps_the_ids() {
    let (temporary, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let args = ["--json", "--data", data.path().to_str().unwrap()];
    let (mut known, mut tokens): (Option<Value>, Vec<String>) = (None, Vec::new());
    let mut took = Vec::new();
    for _ in 0..2 {
        let demo = Demo::start(temporary.path(), &args);
        let said: Value = serde_json::from_str(&demo.line()).unwrap();
        let (base, token) = (said["base_url"].as_str().unwrap(), said["token"].as_str().unwrap());
        let accounts = said["accounts"].as_array().unwrap();
        assert!(accounts.iter().any(|a| a["integration"] == "keeper") && accounts.iter().any(|a| a["integration"] == "scim"));
        assert!(token.starts_with("rck_"), "an API token as any other");
        tokens.push(token.to_owned());
        let list: Value = get(&format!("{base}/api-token"), token).await;
        assert_eq!(list["result"].as_array().map(Vec::len), Some(1), "one token, however often it was started: {list}");
        let started = Instant::now();
        for account in accounts {
            assert!(account["tenant_id"].is_string());
            let (mut cursor, mut count) = (String::new(), 0);
            loop {
                let id = account["id"].as_str().unwrap();
                let path = format!("{base}/unified/user-directory/users?integrated_account_id={id}&limit=7&next_cursor={cursor}");
                let page = get(&path, token).await;
                count += page["result"].as_array().unwrap_or_else(|| panic!("{page}")).len();
                match page["next_cursor"].as_str() {
                    Some(next) => next.clone_into(&mut cursor),
                    None => break,
                }
            }
            assert!(count > 7, "several pages of users, not {count}");
        }
        took.push(started.elapsed());
        assert_eq!(*known.get_or_insert_with(|| said["accounts"].clone()), said["accounts"], "the ids stay");
        assert!(demo.stop());
    }
    assert_ne!(tokens[0], tokens[1]);
    // What else runs on the machine may slow one of them down.
    assert!(took.iter().any(|took| *took < Duration::from_secs(6)), "a sandbox keeps nobody waiting: {took:?}");
}

async fn get(url: &str, token: &str) -> Value {
    client().get(url).bearer_auth(token).send().await.unwrap().text().await.unwrap().parse().unwrap()
}

#[test]
fn a_demo_whose_terminal_closes_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for started in [false, true] {
        let demo = Demo::start(folder.path(), &["--json"]);
        match started {
            true => drop(demo.line()),
            false => crate::support::redis::until("it has a folder", 30, || folder.path().read_dir().unwrap().count() == 1),
        }
        assert!(demo.end(Signal::HUP), "{started}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn what_the_demo_cannot_heed_it_refuses_and_the_address_it_heeds() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value) in [
        ("--store", "embedded:x"),
        ("--keys-file", "x"),
        ("--public-url", "https://x.example"),
        ("--redis-ca-file", "x"),
        ("--tls-cert-file", "x"),
        ("--tls-key-file", "x"),
    ] {
        for args in [["demo", flag, value], [flag, value, "demo"]] {
            let (code, out, err) = run(command(&args).current_dir(folder.path()));
            assert!(
                code == Some(2) && out.is_empty() && err.contains(flag) && err.contains("--data"),
                "{args:?}: {code:?} {err}"
            );
        }
    }
    for args in [["demo", "--listen", "127.0.0.1:1", "--port", "0"], ["--listen", "127.0.0.1:1", "demo", "--port", "0"]] {
        let (code, _, err) = run(command(&args).current_dir(folder.path()));
        assert!(code == Some(2) && err.contains("--port") && err.contains("--listen"), "{args:?}: {code:?} {err}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(command(&["demo", "--listen", &address]).current_dir(folder.path()));
    assert!(code == Some(1) && err.contains(&format!("cannot listen on {address}")), "{code:?} {err}");
    let (code, _, err) = run(command(&["demo"]).env("ROLLCALL_LISTEN", &address).current_dir(folder.path()));
    assert!(code == Some(1) && err.contains(&format!("cannot listen on {address}")), "{code:?} {err}");
    drop(taken);
    let mut child = command(&["demo", "--json", "--listen", &address]);
    let mut child = child
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Starting on") && line.contains(&address), "{line}");
    line.clear();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["base_url"], format!("http://{address}"));
}

/// A text of an account's list, in lines or as a page.
async fn listed(base: &str, token: &str, account: &Value, resource: &str, query: &str, accept: &str) -> String {
    let id = account["id"].as_str().unwrap();
    let path = format!("{base}/unified/user-directory/{resource}?integrated_account_id={id}&{query}");
    let answer = client().get(path).bearer_auth(token).header("accept", accept).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    answer.text().await.unwrap()
}

/// Companies are visited one after another: a list as lines goes over all of them, and so does its order.
#[tokio::test]
async fn lines_and_order_go_over_every_company() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &["--json"]);
    let said: Value = serde_json::from_str(&demo.line()).unwrap();
    let (base, token) = (said["base_url"].as_str().unwrap(), said["token"].as_str().unwrap());
    for account in said["accounts"].as_array().unwrap() {
        let whole: Value = listed(base, token, account, "users", "truto_ignore_limit=true", "*/*").await.parse().unwrap();
        let lines = async |resource: &str, query: &str| -> Vec<Value> {
            let text = listed(base, token, account, resource, query, "application/x-ndjson").await;
            let mut lines: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
            let last = lines.pop().unwrap();
            assert_eq!((&last["complete"], &last["result_count"]), (&Value::Bool(true), &lines.len().into()), "{last}");
            lines
        };
        let mut expected = lines("users", "").await;
        assert!(expected.len() > 7, "{}", expected.len());
        assert_eq!(whole["result"].as_array().unwrap()[..7], expected[..7]);
        let address = |user: &Value| user["username"].as_str().unwrap().to_lowercase();
        expected.sort_by_key(|user| std::cmp::Reverse(address(user)));
        let sorted = lines("users", "sort_by[username]=desc").await;
        assert_eq!(sorted.iter().map(address).collect::<Vec<_>>(), expected.iter().map(address).collect::<Vec<_>>());
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("sort_by=username&sort_direction=desc&limit=4&next_cursor={cursor}");
            let page: Value = listed(base, token, account, "users", &query, "*/*").await.parse().unwrap();
            paged.extend(page["result"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(paged, sorted, "the records themselves, with their companies");
        let name = |group: &Value| group["name"].as_str().unwrap().to_lowercase();
        let mut groups = lines("groups", "").await;
        assert!(!groups.is_empty());
        let part = name(&groups[0])[..3].to_uppercase();
        groups.sort_by_key(name);
        assert_eq!(lines("groups", "sort_by=name").await, groups);
        groups.retain(|group| name(group).contains(&part.to_lowercase()));
        assert_eq!(lines("groups", &format!("sort_by=name&name[contains]={part}")).await, groups);
    }
    assert!(demo.stop());
}

/// The sandboxes take writes, so that they can be rehearsed: made, listed, changed, taken away.
#[tokio::test]
async fn writes_are_rehearsed_at_every_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &["--json"]);
    let said: Value = serde_json::from_str(&demo.line()).unwrap();
    let (base, token) = (said["base_url"].as_str().unwrap(), said["token"].as_str().unwrap());
    for account in said["accounts"].as_array().unwrap() {
        let account = account["id"].as_str().unwrap();
        let own: Value = get(&format!("{base}/integrated-account/{account}"), token).await;
        assert_eq!(own["is_sandbox"], true, "{own}");
        let call = async |method: &str, id: &str, body: Option<&str>| {
            let url = format!("{base}/unified/user-directory/users{id}?integrated_account_id={account}");
            let request = client().request(method.parse().unwrap(), url).bearer_auth(token);
            let request = request.header("rollcall-company", "3861").header("content-type", "application/json");
            let answer = request.body(body.unwrap_or_default().to_owned()).send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            (status, serde_json::from_str::<Value>(&text).unwrap_or_else(|why| panic!("{why}: {text}")))
        };
        let (status, made) = call("POST", "", Some(r#"{"username": "rehearsal@demo.example", "name": "Reh Earsal"}"#)).await;
        assert_eq!(status, 201, "{made}");
        let id = format!("/{}", made["id"].as_str().unwrap());
        let found =
            listed(base, token, &json!({"id": account}), "users", "&username=rehearsal@demo.example", "application/json").await;
        assert!(found.contains("Reh Earsal"), "{found}");
        let (status, changed) = call("PATCH", &id, Some(r#"{"title": "Understudy"}"#)).await;
        assert_eq!((status, &changed["title"]), (200, &json!("Understudy")), "{changed}");
        assert_eq!(call("DELETE", &id, None).await.0, 200);
        assert_eq!(call("GET", &id, None).await.0, 404);
    }
    assert!(demo.stop());
}
