//! The shells of the machines: they carry effects out, bring outcomes back, and decide nothing.
//!
//! Who runs where, and what each waits for:
//! - the **writer** (a thread a partition): the only one who appends. What waits for it becomes one transaction.
//! - the **state keeper** (a thread): the only one who writes progress, receipts and shelf. What waits becomes one
//!   transaction for all lanes.
//! - the **router** (a task a partition): reads EVENTS, decides, hands rows to the writer.
//! - a **destination's lane** (a task): reads ROUTED, hands tries to its outlet, receipts to the state keeper.
//!
//! Tasks never wait for a disk: what the tail ring no longer holds is read on a blocking thread, what is written is
//! handed over and answered. The two threads never wait for a task: answers are one-shot, news is a watch.

pub mod destination;
pub mod keeper;
pub mod lag;
pub mod payload;
pub mod reader;
pub mod router;
pub mod view;
mod vitals;
pub mod writer;
