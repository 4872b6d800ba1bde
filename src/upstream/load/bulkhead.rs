//! A bounded number of calls in flight and a bounded line before it, served in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::oneshot;

use super::{AccountLoad, Lane, lock};

/// Room for calls. Entering and leaving are an atomic operation each as long as nobody waits.
#[derive(Default)]
pub(super) struct Bulkhead {
    room: AtomicUsize,
    inside: AtomicUsize,
    /// The length of the line, for those who do not want its lock.
    waiting: AtomicUsize,
    line: Mutex<VecDeque<oneshot::Sender<Permit>>>,
}

/// A place inside; given back when dropped.
pub struct Permit {
    load: Arc<AccountLoad>,
    lane: Lane,
}

impl Permit {
    pub(super) fn new(load: Arc<AccountLoad>, lane: Lane) -> Self {
        Self { load, lane }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let bulkhead = self.load.room(self.lane);
        bulkhead.inside.fetch_sub(1, SeqCst);
        if bulkhead.waiting.load(SeqCst) > 0 {
            hand_on(&self.load, self.lane);
        }
    }
}

impl Bulkhead {
    pub(super) fn room(&self) -> usize {
        self.room.load(SeqCst)
    }

    pub(super) fn set_room(&self, room: usize) {
        self.room.store(room.max(1), SeqCst);
    }

    /// Takes a place unless somebody waits for it. The caller owns it.
    pub(super) fn try_enter(&self) -> bool {
        self.waiting.load(SeqCst) == 0 && self.take()
    }

    fn take(&self) -> bool {
        let room = self.room();
        self.inside.fetch_update(SeqCst, SeqCst, |inside| (inside < room).then_some(inside + 1)).is_ok()
    }
}

/// A place in the line, unless `most` wait already.
pub(super) fn queue(load: &Arc<AccountLoad>, lane: Lane, most: usize) -> Option<oneshot::Receiver<Permit>> {
    let bulkhead = load.room(lane);
    let (tell, told) = oneshot::channel();
    {
        let mut line = lock(&bulkhead.line);
        if line.len() >= most {
            line.retain(|waiting| !waiting.is_closed());
        }
        if line.len() >= most {
            return None;
        }
        line.push_back(tell);
        bulkhead.waiting.store(line.len(), SeqCst);
    }
    // A place may have become free before anybody could see that somebody waits.
    hand_on(load, lane);
    Some(told)
}

/// Gives free places to those who wait longest.
fn hand_on(load: &Arc<AccountLoad>, lane: Lane) {
    let bulkhead = load.room(lane);
    loop {
        let next = {
            let mut line = lock(&bulkhead.line);
            while line.front().is_some_and(oneshot::Sender::is_closed) {
                line.pop_front();
            }
            let next = if !line.is_empty() && bulkhead.take() { line.pop_front() } else { None };
            bulkhead.waiting.store(line.len(), SeqCst);
            next
        };
        match next {
            // Whoever left in this moment gives the place back by dropping it.
            Some(next) => drop(next.send(Permit::new(load.clone(), lane))),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::HostLoad, *};
    use crate::model::AccountId;

    fn load(room: usize) -> Arc<AccountLoad> {
        let host = Arc::new(HostLoad::new("sample".parse().unwrap(), String::new()));
        let load = Arc::new(AccountLoad::new(AccountId::generate(), host));
        load.calls.set_room(room);
        load
    }

    #[tokio::test]
    async fn those_who_wait_are_served_in_their_order() {
        let load = load(1);
        let first = load.try_enter(Lane::Calls).unwrap();
        let mut line: Vec<_> = (0..5).map(|_| queue(&load, Lane::Calls, 5).unwrap()).collect();
        assert!(queue(&load, Lane::Calls, 5).is_none(), "the line is bounded");
        drop(first);
        assert!(load.try_enter(Lane::Calls).is_none(), "nobody overtakes");
        line.remove(2);
        for told in line {
            let permit = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap().unwrap();
            assert!(load.try_enter(Lane::Calls).is_none());
            drop(permit);
        }
        assert!(load.try_enter(Lane::Calls).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost_or_given_twice() {
        let load = load(3);
        let most = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..64)
            .map(|n| {
                let (load, most) = (load.clone(), most.clone());
                #[expect(clippy::disallowed_methods, reason = "a test")]
                tokio::spawn(async move {
                    for round in 0..200 {
                        let entered = load.enter(Lane::Calls);
                        // Some give up while they wait, at any moment.
                        let patience = if (n + round) % 5 == 0 { 20 } else { 60_000_000 };
                        let Ok(permit) = tokio::time::timeout(Duration::from_micros(patience), entered).await else { continue };
                        let permit = permit.map_err(|failure| failure.to_string()).unwrap();
                        most.fetch_max(load.calls.inside.load(SeqCst), SeqCst);
                        tokio::task::yield_now().await;
                        drop(permit);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert!((1..=3).contains(&most.load(SeqCst)), "{most:?}");
        assert_eq!((load.calls.inside.load(SeqCst), load.calls.waiting.load(SeqCst)), (0, 0));
    }
}
