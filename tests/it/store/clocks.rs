//! The definition of locks, queues and rate buckets.

use std::time::Duration;

use bytes::Bytes;
use rollcall::store::{Batch, Claimed, Hold, Settle, StoreError};

use super::fixture::{Case, Fixture, cases, ms, put};

const LONG: Duration = Duration::from_secs(60);

async fn push(f: &Fixture, id: &str, delay: Duration) {
    f.store.push(&f.key("q"), id, Bytes::from(format!("value of {id}")), delay).await.unwrap();
}

async fn claim(f: &Fixture, lease: Duration, limit: usize) -> Vec<Claimed> {
    f.store.claim(&f.key("q"), lease, limit).await.unwrap()
}

async fn fenced(f: &Fixture, hold: &Hold, name: &str) -> Result<Vec<u64>, StoreError> {
    f.store.commit(Batch { slot: f.slot.clone(), fence: Some(hold.clone()), writes: vec![put(name, "1")] }).await
}

fn ids(items: &[Claimed]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}

cases! {
    async fn a_lock_is_held_once(f) {
        let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        assert_eq!(hold.key, f.key("l"));
        assert_eq!(f.other.hold(&f.key("l"), LONG).await.unwrap(), None);
        assert!(f.store.hold(&f.key("m"), LONG).await.unwrap().is_some());
    }
    async fn a_released_lock_is_free(f) {
        let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        f.store.release(&hold).await.unwrap();
        assert!(f.other.hold(&f.key("l"), LONG).await.unwrap().is_some());
    }
    async fn a_lock_ends_by_itself(f) {
        f.store.hold(&f.key("l"), ms(80)).await.unwrap().unwrap();
        f.pass(ms(160)).await;
        assert!(f.store.hold(&f.key("l"), LONG).await.unwrap().is_some());
    }
    async fn fencing_numbers_grow(f) {
        let mut last = 0;
        for _ in 0..5 {
            let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
            assert!(hold.fence > last);
            last = hold.fence;
            f.store.release(&hold).await.unwrap();
        }
    }
    async fn a_renewed_lock_lives_on(f) {
        let hold = f.store.hold(&f.key("l"), ms(200)).await.unwrap().unwrap();
        assert!(f.store.renew(&hold, LONG).await.unwrap());
        f.pass(ms(300)).await;
        assert_eq!(f.store.hold(&f.key("l"), LONG).await.unwrap(), None);
    }
    async fn a_lost_lock_cannot_be_renewed(f) {
        let hold = f.store.hold(&f.key("l"), ms(60)).await.unwrap().unwrap();
        f.pass(ms(120)).await;
        assert!(!f.store.renew(&hold, LONG).await.unwrap());
        assert!(f.store.hold(&f.key("l"), LONG).await.unwrap().is_some());
        assert!(!f.store.renew(&hold, LONG).await.unwrap());
    }
    async fn releasing_does_not_touch_the_next_holder(f) {
        let old = f.store.hold(&f.key("l"), ms(60)).await.unwrap().unwrap();
        f.pass(ms(120)).await;
        let new = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        f.store.release(&old).await.unwrap();
        assert!(f.store.renew(&new, LONG).await.unwrap());
    }
    async fn a_forged_owner_holds_nothing(f) {
        let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        let forged = Hold { owner: "somebody".into(), ..hold.clone() };
        assert!(!f.store.renew(&forged, LONG).await.unwrap());
        f.store.release(&forged).await.unwrap();
        assert!(f.store.renew(&hold, LONG).await.unwrap());
    }
    async fn a_lock_is_not_a_value(f) {
        f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        assert_eq!(f.text("l").await, None);
        assert!(f.names("", None, 10).await.is_empty());
    }
    async fn a_held_lock_lets_a_fenced_batch_through(f) {
        let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        fenced(&f, &hold, "a").await.unwrap();
        assert_eq!(f.text("a").await.as_deref(), Some("1"));
    }
    async fn an_ended_lock_fences_off(f) {
        let hold = f.store.hold(&f.key("l"), ms(60)).await.unwrap().unwrap();
        f.pass(ms(120)).await;
        assert!(matches!(fenced(&f, &hold, "a").await, Err(StoreError::Fenced)));
        assert_eq!(f.text("a").await, None);
    }
    async fn an_earlier_holder_is_fenced_off(f) {
        let old = f.store.hold(&f.key("l"), ms(60)).await.unwrap().unwrap();
        f.pass(ms(120)).await;
        let new = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        assert!(matches!(fenced(&f, &old, "a").await, Err(StoreError::Fenced)));
        fenced(&f, &new, "a").await.unwrap();
    }
    async fn a_released_lock_fences_off(f) {
        let hold = f.store.hold(&f.key("l"), LONG).await.unwrap().unwrap();
        f.store.release(&hold).await.unwrap();
        assert!(matches!(fenced(&f, &hold, "a").await, Err(StoreError::Fenced)));
    }
    async fn a_lock_of_another_slot_fences_off(f) {
        let mut elsewhere = f.key("l");
        elsewhere.slot = rollcall::store::Slot::new(format!("{}x", f.slot));
        let hold = f.store.hold(&elsewhere, LONG).await.unwrap().unwrap();
        assert!(matches!(fenced(&f, &hold, "a").await, Err(StoreError::Fenced)));
    }
    async fn an_empty_queue_gives_nothing(f) {
        assert!(claim(&f, LONG, 10).await.is_empty());
    }
    async fn a_pushed_item_is_claimed(f) {
        push(&f, "1", Duration::ZERO).await;
        let items = claim(&f, LONG, 10).await;
        assert_eq!((ids(&items), items[0].value.as_ref(), items[0].attempt), (vec!["1"], b"value of 1".as_ref(), 1));
    }
    async fn the_same_id_is_one_item(f) {
        push(&f, "1", Duration::ZERO).await;
        f.store.push(&f.key("q"), "1", Bytes::from("other"), LONG).await.unwrap();
        let items = claim(&f, LONG, 10).await;
        assert_eq!((items.len(), items[0].value.as_ref()), (1, b"value of 1".as_ref()));
    }
    async fn an_item_that_waits_comes_at_the_earlier_time(f) {
        push(&f, "1", LONG).await;
        push(&f, "1", ms(60)).await;
        push(&f, "1", ms(30_000)).await;
        assert!(claim(&f, LONG, 10).await.is_empty());
        f.pass(ms(150)).await;
        let item = claim(&f, LONG, 10).await.remove(0);
        assert!(f.store.settle(&f.key("q"), &item, Settle::Retry(LONG)).await.unwrap());
        f.store.push(&f.key("q"), "1", Bytes::from("other"), Duration::ZERO).await.unwrap();
        let again = claim(&f, LONG, 10).await;
        assert_eq!((again.len(), again[0].value.as_ref(), again[0].attempt), (1, b"value of 1".as_ref(), 2));
        assert!(claim(&f, LONG, 10).await.is_empty(), "one item");
    }
    async fn a_claimed_item_is_not_pushed_again(f) {
        push(&f, "1", Duration::ZERO).await;
        assert_eq!(claim(&f, LONG, 10).await.len(), 1);
        push(&f, "1", Duration::ZERO).await;
        assert!(claim(&f, LONG, 10).await.is_empty());
    }
    async fn a_delayed_item_waits(f) {
        push(&f, "1", ms(120)).await;
        assert!(claim(&f, LONG, 10).await.is_empty());
        f.pass(ms(200)).await;
        assert_eq!(claim(&f, LONG, 10).await.len(), 1);
    }
    async fn items_come_in_order_of_time(f) {
        for (id, delay) in [("late", 60), ("soon", 30), ("now", 0)] {
            push(&f, id, ms(delay)).await;
        }
        f.pass(ms(150)).await;
        assert_eq!(ids(&claim(&f, LONG, 10).await), ["now", "soon", "late"]);
    }
    async fn a_claim_keeps_to_its_limit(f) {
        for id in ["1", "2", "3"] {
            push(&f, id, Duration::ZERO).await;
            f.pass(ms(2)).await;
        }
        assert_eq!(ids(&claim(&f, LONG, 2).await), ["1", "2"]);
        assert_eq!(ids(&claim(&f, LONG, 2).await), ["3"]);
    }
    async fn a_claimed_item_is_hidden_until_its_lease_ends(f) {
        push(&f, "1", Duration::ZERO).await;
        let first = claim(&f, ms(100), 10).await;
        assert!(f.other.claim(&f.key("q"), LONG, 10).await.unwrap().is_empty());
        f.pass(ms(200)).await;
        let second = claim(&f, LONG, 10).await;
        assert_eq!((ids(&second), second[0].attempt), (vec!["1"], 2));
        assert_ne!(first[0].lease, second[0].lease);
    }
    async fn a_done_item_is_gone(f) {
        push(&f, "1", Duration::ZERO).await;
        let item = claim(&f, ms(50), 10).await.remove(0);
        assert!(f.store.settle(&f.key("q"), &item, Settle::Done).await.unwrap());
        f.pass(ms(120)).await;
        assert!(claim(&f, LONG, 10).await.is_empty());
        assert!(!f.store.settle(&f.key("q"), &item, Settle::Done).await.unwrap());
    }
    async fn an_item_can_be_pushed_again_when_done(f) {
        push(&f, "1", Duration::ZERO).await;
        let item = claim(&f, LONG, 10).await.remove(0);
        f.store.settle(&f.key("q"), &item, Settle::Done).await.unwrap();
        push(&f, "1", Duration::ZERO).await;
        assert_eq!(claim(&f, LONG, 10).await[0].attempt, 1);
    }
    async fn a_retried_item_comes_back_in_time(f) {
        push(&f, "1", Duration::ZERO).await;
        let item = claim(&f, LONG, 10).await.remove(0);
        assert!(f.store.settle(&f.key("q"), &item, Settle::Retry(ms(100))).await.unwrap());
        assert!(claim(&f, LONG, 10).await.is_empty());
        f.pass(ms(200)).await;
        assert_eq!(claim(&f, LONG, 10).await[0].attempt, 2);
    }
    async fn an_ended_lease_settles_nothing(f) {
        push(&f, "1", Duration::ZERO).await;
        let late = claim(&f, ms(60), 10).await.remove(0);
        f.pass(ms(120)).await;
        assert!(!f.store.settle(&f.key("q"), &late, Settle::Done).await.unwrap());
        let again = claim(&f, LONG, 10).await.remove(0);
        assert!(!f.store.settle(&f.key("q"), &late, Settle::Done).await.unwrap());
        assert!(f.store.settle(&f.key("q"), &again, Settle::Done).await.unwrap());
    }
    async fn queues_do_not_mix(f) {
        push(&f, "1", Duration::ZERO).await;
        assert!(f.store.claim(&f.key("r"), LONG, 10).await.unwrap().is_empty());
        assert!(f.names("", None, 10).await.is_empty());
    }
    async fn a_bucket_starts_full_and_ends_empty(f) {
        for left in [2, 1, 0] {
            let spent = f.store.spend(&f.key("b"), 3, LONG).await.unwrap();
            assert!(spent.allowed && spent.wait.is_zero());
            assert_eq!(spent.remaining, left);
        }
        let spent = f.other.spend(&f.key("b"), 3, LONG).await.unwrap();
        assert!(!spent.allowed && spent.remaining == 0);
        assert!(spent.wait > Duration::from_secs(15) && spent.wait <= Duration::from_secs(20), "{spent:?}");
    }
    async fn a_bucket_refills_one_by_one(f) {
        for _ in 0..4 {
            f.store.spend(&f.key("b"), 4, ms(1200)).await.unwrap();
        }
        assert!(!f.store.spend(&f.key("b"), 4, ms(1200)).await.unwrap().allowed);
        f.pass(ms(350)).await;
        assert!(f.store.spend(&f.key("b"), 4, ms(1200)).await.unwrap().allowed);
        assert!(!f.store.spend(&f.key("b"), 4, ms(1200)).await.unwrap().allowed);
    }
    async fn a_bucket_never_holds_more_than_its_capacity(f) {
        f.store.spend(&f.key("b"), 2, ms(200)).await.unwrap();
        f.pass(ms(900)).await;
        let mut allowed = 0;
        while f.store.spend(&f.key("b"), 2, LONG).await.unwrap().allowed {
            allowed += 1;
        }
        assert_eq!(allowed, 2);
    }
    async fn a_refused_call_costs_nothing(f) {
        f.store.spend(&f.key("b"), 1, ms(400)).await.unwrap();
        for _ in 0..20 {
            assert!(!f.store.spend(&f.key("b"), 1, ms(400)).await.unwrap().allowed);
        }
        f.pass(ms(450)).await;
        assert!(f.store.spend(&f.key("b"), 1, ms(400)).await.unwrap().allowed);
    }
    async fn a_bucket_without_capacity_allows_nothing(f) {
        assert!(!f.store.spend(&f.key("b"), 0, LONG).await.unwrap().allowed);
    }
    async fn buckets_do_not_mix(f) {
        f.store.spend(&f.key("b"), 1, LONG).await.unwrap();
        assert!(f.store.spend(&f.key("c"), 1, LONG).await.unwrap().allowed);
    }
}
