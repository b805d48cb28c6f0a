//! A queue that everybody has a turn in: one who brings much waits behind what is his own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Things that wait, by whose they are.
#[derive(Debug)]
struct Lanes<T> {
    lanes: BTreeMap<u16, VecDeque<T>>,
    /// Lanes with something in them, the next first.
    turns: VecDeque<u16>,
    count: usize,
    most: usize,
    most_of_one: usize,
}

impl<T> Lanes<T> {
    fn push(&mut self, lane: u16, thing: T) -> Result<(), T> {
        let queue = self.lanes.entry(lane).or_default();
        if self.count >= self.most || queue.len() >= self.most_of_one {
            return Err(thing);
        }
        if queue.is_empty() {
            self.turns.push_back(lane);
        }
        queue.push_back(thing);
        self.count += 1;
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        let lane = self.turns.pop_front()?;
        let queue = self.lanes.get_mut(&lane)?;
        let thing = queue.pop_front()?;
        self.count -= 1;
        if queue.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        Some(thing)
    }
}

#[derive(Debug)]
struct Shared<T> {
    lanes: Mutex<Lanes<T>>,
    filled: Notify,
}

impl<T> Shared<T> {
    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        // Nothing in there can panic half-way.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where things come in.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// # Errors
    /// The thing itself, if too much waits already, of all or of this one.
    pub(crate) fn try_send(&self, lane: u16, thing: T) -> Result<(), T> {
        self.0.lanes().push(lane, thing)?;
        self.0.filled.notify_one();
        Ok(())
    }
}

/// Where they come out; there is one.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// Waits for the next.
    pub(crate) async fn recv(&mut self) -> T {
        loop {
            if let Some(thing) = self.try_recv() {
                return thing;
            }
            self.0.filled.notified().await;
        }
    }

    /// The next, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.0.lanes().pop()
    }
}

/// A queue for so many things, and so many of one.
pub(crate) fn queue<T>(most: usize, most_of_one: usize) -> (Sender<T>, Receiver<T>) {
    let lanes = Mutex::new(Lanes {
        lanes: BTreeMap::new(),
        turns: VecDeque::new(),
        count: 0,
        most,
        most_of_one,
    });
    let shared = Arc::new(Shared {
        lanes,
        filled: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_much_waits_behind_his_own() {
        let (sender, mut receiver) = queue(100, 10);
        for n in 0..10 {
            sender.try_send(1, (1, n)).unwrap();
        }
        assert_eq!(sender.try_send(1, (1, 10)), Err((1, 10)), "one has enough");
        sender.try_send(2, (2, 0)).unwrap();
        sender.try_send(3, (3, 0)).unwrap();
        sender.try_send(2, (2, 1)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| receiver.try_recv()).collect();
        let first = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (1, 3)];
        assert_eq!(order[..7], first);
        assert_eq!(order.len(), 13, "nothing is lost");
        assert!(order.iter().filter(|thing| thing.0 == 1).is_sorted());
    }

    #[test]
    fn all_together_may_not_bring_more_than_fits() {
        let (sender, mut receiver) = queue(3, 2);
        for lane in 1..=3 {
            sender.try_send(lane, lane).unwrap();
        }
        assert_eq!(sender.try_send(4, 4), Err(4));
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(sender.try_send(4, 4), Ok(()));
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (sender, mut receiver) = queue(3, 2);
        let reader = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        sender.try_send(7, "a").unwrap();
        sender.try_send(7, "b").unwrap();
        assert_eq!(reader.await.unwrap(), ("a", "b"));
    }
}
