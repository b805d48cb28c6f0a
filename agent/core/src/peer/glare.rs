//! Two channels between the same two nodes: which one stays.
//!
//! Both nodes see the same facts of both channels, so both come to the same answer.

use crate::ids::{Epoch, NodeUid};

/// What counts about one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender<'a> {
    /// The peer's boot, as it said in HELLO.
    pub(crate) boot_id: &'a [u8; 16],
    /// The peer's instance, as it said in HELLO.
    pub(crate) instance: u64,
    /// The highest epoch that the node that dialled knew. Who knows more dials to renew the keys.
    pub(crate) follows: Epoch,
    /// The node that dialled.
    pub(crate) client: &'a NodeUid,
}

/// What becomes of the channel in use when another one is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The one in use stays, the other is closed.
    KeepCurrent,
    /// The new one takes over; grants stay.
    Replace,
    /// The peer has booted since: all that the old channel set up dies now.
    Rebooted,
}

/// Decides between the channel in use and one that has just opened.
pub(crate) fn decide(current: Contender<'_>, new: Contender<'_>) -> Outcome {
    if current.boot_id != new.boot_id {
        return Outcome::Rebooted;
    }
    match new.instance.cmp(&current.instance) {
        std::cmp::Ordering::Greater => Outcome::Replace,
        std::cmp::Ordering::Less => Outcome::KeepCurrent,
        std::cmp::Ordering::Equal if new.follows != current.follows => {
            if new.follows > current.follows {
                Outcome::Replace
            } else {
                Outcome::KeepCurrent
            }
        }
        // A node dials again only after it gave up its channel, so the same client means that the
        // current one is dead on its side.
        std::cmp::Ordering::Equal if new.client <= current.client => Outcome::Replace,
        std::cmp::Ordering::Equal => Outcome::KeepCurrent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let (a, b) = (NodeUid::new("a"), NodeUid::new("b"));
        let (boot, other) = ([1; 16], [2; 16]);
        let one = |boot_id, instance, client| Contender {
            boot_id,
            instance,
            follows: Epoch(4),
            client,
        };
        let knows = |follows, client| Contender {
            follows: Epoch(follows),
            ..one(&boot, 1, client)
        };
        let rows = [
            (
                "newer instance",
                one(&boot, 1, &a),
                one(&boot, 2, &b),
                Outcome::Replace,
            ),
            (
                "older instance",
                one(&boot, 2, &b),
                one(&boot, 1, &a),
                Outcome::KeepCurrent,
            ),
            (
                "smaller client",
                one(&boot, 1, &b),
                one(&boot, 1, &a),
                Outcome::Replace,
            ),
            (
                "greater client",
                one(&boot, 1, &a),
                one(&boot, 1, &b),
                Outcome::KeepCurrent,
            ),
            (
                "redial",
                one(&boot, 1, &a),
                one(&boot, 1, &a),
                Outcome::Replace,
            ),
            (
                "to renew the keys",
                one(&boot, 1, &a),
                knows(5, &b),
                Outcome::Replace,
            ),
            (
                "dialled before they were renewed",
                one(&boot, 1, &b),
                knows(3, &a),
                Outcome::KeepCurrent,
            ),
            (
                "boot",
                one(&boot, 9, &a),
                one(&other, 1, &b),
                Outcome::Rebooted,
            ),
        ];
        for (name, current, new, outcome) in rows {
            assert_eq!(decide(current, new), outcome, "{name}");
        }
    }

    #[test]
    fn both_orders_of_arrival_leave_the_same_channel() {
        let (a, b) = (NodeUid::new("a"), NodeUid::new("b"));
        let boot = [1; 16];
        let of_a = Contender {
            boot_id: &boot,
            instance: 5,
            follows: Epoch(4),
            client: &a,
        };
        let of_b = Contender {
            boot_id: &boot,
            instance: 5,
            follows: Epoch(4),
            client: &b,
        };
        assert_eq!(decide(of_a, of_b), Outcome::KeepCurrent);
        assert_eq!(decide(of_b, of_a), Outcome::Replace);
    }
}
