//! Judges one push: whose it is, whether it is genuine, and what it is.
//!
//! The order is part of the contract: address, signature, JSON, tenant, id. Nothing of a body is believed before its
//! signature, and nothing is parsed but where several tenants share a URL and the body must say whose secret to try.

use super::{
    door::{Door, Entrance, Gate, Resident},
    kept,
    problem::{Problem, Refusal},
};
use crate::{
    config::settings::Probe,
    domain::{Defect, Fingerprint, NewEvent, Origin, Timestamp},
    vendors::{
        Identity,
        envelope::{self, Envelope},
    },
};
use bytes::Bytes;
use http::HeaderMap;
use std::net::IpAddr;

/// What comes of a push that is not refused.
#[derive(Debug)]
pub(super) enum Admitted<'a> {
    /// An event of this tenant, to be stored.
    Event(Box<NewEvent>, &'a Resident),
    /// An unsigned empty push that the source lets pass: answered, never an event.
    Probe,
}

/// Judges a push that came through an entrance.
///
/// # Errors
/// [`Refusal`]: the push is not taken.
pub(super) fn admit<'a>(
    door: &Door,
    entrance: Entrance<'a>,
    client: Option<IpAddr>,
    headers: &HeaderMap,
    body: Bytes,
    now: Timestamp,
) -> Result<Admitted<'a>, Refusal> {
    let gate = entrance.gate;
    if gate.probe == Probe::Accept && is_probe(gate, headers, &body) {
        return Ok(Admitted::Probe);
    }
    let tenant = match entrance.tenant {
        Some(tenant) => tenant,
        None => whose(gate, headers, &body, now)?,
    };
    tenant.allows(client)?;
    tenant.verifier.verify(headers, &body, now).map_err(|_| Problem::Signature)?;
    let kept = kept::kept(headers, tenant.verifier.headers(), gate.fields.as_ref());
    let identity = match envelope::read(gate.kind, &body) {
        Ok(envelope) => {
            check_tenant(tenant, &envelope)?;
            envelope.identify(gate.fields.as_ref(), &kept)
        }
        Err(defect) => Err(defect),
    };
    let identity = match identity {
        Ok(identity) => identity,
        // It is theirs, whatever it is: kept, to become a dead letter.
        Err(defect) if tenant.verifier.signs() => unreadable(gate, tenant, &defect),
        Err(_) => return Err(Problem::Json.into()),
    };
    let (source, name) = (gate.name.as_str(), tenant.name.as_str());
    let body_hash = door.keys.body(&body);
    let version = identity.version.as_ref();
    let event = NewEvent {
        fingerprint: Fingerprint::of(&door.keys, (source, name), &identity.kind, version, Origin::Push),
        superseded: false,
        source: gate.name.clone(),
        tenant: tenant.name.clone(),
        order: identity.key.as_deref().map(|key| door.keys.order(source, name, key)),
        id_hash: identity.id.as_deref().map_or(body_hash, |id| door.keys.id(source, name, id)),
        body_hash,
        kind: identity.kind,
        key: identity.key,
        vendor_id: identity.id,
        origin: Origin::Push,
        sent_at: identity.sent_at,
        received_at: now,
        headers: kept,
        body,
        payload: identity.payload,
    };
    Ok(Admitted::Event(Box::new(event), tenant))
}

/// Whether it is an empty push without any signature, as some consoles send to try a URL.
fn is_probe(gate: &Gate, headers: &HeaderMap, body: &[u8]) -> bool {
    let claimed = gate.tenants.iter().any(|tenant| tenant.verifier.is_claimed(headers));
    let inside = body.trim_ascii().strip_prefix(b"{").and_then(|body| body.strip_suffix(b"}"));
    !claimed && (body.trim_ascii().is_empty() || inside.is_some_and(|inside| inside.trim_ascii().is_empty()))
}

/// Whose push it is, where the URL does not say: the tenant that the body names, whose secret must then verify; if
/// it names none that we know, the only one whose secret does.
fn whose<'a>(gate: &'a Gate, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<&'a Resident, Refusal> {
    // Who has a secret in its URL is not found without it.
    let open = || gate.tenants.iter().filter(|tenant| tenant.is_open());
    let envelope = envelope::read(gate.kind, body).ok();
    let token = envelope.as_ref().and_then(Envelope::tenant_token);
    if let Some(token) = token {
        let named = open().find(|tenant| tenant.token.as_deref() == Some(&*token));
        if let Some(named) = named {
            return Ok(named);
        }
    }
    let signed = open().filter(|tenant| tenant.verifier.signs());
    let verified: Vec<_> = signed.filter(|tenant| tenant.verifier.verify(headers, body, now).is_ok()).collect();
    match verified.as_slice() {
        [only] => Ok(only),
        _ => Err(Problem::Signature.into()),
    }
}

fn check_tenant(tenant: &Resident, envelope: &Envelope<'_>) -> Result<(), Refusal> {
    match (&tenant.token, envelope.tenant_token()) {
        (Some(ours), Some(theirs)) if *ours != *theirs => Err(Problem::Tenant.into()),
        _ => Ok(()),
    }
}

fn unreadable(gate: &Gate, tenant: &Resident, defect: &Defect) -> Identity {
    // The router makes the dead letter, and says so.
    tracing::debug!(source.id = %gate.name, tenant.id = %tenant.name, %defect, "a genuine push cannot be read");
    Identity { kind: "".into(), id: None, key: None, sent_at: None, payload: None, version: None }
}
