//! Creations that wait for room: first come, first served for each owner, and the owners take turns, so that one who asks
//! for a thousand does not make the others wait for all of them.

use std::collections::{HashMap, VecDeque};

use super::caller::Holder;

/// Those who wait. `T` is what is needed to let one in.
#[derive(Debug)]
pub(super) struct SpawnQueue<T> {
    /// Everybody with something in `waiting`, in the order of their turns.
    turns: VecDeque<Holder>,
    waiting: HashMap<Holder, VecDeque<(Ticket, T)>>,
    last_ticket: u64,
    length: usize,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<T> Default for SpawnQueue<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            last_ticket: 0,
            length: 0,
        }
    }
}

impl<T> SpawnQueue<T> {
    /// Creations that wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds one at the end of its holder's line.
    pub(super) fn push(&mut self, holder: &Holder, waiting: T) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let line = self.waiting.entry(holder.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(holder.clone());
        }
        line.push_back((ticket, waiting));
        self.length += 1;
        ticket
    }

    /// Takes the next one whose holder has room.
    pub(super) fn pop(&mut self, has_room: impl Fn(&Holder) -> bool) -> Option<(Holder, T)> {
        let turn = self.turns.iter().position(has_room)?;
        let holder = self.turns.remove(turn)?;
        let line = self.waiting.get_mut(&holder)?;
        let (_, waiting) = line.pop_front()?;
        self.length -= 1;
        if line.is_empty() {
            self.waiting.remove(&holder);
        } else {
            self.turns.push_back(holder.clone());
        }
        Some((holder, waiting))
    }

    /// Takes one out that no longer waits; `None` when it was let in already.
    pub(super) fn remove(&mut self, holder: &Holder, ticket: Ticket) -> Option<T> {
        let line = self.waiting.get_mut(holder)?;
        let place = line.iter().position(|(known, _)| *known == ticket)?;
        let (_, waiting) = line.remove(place)?;
        self.length -= 1;
        if line.is_empty() {
            self.waiting.remove(holder);
            self.turns.retain(|known| known != holder);
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TenantId, UserId};
    use super::*;

    fn holder(name: &str) -> Holder {
        Holder {
            tenant: TenantId::default(),
            owner: Some(UserId::parse(name).unwrap()),
        }
    }

    fn queue(entries: &[(&str, u32)]) -> (SpawnQueue<u32>, Vec<Ticket>) {
        let mut queue = SpawnQueue::default();
        let tickets = entries
            .iter()
            .map(|(name, number)| queue.push(&holder(name), *number))
            .collect();
        (queue, tickets)
    }

    fn drain(queue: &mut SpawnQueue<u32>, has_room: impl Fn(&Holder) -> bool + Copy) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(has_room).map(|(_, number)| number)).collect()
    }

    #[test]
    fn owners_take_turns_and_each_ones_are_in_order() {
        let (mut queue, _) = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]);
        assert_eq!(drain(&mut queue, |_| true), [1, 4, 5, 2, 6, 3]);
        assert_eq!((queue.len(), queue.turns.len(), queue.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn who_has_no_room_does_not_hold_up_the_others() {
        let (mut queue, _) = queue(&[("a", 1), ("b", 2), ("b", 3)]);
        let (a, b) = (holder("a"), holder("b"));
        assert_eq!(drain(&mut queue, |holder| *holder == b), [2, 3]);
        assert_eq!(drain(&mut queue, |holder| *holder == a), [1]);
    }

    #[test]
    fn who_leaves_is_not_let_in() {
        let (mut queue, tickets) = queue(&[("a", 1), ("a", 2), ("b", 3)]);
        assert_eq!(queue.remove(&holder("a"), tickets[0]), Some(1));
        assert_eq!(queue.remove(&holder("a"), tickets[0]), None);
        assert_eq!(queue.remove(&holder("b"), tickets[2]), Some(3));
        assert_eq!(drain(&mut queue, |_| true), [2]);
        assert_eq!((queue.len(), queue.turns.len(), queue.waiting.len()), (0, 0, 0));
    }
}
