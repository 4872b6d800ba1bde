//! Memory hygiene: no core dumps, not dumpable. Tried in a child, since it holds for the whole process.

use std::process::Command;

use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

const CHILD: &str = "ROLLCALL_TEST_HARDENED_CHILD";

#[test]
fn the_process_is_hardened() {
    if std::env::var_os(CHILD).is_some() {
        rollcall::vault::harden_process().unwrap();
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        println!("hardened indeed");
        return;
    }
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable, "the check can fail");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "vault::hygiene::the_process_is_hardened", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("hardened indeed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}
