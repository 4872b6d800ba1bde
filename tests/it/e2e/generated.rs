//! Clients that others' generators make from our document: each is generated, compiled where its language is, and pages through
//! the users of a running demo.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{demo::Demo, gateway::client, peers};

const USERS: &str = "/unified/user-directory/users";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> PathBuf {
    repository().join("openapi/rollcall.json")
}

/// The programs that use the generated clients.
fn programs() -> PathBuf {
    repository().join("tests/peers/generated")
}

/// Where what is compiled stays from run to run.
fn workshop(name: &str) -> PathBuf {
    let folder = repository().join("target/clients").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a command to its end, compilers included, and gives what it printed; anything but success fails the test.
fn done(command: &mut Command) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    let mut child =
        command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}. Run ./tests/run once: it installs the peers"));
    let end = Instant::now() + Duration::from_secs(600);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (out, err) = (read(&out), read(&err));
    assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}\n{out}\n{err}");
    out
}

/// The generator of many languages, a Java program on the Java that a Python package carries.
fn generate(generator: &str, output: &Path, more: &[&str]) {
    let _ = std::fs::remove_dir_all(output);
    let mut command = Command::new(peers::python().with_file_name("openapi-generator-cli"));
    command.args(["generate", "--generator-name", generator, "--input-spec"]).arg(document());
    let said = done(command.arg("--output").arg(output).args(more).env("JAVA_OPTS", "-Dlog.level=warn"));
    assert!(!said.contains("ERROR"), "{said}");
}

/// What every client must have read, asked for without one.
async fn expected(demo: &Demo) -> Value {
    let account = demo.account("scim");
    let ids = async |query: &str| {
        let (mut users, mut cursor) = (Vec::new(), String::new());
        loop {
            let address = format!("{}{USERS}?integrated_account_id={account}&limit=50{query}&next_cursor={cursor}", demo.base());
            let page = client().get(address).bearer_auth(demo.token()).send().await.unwrap().bytes().await.unwrap();
            let page: Value = serde_json::from_slice(&page).unwrap();
            users.extend(page["result"].as_array().unwrap().iter().map(|user| user["id"].clone()));
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return users,
            }
        }
    };
    let (users, inactive) = (ids("").await, ids("&status=inactive").await);
    assert!(users.len() > 21 && inactive.len() > 2 && inactive.len() < users.len(), "several pages of either");
    json!({"users": users, "inactive": inactive, "problem": [404, "not_found", false], "account": account})
}

/// Runs a client against a demo and compares what it read.
async fn reads_everything(client: &mut Command) {
    let demo = Demo::start();
    let said = done(client.args([demo.base(), demo.token(), demo.account("scim")]));
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|why| panic!("{why}: {said}"));
    assert_eq!(said, expected(&demo).await);
    assert!(!demo.said().contains("panicked"), "{}", demo.said());
}

/// A folder in which Node finds the packages of `tests/peers/node/clients`, and one of our programs.
pub(super) fn node_folder(program: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let packages = repository().join("tests/peers/node/clients/node_modules");
    assert!(packages.is_dir(), "there is no {}: run ./tests/run once, it installs the peers", packages.display());
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
    std::fs::copy(program, folder.path().join(program.file_name().unwrap())).unwrap();
    folder
}

/// The TypeScript compiler, strict.
pub(super) fn compile(folder: &Path, program: &str, more: &[&str]) {
    let mut command = Command::new(peers::node_binary());
    command
        .current_dir(folder)
        .arg("node_modules/typescript/bin/tsc")
        .args(["--strict", "--target", "es2022", "--types", "node"]);
    done(command.args(more).arg(program));
}

#[tokio::test]
async fn openapi_generators_python_client_pages_through_the_users() {
    let folder = tempfile::tempdir().unwrap();
    generate("python", folder.path(), &[]);
    let mut client = Command::new(peers::python());
    reads_everything(client.arg(programs().join("openapi_generator.py")).env("PYTHONPATH", folder.path())).await;
}

#[tokio::test]
async fn openapi_generators_typescript_clients_page_through_the_users() {
    for (generator, program) in [("typescript-fetch", "fetch.ts"), ("typescript-axios", "axios.ts")] {
        let folder = node_folder(&programs().join(program));
        generate(generator, &folder.path().join("client"), &[]);
        compile(folder.path(), program, &["--module", "commonjs", "--moduleResolution", "node10", "--outDir", "made"]);
        let mut client = Command::new(peers::node_binary());
        reads_everything(client.arg(folder.path().join("made").join(program.replace(".ts", ".js")))).await;
    }
}

#[tokio::test]
async fn openapi_fetch_with_the_types_of_openapi_typescript_pages_through_the_users() {
    let program = "openapi-fetch.ts";
    let folder = node_folder(&programs().join(program));
    std::fs::write(folder.path().join("package.json"), r#"{"type": "module"}"#).unwrap();
    let mut types = Command::new(peers::node_binary());
    types.current_dir(folder.path()).arg("node_modules/openapi-typescript/bin/cli.js").arg(document());
    done(types.args(["--output", "api.d.ts"]));
    compile(folder.path(), program, &["--module", "nodenext", "--noEmit", "--allowImportingTsExtensions"]);
    reads_everything(Command::new(peers::node_binary()).arg(folder.path().join(program))).await;
}

#[tokio::test]
async fn openapi_generators_go_client_pages_through_the_users() {
    let (folder, workshop) = (tempfile::tempdir().unwrap(), workshop("go"));
    let module = ["--git-host", "clients.example", "--git-user-id", "generated", "--git-repo-id", "rollcall"];
    generate("go", folder.path(), &[&module[..], &["--additional-properties", "enumClassPrefix=true"]].concat());
    let program = folder.path().join("page");
    std::fs::create_dir(&program).unwrap();
    std::fs::copy(programs().join("page.go"), program.join("main.go")).unwrap();
    let mut build = Command::new("go");
    build.current_dir(folder.path()).args(["build", "-o", "read-users", "./page"]);
    build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
    done(build.env("GOCACHE", workshop.join("cache")).env("GOPATH", workshop.join("path")));
    reads_everything(&mut Command::new(folder.path().join("read-users"))).await;
}

#[tokio::test]
async fn openapi_generators_rust_client_pages_through_the_users() {
    let workshop = workshop("rust");
    generate("rust", &workshop.join("client"), &[]);
    let page = workshop.join("page");
    std::fs::create_dir_all(page.join("src")).unwrap();
    for file in ["Cargo.toml", "Cargo.lock", "src/main.rs"] {
        std::fs::copy(programs().join("rust").join(file), page.join(file)).unwrap();
    }
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(&page).args(["build", "--quiet", "--locked"]).env("CARGO_TARGET_DIR", workshop.join("target"));
    build.env("CARGO_PROFILE_DEV_DEBUG", "false").env_remove("RUSTFLAGS");
    done(&mut build);
    reads_everything(&mut Command::new(workshop.join("target/debug/page"))).await;
}

/// Debian has no jar of what the Java client needs to compile, so that only the generator is held to the document here.
#[test]
fn openapi_generator_makes_a_java_client() {
    let folder = tempfile::tempdir().unwrap();
    generate("java", folder.path(), &["--library", "native"]);
    let made = folder.path().join("src/main/java/org/openapitools/client");
    for class in ["api/DirectoryApi.java", "model/UserPage.java", "model/Problem.java"] {
        assert!(made.join(class).is_file(), "{class}");
    }
}
