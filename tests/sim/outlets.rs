//! Between the lanes and the brokers: connections, what is on them, and how their ends are told.

use crate::{
    broker::{Kind, Meets, Try, failed},
    plan::DESTINATIONS,
    world::{Happening, World},
};
use laigu_router::{
    core::lane::Input,
    destinations::{Outcome, OutletState},
    domain::{Delivery, DestinationName, FailureKind, StopReason},
    journal::LaneName,
};
use std::{collections::BTreeMap, time::Duration};

impl World {
    /// What a lane's outlet says: of a destination that no route names any more, there is none.
    pub fn outlet_state(&self, destination: &DestinationName) -> OutletState {
        if !self.is_named(destination) {
            return OutletState::Stopped(StopReason::Misconfigured, "orphaned".into());
        }
        self.brokers.get(destination).map_or(OutletState::Up, crate::broker::Broker::state)
    }

    pub fn is_named(&self, destination: &DestinationName) -> bool {
        let routes = self.process.as_ref().map(|process| &process.routes).or(self.generations.last());
        routes.is_some_and(|routes| routes.routes.iter().any(|route| route.destination == *destination))
    }

    /// The lanes that publish to a destination: its own in each partition, and its replays.
    pub fn lanes_to(&self, destination: &DestinationName) -> Vec<(u16, LaneName)> {
        let mut lanes = Vec::new();
        let Some(process) = &self.process else { return lanes };
        for (number, run) in (0_u16..).zip(&process.partitions) {
            let own = LaneName::Destination(destination.clone());
            if run.lanes.contains_key(&own) {
                lanes.push((number, own));
            }
            let replays = run.replays.iter().filter(|(_, (_, to))| to == destination);
            lanes.extend(replays.map(|(name, _)| (number, name.clone())));
        }
        lanes
    }

    pub fn arrives(
        &mut self,
        name: &DestinationName,
        place: Try,
        delivery: &Delivery,
        (connection, epoch): (u32, u32),
    ) {
        let faults = if self.healed { 0 } else { self.plan.broker_fault / 4 };
        let gap = self.rng.u32(..3) == 0;
        let Some(broker) = self.brokers.get_mut(name) else { return };
        if connection != broker.connection {
            // Late data of a dead connection: what the broker had in its socket already, up to some byte.
            if gap {
                broker.cut.insert(connection);
            }
            if !broker.cut.contains(&connection) {
                broker.consume(delivery, epoch, connection);
                broker.unsure.insert(delivery.id().as_str().to_owned());
                self.hit("late data");
            }
            return;
        }
        let outcome = match broker.meets(&mut self.rng, delivery, faults) {
            Meets::Taken => {
                let again = broker.kind == Kind::Kafka && broker.unsure.contains(delivery.id().as_str());
                broker.consume(delivery, epoch, connection);
                if let Some(open) = broker.open.get_mut(&place) {
                    open.taken = true;
                }
                if again {
                    self.hit("a session repeats what another left unknown");
                }
                Outcome::Taken { answer: "ack".into() }
            }
            Meets::TakenBut(kind) => {
                broker.consume(delivery, epoch, connection);
                broker.unsure.insert(delivery.id().as_str().to_owned());
                if kind == FailureKind::Nacked {
                    self.hit("nacked, and taken by another queue");
                }
                failed(kind)
            }
            Meets::Answer(kind) => failed(kind),
            Meets::Missing => {
                let reason = broker.stopped.unwrap_or(StopReason::Misconfigured);
                failed(FailureKind::Lane(reason))
            }
            Meets::Ends => {
                let what = match broker.kind {
                    Kind::Rabbit => "a channel error fails all in flight",
                    Kind::Kafka => "a fatal error ends a producer",
                };
                // This one is what is left of the connection: it comes late, or not at all.
                if gap {
                    broker.consume(delivery, epoch, connection);
                    broker.unsure.insert(delivery.id().as_str().to_owned());
                } else {
                    broker.cut.insert(connection);
                }
                self.hit(what);
                self.disconnect(name);
                return;
            }
        };
        let Some(broker) = self.brokers.get_mut(name) else { return };
        let returned = matches!(&outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Returned);
        let overtakes = returned && !broker.waiting.is_empty();
        if returned {
            self.tell(name, vec![(place, outcome)]);
            if overtakes {
                self.hit("a return overtakes acks");
            }
            return;
        }
        broker.waiting.push_back((place, outcome));
        let connection = broker.connection;
        self.soon(4, Happening::Answers(name.clone(), connection));
    }

    /// The broker answers some of what arrived.
    pub fn answers(&mut self, name: &DestinationName, connection: u32) {
        let (count, single) = (self.rng.usize(..8), self.rng.bool());
        let Some(broker) = self.brokers.get_mut(name).filter(|broker| broker.connection == connection) else { return };
        let waiting = broker.waiting.len();
        if waiting == 0 {
            return;
        }
        let mut ends = Vec::new();
        let mut what = None;
        if broker.kind == Kind::Rabbit && single {
            let index = count % waiting;
            ends.extend(broker.waiting.remove(index));
            what = (index > 0).then_some("an ack out of order");
        } else {
            ends.extend(broker.waiting.drain(..waiting.min(count + 1)));
            let many = match broker.kind {
                Kind::Rabbit => "one ack for many",
                Kind::Kafka => "delivery reports in a batch",
            };
            what = what.or((ends.len() > 1).then_some(many));
        }
        if waiting > ends.len() {
            self.soon(4, Happening::Answers(name.clone(), connection));
        }
        if let Some(what) = what {
            self.hit(what);
        }
        self.tell(name, ends);
    }

    /// Ends go to their lanes, in order.
    fn tell(&mut self, name: &DestinationName, ends: Vec<(Try, Outcome)>) {
        let pause = Duration::from_millis(self.rng.u64(0..=4));
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.told_at = broker.told_at.max(self.now.plus(pause));
        let at = broker.told_at;
        let mut by_lane: BTreeMap<(LaneName, u16), Vec<(u64, Outcome)>> = BTreeMap::new();
        for ((lane, number, ticket), outcome) in ends {
            if let Some(open) = broker.open.get_mut(&(lane.clone(), number, ticket)) {
                open.answered = true;
            }
            by_lane.entry((lane, number)).or_default().push((ticket, outcome));
        }
        for ((lane, number), outcomes) in by_lane {
            self.at(at, Happening::Lane(number, lane, Input::Outcomes(outcomes)));
        }
    }

    /// A connection ends, or a new one comes up: what was out and not answered is not known. Then the state is told.
    pub fn disconnect(&mut self, name: &DestinationName) {
        let state = self.outlet_state(name);
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.connection += 1;
        broker.waiting.clear();
        let mut unknown = Vec::new();
        for (place, open) in broker.open.iter().filter(|(_, open)| !open.answered) {
            if open.taken {
                broker.unsure.insert(open.delivery.clone());
            }
            unknown.push((place.clone(), failed(FailureKind::Unknown)));
        }
        let up = state == OutletState::Up;
        if up {
            self.tell(name, unknown);
            self.tell_state(name);
        } else {
            self.tell_state(name);
            self.tell(name, unknown);
        }
    }

    /// Tells a destination's state to all its lanes, after what was told before.
    pub fn tell_state(&mut self, name: &DestinationName) {
        let state = self.outlet_state(name);
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.told_at = broker.told_at.max(self.now);
        let at = broker.told_at;
        for (number, lane) in self.lanes_to(name) {
            self.at(at, Happening::Lane(number, lane, Input::Outlet(state.clone())));
        }
    }

    /// The outlet is replaced by another, or by none: answers that were on their way are lost.
    pub fn replace_outlet(&mut self, name: &DestinationName) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.connection += 1;
        broker.waiting.clear();
        let open = std::mem::take(&mut broker.open);
        let lost = open.values().filter(|open| open.taken).count();
        broker.unsure.extend(open.into_values().filter(|open| open.taken).map(|open| open.delivery));
        if lost > 0 {
            self.hit("an outlet is replaced, and answers are lost");
        }
        let config = self.plan.lane(self.seed);
        for (number, lane) in self.lanes_to(name) {
            self.lane(number, &lane, Input::OutletGone);
            self.lane(number, &lane, Input::Configure(config.clone()));
        }
        self.tell_state(name);
    }

    /// All destinations of all runs.
    pub fn destinations() -> impl Iterator<Item = DestinationName> {
        (0..DESTINATIONS).map(crate::plan::destination)
    }
}
