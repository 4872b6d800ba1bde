//! The definition of get, scan and commit.

use std::time::Duration;

use bytes::Bytes;
use rollcall::store::{Batch, Expect, Key, LOOKED_AT, Lasting, Slot, StoreError, Write};

use super::fixture::{Case, Fixture, cases, check, delete, ms, put, put_for, put_if};

fn is_conflict<T>(outcome: Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Conflict(_)))
}

cases! {
    async fn get_of_nothing_is_none(f) {
        assert_eq!(f.store.get(&f.key("a")).await.unwrap(), None);
    }
    async fn get_gives_what_was_put(f) {
        let version = f.put("a", "one").await;
        let entry = f.store.get(&f.key("a")).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (Bytes::from("one"), version));
    }
    async fn another_node_reads_what_was_put(f) {
        f.put("a", "one").await;
        assert_eq!(f.other.get(&f.key("a")).await.unwrap().unwrap().value, Bytes::from("one"));
    }
    async fn an_empty_value_is_a_value(f) {
        f.put("a", "").await;
        assert_eq!(f.text("a").await, Some(String::new()));
    }
    async fn any_bytes_survive(f) {
        let value = Bytes::from((0..=255).chain([b':', 0, b'\r', b'\n']).collect::<Vec<u8>>());
        f.commit(vec![Write::Put { name: "a".into(), value: value.clone(), ttl: None, expect: Expect::Any }]).await.unwrap();
        assert_eq!(f.store.get(&f.key("a")).await.unwrap().unwrap().value, value);
    }
    async fn a_chunk_of_256_kib_survives(f) {
        let value = Bytes::from(vec![0xA5; 256 * 1024]);
        f.commit(vec![Write::Put { name: "a".into(), value: value.clone(), ttl: None, expect: Expect::Any }]).await.unwrap();
        assert_eq!(f.store.get(&f.key("a")).await.unwrap().unwrap().value, value);
    }
    async fn names_may_hold_odd_characters(f) {
        for name in ["a b", "ä/ö", "#index", "{x}", "a:b", "*", "[", "(", "+", "-"] {
            f.put(name, name).await;
        }
        for name in ["a b", "ä/ö", "#index", "{x}", "a:b", "*", "[", "(", "+", "-"] {
            assert_eq!(f.text(name).await.as_deref(), Some(name));
        }
        assert_eq!(f.names("", None, 100).await.len(), 10);
    }
    async fn slots_do_not_see_each_other(f) {
        f.put("a", "one").await;
        let elsewhere = Key { slot: Slot::new(format!("{}x", f.slot)), name: "a".into() };
        assert_eq!(f.store.get(&elsewhere).await.unwrap(), None);
        assert!(f.store.scan(&elsewhere.slot, "", None, 10).await.unwrap().is_empty());
    }
    async fn a_slot_and_a_name_are_not_one_text(f) {
        let inner = Slot::new(format!("{}/a", f.slot));
        f.put("a/b", "outer").await;
        f.store.commit(Batch { slot: inner.clone(), fence: None, writes: vec![put("b", "inner")] }).await.unwrap();
        assert_eq!(f.text("a/b").await.as_deref(), Some("outer"));
        assert_eq!(f.names("", None, 10).await, ["a/b"]);
    }
    async fn a_put_replaces(f) {
        f.put("a", "one").await;
        f.put("a", "two").await;
        assert_eq!(f.text("a").await.as_deref(), Some("two"));
    }
    async fn versions_grow(f) {
        let (first, second, third) = (f.put("a", "1").await, f.put("a", "2").await, f.put("a", "2").await);
        assert!(0 < first && first < second && second < third);
    }
    async fn versions_do_not_repeat_after_a_delete(f) {
        let first = f.put("a", "1").await;
        f.commit(vec![delete("a")]).await.unwrap();
        assert!(f.put("a", "1").await > first);
    }
    async fn versions_do_not_repeat_after_expiry(f) {
        let first = f.commit(vec![put_for("a", "1", ms(60))]).await.unwrap()[0];
        f.pass(ms(120)).await;
        assert!(f.put("a", "1").await > first);
    }
    async fn versions_of_one_batch_are_in_order(f) {
        let versions = f.commit(vec![put("a", "1"), put("b", "2"), put("c", "3")]).await.unwrap();
        assert!(versions.len() == 3 && versions[0] < versions[1] && versions[1] < versions[2]);
    }
    async fn deletes_and_checks_have_version_zero(f) {
        let versions = f.commit(vec![delete("x"), put("a", "1"), check("y", Expect::Absent)]).await.unwrap();
        assert!(versions[0] == 0 && versions[1] > 0 && versions[2] == 0);
    }
    async fn a_delete_removes(f) {
        f.put("a", "one").await;
        f.commit(vec![delete("a")]).await.unwrap();
        assert_eq!(f.text("a").await, None);
        assert!(f.names("", None, 10).await.is_empty());
    }
    async fn deleting_nothing_is_fine(f) {
        assert_eq!(f.commit(vec![delete("a")]).await.unwrap(), [0]);
    }
    async fn an_empty_batch_is_fine(f) {
        assert_eq!(f.commit(vec![]).await.unwrap(), Vec::<u64>::new());
    }
    async fn absent_holds_for_nothing(f) {
        f.commit(vec![put_if("a", "1", Expect::Absent)]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("1"));
    }
    async fn absent_fails_for_something(f) {
        f.put("a", "1").await;
        assert!(is_conflict(f.commit(vec![put_if("a", "2", Expect::Absent)]).await));
        assert_eq!(f.text("a").await.as_deref(), Some("1"));
    }
    async fn absent_holds_after_a_delete(f) {
        f.put("a", "1").await;
        f.commit(vec![delete("a")]).await.unwrap();
        f.commit(vec![put_if("a", "2", Expect::Absent)]).await.unwrap();
    }
    async fn absent_holds_after_expiry(f) {
        f.commit(vec![put_for("a", "1", ms(60))]).await.unwrap();
        assert!(is_conflict(f.commit(vec![put_if("a", "2", Expect::Absent)]).await));
        f.pass(ms(120)).await;
        f.commit(vec![put_if("a", "2", Expect::Absent)]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
    }
    async fn the_right_version_holds(f) {
        let version = f.put("a", "1").await;
        let next = f.commit(vec![put_if("a", "2", Expect::Version(version))]).await.unwrap()[0];
        f.commit(vec![put_if("a", "3", Expect::Version(next))]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("3"));
    }
    async fn a_wrong_version_fails(f) {
        let version = f.put("a", "1").await;
        f.put("a", "2").await;
        for wrong in [version, version + 1_000_000_000, 0, 1] {
            assert!(is_conflict(f.commit(vec![put_if("a", "3", Expect::Version(wrong))]).await));
        }
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
    }
    async fn no_version_holds_for_nothing(f) {
        assert!(is_conflict(f.commit(vec![put_if("a", "1", Expect::Version(0))]).await));
        assert!(is_conflict(f.commit(vec![put_if("a", "1", Expect::Version(1))]).await));
    }
    async fn the_version_of_a_dead_entry_does_not_hold(f) {
        let version = f.commit(vec![put_for("a", "1", ms(60))]).await.unwrap()[0];
        f.pass(ms(120)).await;
        assert!(is_conflict(f.commit(vec![put_if("a", "2", Expect::Version(version))]).await));
    }
    async fn a_delete_can_demand_a_version(f) {
        let version = f.put("a", "1").await;
        let demanding = |version| vec![Write::Delete { name: "a".into(), expect: Expect::Version(version) }];
        assert!(is_conflict(f.commit(demanding(version + 1)).await));
        f.commit(demanding(version)).await.unwrap();
        assert_eq!(f.text("a").await, None);
    }
    async fn a_check_alone_can_fail_and_hold(f) {
        let version = f.put("a", "1").await;
        f.commit(vec![check("a", Expect::Version(version))]).await.unwrap();
        assert!(is_conflict(f.commit(vec![check("a", Expect::Absent)]).await));
        assert_eq!(f.store.get(&f.key("a")).await.unwrap().unwrap().version, version);
    }
    async fn a_failed_check_stops_the_whole_batch(f) {
        f.put("guard", "1").await;
        let outcome = f.commit(vec![put("a", "1"), delete("guard"), check("guard", Expect::Version(7))]).await;
        assert!(is_conflict(outcome));
        assert_eq!((f.text("a").await, f.text("guard").await.as_deref()), (None, Some("1")));
    }
    async fn the_conflict_names_the_key(f) {
        f.put("b", "1").await;
        match f.commit(vec![put("a", "1"), put_if("b", "2", Expect::Absent)]).await {
            Err(StoreError::Conflict(name)) => assert_eq!(name, "b"),
            other => panic!("{other:?}"),
        }
    }
    async fn expectations_look_at_the_state_before_the_batch(f) {
        f.commit(vec![put("a", "1"), check("a", Expect::Absent)]).await.unwrap();
        assert!(is_conflict(f.commit(vec![delete("a"), put_if("a", "2", Expect::Absent)]).await));
    }
    async fn the_last_write_of_a_name_in_a_batch_wins(f) {
        f.commit(vec![put("a", "1"), put("a", "2")]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
        f.commit(vec![put("a", "3"), delete("a")]).await.unwrap();
        assert_eq!(f.text("a").await, None);
    }
    async fn a_batch_of_many_is_whole(f) {
        let writes: Vec<_> = (0..300).map(|n| put(&format!("n/{n:03}"), &n.to_string())).collect();
        assert_eq!(f.commit(writes).await.unwrap().len(), 300);
        assert_eq!(f.names("n/", None, 1000).await.len(), 300);
    }
    async fn ttl_ends_a_value(f) {
        f.commit(vec![put_for("a", "1", ms(80))]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("1"));
        f.pass(ms(160)).await;
        assert_eq!(f.text("a").await, None);
    }
    async fn a_put_without_ttl_ends_the_ttl(f) {
        f.commit(vec![put_for("a", "1", ms(80))]).await.unwrap();
        f.put("a", "2").await;
        f.pass(ms(160)).await;
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
    }
    async fn a_put_with_ttl_prolongs(f) {
        f.commit(vec![put_for("a", "1", ms(300))]).await.unwrap();
        f.commit(vec![put_for("a", "2", Duration::from_secs(60))]).await.unwrap();
        f.pass(ms(400)).await;
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
    }
    async fn a_value_put_again_after_expiry_stays(f) {
        f.commit(vec![put_for("a", "1", ms(60))]).await.unwrap();
        f.pass(ms(120)).await;
        f.put("a", "2").await;
        f.put("b", "so that a sweep runs").await;
        assert_eq!(f.text("a").await.as_deref(), Some("2"));
        assert_eq!(f.names("", None, 10).await, ["a", "b"]);
    }
    async fn a_tiny_ttl_is_not_for_ever(f) {
        f.commit(vec![put_for("a", "1", Duration::from_nanos(1))]).await.unwrap();
        f.pass(ms(20)).await;
        assert_eq!(f.text("a").await, None);
    }
    async fn a_century_of_ttl_is_fine(f) {
        f.commit(vec![put_for("a", "1", Duration::from_secs(100 * 366 * 86_400))]).await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("1"));
    }
    async fn scan_is_in_byte_order(f) {
        for name in ["b", "a/2", "a", "a/10", "Z", "ä"] {
            f.put(name, "").await;
        }
        assert_eq!(f.names("", None, 10).await, ["Z", "a", "a/10", "a/2", "b", "ä"]);
    }
    async fn scan_keeps_to_the_prefix(f) {
        for name in ["a", "a/1", "a/2", "a0", "b/1"] {
            f.put(name, "").await;
        }
        assert_eq!(f.names("a/", None, 10).await, ["a/1", "a/2"]);
        assert_eq!(f.names("a", None, 10).await, ["a", "a/1", "a/2", "a0"]);
        assert!(f.names("c", None, 10).await.is_empty());
    }
    async fn scan_goes_on_after_a_name(f) {
        for name in ["a/1", "a/2", "a/3"] {
            f.put(name, "").await;
        }
        assert_eq!(f.names("a/", Some("a/1"), 10).await, ["a/2", "a/3"]);
        assert_eq!(f.names("a/", Some("a/15"), 10).await, ["a/2", "a/3"]);
        assert_eq!(f.names("a/", Some("A"), 10).await, ["a/1", "a/2", "a/3"]);
        assert!(f.names("a/", Some("a/3"), 10).await.is_empty());
        assert!(f.names("a/", Some("b"), 10).await.is_empty());
    }
    async fn scan_gives_values_and_versions(f) {
        let version = f.put("a", "one").await;
        let found = f.store.scan(&f.slot, "", None, 10).await.unwrap();
        assert_eq!((found[0].1.value.as_ref(), found[0].1.version), (b"one".as_ref(), version));
    }
    async fn scan_keeps_to_the_limit(f) {
        f.commit((0..20).map(|n| put(&format!("{n:02}"), "")).collect()).await.unwrap();
        assert_eq!(f.names("", None, 7).await.len(), 7);
        assert!(f.names("", None, 0).await.is_empty());
    }
    async fn scan_of_many_pages_is_complete(f) {
        let expected: Vec<String> = (0..700).map(|n| format!("k/{n:04}")).collect();
        f.commit(expected.iter().map(|name| put(name, "v")).collect()).await.unwrap();
        assert_eq!(f.names("k/", None, 5000).await, expected);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = f.names("k/", after.as_deref(), 90).await;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page);
        }
        assert_eq!(found, expected);
    }
    async fn scan_passes_over_the_dead(f) {
        let mut writes: Vec<_> = (0..300).map(|n| put_for(&format!("k/{n:03}"), "", ms(100))).collect();
        writes.push(put("k/alive", ""));
        f.commit(writes).await.unwrap();
        f.pass(ms(250)).await;
        assert_eq!(f.names("k/", None, 1).await, ["k/alive"]);
        assert_eq!(f.names("k/", None, 10).await, ["k/alive"]);
    }
    async fn every_slot_is_found_once(f) {
        let second = Slot::new(format!("{}-second", f.slot));
        f.put("a}#index", "1").await;
        f.put("b", "1").await;
        f.store.commit(Batch { slot: second.clone(), fence: None, writes: vec![put("a", "1")] }).await.unwrap();
        for store in [&f.store, &f.other] {
            let slots = store.slots().await.unwrap();
            let count = |slot: &Slot| slots.iter().filter(|found| *found == slot).count();
            assert_eq!((count(&f.slot), count(&second)), (1, 1));
            assert!(slots.iter().all(|slot| !slot.as_str().contains(['{', '}'])));
        }
    }
    async fn a_slot_without_entries_is_not_found(f) {
        f.put("a", "1").await;
        f.commit(vec![delete("a")]).await.unwrap();
        f.store.hold(&f.key("l"), ms(60_000)).await.unwrap();
        assert!(!f.store.slots().await.unwrap().contains(&f.slot));
        assert_eq!(f.store.lasting(&f.slot, None).await.unwrap(), Lasting::default());
    }
    async fn lasting_leaves_out_what_ends(f) {
        f.commit(vec![put("b", "2"), put_for("a", "1", ms(60_000)), put("c", ""), put_for("d", "4", ms(60_000))]).await.unwrap();
        f.commit(vec![put("d", "for ever now"), put_for("c", "ends now", ms(60_000))]).await.unwrap();
        let found = f.store.lasting(&f.slot, None).await.unwrap();
        let entry = |name: &str, value: &'static str| (name.to_owned(), Bytes::from(value));
        assert_eq!(found, Lasting { entries: vec![entry("b", "2"), entry("d", "for ever now")], next: None });
        assert_eq!(f.store.lasting(&f.slot, Some("b")).await.unwrap().entries, [entry("d", "for ever now")]);
    }
    async fn lasting_goes_on_after_as_many_names_as_it_looks_at(f) {
        let names: Vec<String> = (0..=LOOKED_AT).map(|n| format!("n/{n:05}")).collect();
        for part in names.chunks(512) {
            let put = |name: &String| if name.ends_with('7') { put_for(name, "", ms(600_000)) } else { put(name, "") };
            f.commit(part.iter().map(put).collect()).await.unwrap();
        }
        let first = f.store.lasting(&f.slot, None).await.unwrap();
        assert_eq!(first.next.as_ref(), names.get(LOOKED_AT - 1));
        let last = f.store.lasting(&f.slot, first.next.as_deref()).await.unwrap();
        assert_eq!(last.next, None);
        let found: Vec<String> = first.entries.into_iter().chain(last.entries).map(|(name, _)| name).collect();
        assert_eq!(found, names.into_iter().filter(|name| !name.ends_with('7')).collect::<Vec<_>>());
    }
    async fn health_is_well(f) {
        assert!(!f.store.health().await.unwrap().description.is_empty());
    }
}
