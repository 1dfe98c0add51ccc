//! What one destination must hold, kept from what was sent and from nothing the product says of itself.

use crate::crash::{
    load::Senders,
    push::{KEYS, Push},
};
use std::collections::{HashMap, HashSet};

/// A route to this destination, and which pushes it is for.
pub type Route = (&'static str, fn(Push) -> bool);

/// A message as a consumer sees it.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Our id of the event.
    pub id: String,
    /// The identity of the delivery.
    pub delivery: String,
    pub route: String,
    pub vendor_id: String,
    pub subject: String,
    pub value: Vec<u8>,
}

/// Everything that one destination has received so far.
pub struct History {
    pub name: &'static str,
    routes: &'static [Route],
    /// What the value of a push must be, to the byte.
    value: fn(Push) -> Vec<u8>,
    /// The id that each push has here.
    ids: HashMap<Push, String>,
    delivered: HashSet<(Push, &'static str)>,
    /// The next number of a key, by route.
    next: HashMap<(usize, &'static str), usize>,
    /// The last number of a key, over all routes.
    last: [usize; KEYS],
    copies: usize,
}

impl History {
    pub fn new(name: &'static str, routes: &'static [Route], value: fn(Push) -> Vec<u8>) -> Self {
        let (ids, delivered, next) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { name, routes, value, ids, delivered, next, last: [0; KEYS], copies: 0 }
    }

    /// Takes what came since the last look; says how many were copies of what was there before.
    pub fn take(&mut self, copies: Vec<Copy>, senders: &Senders) -> usize {
        let repeats = copies.into_iter().filter(|copy| !self.is_first(copy, senders)).count();
        self.copies += repeats;
        repeats
    }

    fn is_first(&mut self, copy: &Copy, senders: &Senders) -> bool {
        let name = self.name;
        let push = Push::from_id(&copy.vendor_id).unwrap_or_else(|| panic!("{name}: from nowhere: {copy:?}"));
        assert!(push.number < senders.sent(push.key), "{name}: never sent: {copy:?}");
        let route = self.routes.iter().find(|(route, wants)| *route == copy.route && wants(push));
        let (route, wants) = *route.unwrap_or_else(|| panic!("{name}: not for this destination: {copy:?}"));
        assert_eq!(copy.subject, push.track_id(), "{name}");
        let expected = (self.value)(push);
        assert!(
            copy.value == expected,
            "{name}: {} was changed:\n{}\nwas sent, this came:\n{}",
            push.id(),
            String::from_utf8_lossy(&expected),
            String::from_utf8_lossy(&copy.value)
        );
        let id = self.ids.entry(push).or_insert_with(|| copy.id.clone());
        assert_eq!(*id, copy.id, "{name}: {} became two events", push.id());
        assert_eq!(copy.delivery, format!("{id}/{route}"), "{name}");
        if !self.delivered.insert((push, route)) {
            return false;
        }
        let next = self.next.entry((push.key, route)).or_insert(0);
        while !wants(Push { key: push.key, number: *next }) {
            *next += 1;
        }
        assert_eq!(push.number, *next, "{name}: {route}: {} is out of order", push.id());
        *next += 1;
        let last = &mut self.last[push.key];
        assert!(push.number >= *last, "{name}: {} came after number {last}", push.id());
        *last = push.number;
        true
    }

    /// How many deliveries there must be in the end.
    pub fn wanted(&self, senders: &Senders) -> usize {
        let pushes = (0..KEYS).flat_map(|key| (0..senders.sent(key)).map(move |number| Push { key, number }));
        pushes.map(|push| self.routes.iter().filter(|(_, wants)| wants(push)).count()).sum()
    }

    /// How many deliveries are there, each counted once.
    pub fn has(&self) -> usize {
        self.delivered.len()
    }

    /// Fails unless every push that was sent is here by every route that is for it. All of them were answered.
    pub fn check_whole(&self, senders: &Senders) {
        for key in 0..KEYS {
            for push in (0..senders.sent(key)).map(|number| Push { key, number }) {
                for (route, wants) in self.routes {
                    let here = self.delivered.contains(&(push, *route));
                    assert_eq!(here, wants(push), "{}: {} by {route}", self.name, push.id());
                }
            }
        }
    }
}

mod tests {
    use super::{Copy, History, Route};
    use crate::crash::{load::Senders, push::Push};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const ROUTES: &[Route] = &[("leads", Push::is_lead), ("everything", |_| true)];

    fn copy(number: usize, route: &str) -> Copy {
        let push = Push { key: 3, number };
        let id = format!("evt_{number}");
        let (delivery, vendor_id, subject) = (format!("{id}/{route}"), push.id(), push.track_id());
        Copy { id, delivery, route: route.into(), vendor_id, subject, value: push.body() }
    }

    /// Three pushes of one key were sent; says how many copies were repeats, or `None` if the oracle objects.
    fn check(copies: Vec<Copy>) -> Option<usize> {
        let senders = Senders::that_sent(3..4, 3);
        let judge = || {
            let mut history = History::new("out", ROUTES, Push::body);
            let repeats = history.take(copies, &senders);
            assert_eq!(history.has(), history.wanted(&senders));
            history.check_whole(&senders);
            repeats
        };
        catch_unwind(AssertUnwindSafe(judge)).ok()
    }

    fn all() -> Vec<Copy> {
        vec![copy(0, "leads"), copy(0, "everything"), copy(1, "everything"), copy(2, "everything")]
    }

    fn changed(change: impl FnOnce(&mut Vec<Copy>)) -> Option<usize> {
        let mut copies = all();
        change(&mut copies);
        check(copies)
    }

    #[test]
    fn the_oracle_takes_what_is_right_and_repeats() {
        assert_eq!(check(all()), Some(0));
        assert_eq!(changed(|copies| copies.push(copy(1, "everything"))), Some(1));
        assert_eq!(changed(|copies| copies.insert(2, copy(0, "leads"))), Some(1));
    }

    #[test]
    fn the_oracle_objects_to_every_fault() {
        let lost = changed(|copies| drop(copies.pop()));
        let lost_route = changed(|copies| drop(copies.remove(0)));
        let out_of_order = changed(|copies| copies.swap(2, 3));
        let invented = changed(|copies| copies.push(copy(3, "leads")));
        let misrouted = changed(|copies| copies.push(copy(1, "leads")));
        let altered = changed(|copies| copies[2].value.push(b' '));
        let altered_copy = changed(|copies| {
            copies.push(copy(1, "everything"));
            copies[4].value.pop();
        });
        let stored_twice = changed(|copies| {
            copies.push(copy(1, "everything"));
            copies[4].id = "evt_7".into();
            copies[4].delivery = "evt_7/everything".into();
        });
        let from_nowhere = changed(|copies| copies[1].vendor_id = "sub_1".into());
        let faults =
            [lost, lost_route, out_of_order, invented, misrouted, altered, altered_copy, stored_twice, from_nowhere];
        assert_eq!(faults, [None; 9]);
    }
}
