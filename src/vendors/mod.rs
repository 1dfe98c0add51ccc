//! What is known about those who push to us: how they sign, what their envelopes say, how their APIs answer.
//!
//! [`identify`] turns the bytes of a push into its [`Identity`]: one pass, nothing built, the same answer for the
//! same bytes whenever it is asked: at the door, and later of the stored event. [`signature`] says whether the
//! bytes come from who they claim. Both are pure.

pub mod action;
pub mod easemob;
pub mod envelope;
pub mod exact;
pub mod found;
pub mod guard;
pub mod http;
pub mod json;
pub mod laigu;
pub mod record;
pub mod signature;
pub mod times;
pub mod webhook;

use crate::{
    config::settings::{Fields, SourceKind},
    domain::{Defect, Headers, Timestamp, Version},
};
use std::ops::Range;

/// The longest event name taken, in bytes; with its prefix it must fit AMQP's 255 bytes for a type.
pub const EVENT_BYTES_MAX: usize = 128;

/// The longest id or key taken, in bytes; a key becomes a record key and part of every timeline.
pub const ID_BYTES_MAX: usize = 1024;

/// What a push says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The vendor's word for what happened, such as `cus.upsert`.
    pub kind: Box<str>,
    /// The vendor's id of the push; `None` only where a `webhook` source names no field for it.
    pub id: Option<Box<str>>,
    /// What it is about.
    pub key: Option<Box<str>>,
    /// The push's own time.
    pub sent_at: Option<Timestamp>,
    /// Where the payload object lies in the body.
    pub payload: Option<Range<u32>>,
    /// Which version of a record it is about, for the events that are reconciled.
    pub version: Option<Version>,
}

/// Reads who a push is. `fields` and `headers` matter to `webhook` sources alone.
///
/// # Errors
/// [`Defect`] when the body is not strict JSON, not an object, repeats a member of its envelope, is nested too deep,
/// or has no id or no event.
pub fn identify(kind: SourceKind, fields: Option<&Fields>, headers: &Headers, body: &[u8]) -> Result<Identity, Defect> {
    envelope::read(kind, body)?.identify(fields, headers)
}

/// The CloudEvents type of an event: the vendor's word with the vendor before it, or the word alone for `webhook`.
#[must_use]
pub fn ce_type(kind: SourceKind, event: &str) -> String {
    let vendor = match kind {
        SourceKind::Laigu => "com.laigu.",
        SourceKind::LaiguAutomation => "com.laigu.automation.",
        SourceKind::Meiqia => "com.meiqia.",
        SourceKind::EasemobKefu => "com.easemob.kefu.",
        SourceKind::Webhook => "",
    };
    [vendor, event].concat()
}

#[cfg(test)]
mod identity_tests;
