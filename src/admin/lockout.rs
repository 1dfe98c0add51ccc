//! Whoever guesses at admin tokens: an address that sent many wrong ones is not listened to for a while.
//!
//! Right tokens from that address are not listened to either: else a guesser would hear which one is right.

use crate::domain::Timestamp;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Wrong tokens that an address may send before it is locked out. A script with an old token is through with them in a
/// minute; for a guesser at a token of 32 random characters they are nothing.
pub const GUESSES: u32 = 50;
/// For so long after the last one they are remembered, and nothing more is listened to.
pub const LOCKED_FOR: Duration = Duration::from_secs(60);
/// Addresses that are remembered at most: beyond, the one that has been quiet for longest is forgotten.
const ADDRESSES: usize = 1_024;

/// The addresses that guessed of late.
#[derive(Debug, Default)]
pub struct Lockout(Mutex<BTreeMap<IpAddr, Guesses>>);

#[derive(Debug, Clone, Copy)]
struct Guesses {
    count: u32,
    forgotten_at: Timestamp,
}

impl Lockout {
    /// How long an address is not listened to yet; nothing, if it is.
    #[must_use]
    pub fn locked(&self, from: IpAddr, now: Timestamp) -> Option<Duration> {
        let known = self.addresses().get(&network(from)).copied()?;
        let left = known.forgotten_at.since(now);
        (known.count >= GUESSES && left > Duration::ZERO).then_some(left)
    }

    /// Notes a wrong token; says whether that was one too many.
    pub fn wrong(&self, from: IpAddr, now: Timestamp) -> bool {
        let mut addresses = self.addresses();
        let from = network(from);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&from) {
            let quiet = addresses.iter().min_by_key(|(_, guesses)| guesses.forgotten_at).map(|(address, _)| *address);
            quiet.and_then(|address| addresses.remove(&address));
        }
        let guesses = addresses.entry(from).or_insert(Guesses { count: 0, forgotten_at: now });
        if guesses.forgotten_at <= now {
            guesses.count = 0;
        }
        guesses.count += 1;
        guesses.forgotten_at = now.plus(LOCKED_FOR);
        guesses.count == GUESSES
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Guesses>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has one address of IPv6 has all of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES, GUESSES, LOCKED_FOR, Lockout};
    use crate::domain::Timestamp;
    use std::net::{IpAddr, Ipv4Addr};

    const NOW: Timestamp = Timestamp::from_millis(1_726_824_222_989);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn guess(lockout: &Lockout, from: &str, times: u32) -> bool {
        (0..times).fold(false, |_, _| lockout.wrong(ip(from), NOW))
    }

    #[test]
    fn an_address_is_locked_out_after_so_many_guesses_and_for_so_long() {
        let lockout = Lockout::default();
        assert!(!guess(&lockout, "10.0.0.1", GUESSES - 1));
        assert_eq!(lockout.locked(ip("10.0.0.1"), NOW), None);
        assert!(guess(&lockout, "10.0.0.1", 1));
        assert_eq!(lockout.locked(ip("10.0.0.1"), NOW), Some(LOCKED_FOR));
        assert_eq!(lockout.locked(ip("10.0.0.2"), NOW), None);
        let later = NOW.plus(LOCKED_FOR);
        assert_eq!(lockout.locked(ip("10.0.0.1"), later), None);
        assert!(!lockout.wrong(ip("10.0.0.1"), later), "it begins anew");
    }

    #[test]
    fn an_address_is_its_network_however_it_is_written() {
        let lockout = Lockout::default();
        guess(&lockout, "2001:db8::1", GUESSES);
        assert!(lockout.locked(ip("2001:db8::ffff:2"), NOW).is_some());
        assert_eq!(lockout.locked(ip("2001:db8:0:1::1"), NOW), None);
        guess(&lockout, "::ffff:10.0.0.1", GUESSES);
        assert!(lockout.locked(ip("10.0.0.1"), NOW).is_some());
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_more_memory_and_frees_no_one_early() {
        let lockout = Lockout::default();
        for number in 0..10_000_u32 {
            lockout.wrong(IpAddr::V4(Ipv4Addr::from(number)), NOW);
        }
        assert_eq!(lockout.addresses().len(), ADDRESSES);
        let later = NOW.plus(LOCKED_FOR / 2);
        (0..GUESSES).for_each(|_| _ = lockout.wrong(ip("10.0.0.1"), later));
        (0..500).for_each(|number| _ = lockout.wrong(IpAddr::V4(Ipv4Addr::from(number)), later));
        assert!(lockout.locked(ip("10.0.0.1"), later).is_some());
    }
}
