//! The writing thread of each partition: batches, their commits, and who is told what.

use crate::{
    feed::TOKENS,
    process::{ForWriter, Writing},
    world::{Happening, World},
};
use laigu_router::{
    core::{intake::Done, lane::Input, router::Input as RouterInput},
    domain::Partition,
    ingress::Answer,
    journal::{
        Appender, Log, WriteError,
        ids::{Known, SealedIds},
        memory::CommitOutcome,
    },
};
use std::time::Duration;

impl World {
    /// How the next commit ends. While a storm lasts the disk is full.
    fn commit_outcome(&mut self) -> CommitOutcome {
        if self.healed {
            return CommitOutcome::Ok;
        }
        if self.full_until > self.now {
            self.hit("a storm of full disks");
            return CommitOutcome::Full;
        }
        if self.rng.u32(..1_000) >= self.plan.commit_fault {
            return CommitOutcome::Ok;
        }
        match self.rng.u32(..10) {
            0 => CommitOutcome::Failed,
            1 => CommitOutcome::Lost,
            2 => CommitOutcome::Resurrected,
            _ => CommitOutcome::Full,
        }
    }

    /// How the next settlement ends.
    pub fn settle_outcome(&mut self) -> CommitOutcome {
        self.commit_outcome()
    }

    pub fn writer_wakes(&mut self, number: u16) {
        let (outcome, roll_before, roll_after) =
            (self.commit_outcome(), self.rng.u32(..50) == 0, self.rng.u32(..50) == 0);
        if roll_before && self.is_idle(number) {
            self.roll(number);
        }
        let sealed = self.journal.sealed_ids(Partition(number));
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        if !matches!(run.writing, Writing::Idle) {
            return;
        }
        let mut known = Vec::new();
        let mut from_sealed = false;
        while let Some(message) = run.queue.pop_front() {
            match message {
                ForWriter::Push(event, token) => {
                    let again = sealed.find(event.id_hash, event.body_hash) == Known::Duplicate;
                    from_sealed |= again;
                    let answer = run.intake.offer(event, token);
                    let Some((token, answer)) = answer else { continue };
                    known.push((token, answer));
                }
                ForWriter::Rows(tickets, rows) => run.intake.add_rows(rows, tickets),
            }
        }
        let empty = run.intake.is_empty();
        let mut late = Vec::new();
        if !empty {
            let batch = run.intake.take_batch();
            let head = run.appender.heads().events;
            self.journal.next_append(Partition(number), outcome);
            late = batch.events.iter().map(|(event, _)| event).filter(|event| event.superseded).cloned().collect();
            let ids: Vec<_> = batch.events.iter().map(|(event, _)| (event.id_hash, event.body_hash)).collect();
            run.writing = Writing::Ended(run.appender.append(&batch).map_err(|error| (error, batch)));
            match &run.writing {
                Writing::Ended(Err((WriteError::Full(_), _))) if !ids.is_empty() => {
                    self.rolled_back.insert((number, head), ids);
                }
                Writing::Ended(Ok(_)) if !ids.is_empty() => {
                    let before = self.rolled_back.remove(&(number, head));
                    if before.is_some_and(|before| before.first() != ids.first()) {
                        self.hit("an offset is given again to another event");
                    }
                }
                Writing::Ended(_) | Writing::Idle => {}
            }
        }
        for event in late {
            self.look_at_late(number, &event);
        }
        if from_sealed {
            self.hit("a push comes again after its segment was sealed");
        }
        for (token, answer) in known {
            self.answered(token, answer);
        }
        if empty {
            return;
        }
        if roll_after {
            self.roll(number);
        }
        self.soon(4, Happening::WriterTells(number));
    }

    fn answered(&mut self, token: u64, answer: Answer) {
        if token >= TOKENS { self.record_answered(token, answer) } else { self.clients.answered(token, answer) }
    }

    fn is_idle(&self, number: u16) -> bool {
        let run = self.process.as_ref().and_then(|process| process.partitions.get(usize::from(number)));
        run.is_some_and(|run| matches!(run.writing, Writing::Idle))
    }

    pub fn writer_tells(&mut self, number: u16) {
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        let mut done = Vec::new();
        match std::mem::replace(&mut run.writing, Writing::Idle) {
            Writing::Idle => return,
            Writing::Ended(Ok(appended)) => {
                let segment = run.appender.segment_start();
                if segment != run.segment {
                    run.segment = segment;
                    run.intake.rolled(segment);
                }
                run.intake.committed(appended, &mut done);
            }
            Writing::Ended(Err((WriteError::Full(_), batch))) => {
                if !batch.events.is_empty() {
                    *self.hits.entry("rollback").or_default() += 1;
                }
                run.intake.no_room(batch, &mut done);
            }
            Writing::Ended(Err((WriteError::Sync(_) | WriteError::Fenced, _))) => {
                self.hit("sync error");
                self.crash();
                return;
            }
        }
        for done in done {
            match done {
                Done::Answer(token, answer) => self.answered(token, answer),
                Done::Appended(tickets, first) => self.in_order(number, RouterInput::Appended(tickets, first)),
                Done::NoRoom(tickets, rows) => self.in_order(number, RouterInput::NoRoom(tickets, rows)),
            }
        }
        self.grown(number);
        self.soon(1, Happening::WriterWakes(number));
    }

    /// Tells all lanes of a partition how far its logs go.
    pub fn grown(&mut self, number: u16) {
        let heads = self.journal.log().heads(Partition(number));
        self.soon(2, Happening::Router(number, RouterInput::Grown(heads.events)));
        for name in self.lane_names(number) {
            self.soon(2, Happening::Lane(number, name, Input::Grown(heads.routed)));
        }
    }

    /// What the writer tells the router comes in the order of commits, however late.
    fn in_order(&mut self, number: u16, input: RouterInput) {
        self.told_at = self.told_at.max(self.now.plus(Duration::from_millis(self.rng.u64(0..=3))));
        self.at(self.told_at, Happening::Router(number, input));
    }
}

/// The answers that count as accepted.
pub fn is_accepted(answer: Answer) -> bool {
    matches!(answer, Answer::Stored | Answer::Duplicate)
}
