//! `POST /hooks/{source}[/{tenant}[/{path_secret}]]`: from a request to the answer that its event is durable.

use super::{
    Accept, Answer, Busy,
    admit::{Admitted, admit},
    body,
    door::{Door, Gate},
    problem::{Problem, Refusal},
    refusing::Refusing,
    serve::Answers,
};
use crate::{
    domain::Timestamp,
    metrics::{Metrics, OfReason},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// When to send again after the queue before the store was full: it empties within a few syncs.
const BUSY_DELAY: Duration = Duration::from_secs(1);

/// When to send again after the store stopped: a restart takes about so long.
const STOPPED_DELAY: Duration = Duration::from_secs(5);

/// Answers hook requests.
///
/// The event is offered to the store before anything is awaited, so a sender that goes away meanwhile changes
/// nothing: it is stored whole or not at all, and a re-send is told by its id.
#[derive(Clone)]
pub struct Hooks {
    door: Arc<ArcSwap<Door>>,
    store: Arc<dyn Accept>,
    metrics: Arc<Metrics>,
    refusing: Refusing,
    connections_max: usize,
}

impl Hooks {
    /// Takes the door, which a reload may swap at any time, and the store behind it.
    #[must_use]
    pub fn new(door: Arc<ArcSwap<Door>>, store: Arc<dyn Accept>, metrics: Arc<Metrics>) -> Self {
        Self { door, store, metrics, refusing: Refusing::default(), connections_max: usize::MAX }
    }

    /// Takes note that no more connections than these are open at a time, whatever the settings say.
    #[must_use]
    pub fn below(self, connections_max: usize) -> Self {
        Self { connections_max, ..self }
    }

    /// Whether the store refuses pushes at the moment.
    #[must_use]
    pub fn refusing(&self) -> Refusing {
        self.refusing.clone()
    }

    async fn receive(&self, peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        let door = self.door.load_full();
        let (parts, body) = request.into_parts();
        // Whatever is refused before the body is read ends the connection, unless there is no body.
        let early = |problem: Problem| {
            let refusal = Refusal::from(problem);
            if body.is_end_stream() { refusal } else { refusal.closing() }
        };
        if body.size_hint().lower() > door.limits.body {
            return Err(early(Problem::BodyTooLarge));
        }
        let probe = match parts.method {
            Method::POST => false,
            Method::GET | Method::HEAD => true,
            _ => return Err(early(Problem::Method)),
        };
        if is_encoded(&parts.headers) {
            return Err(early(Problem::Encoding));
        }
        let entrance = door.find(parts.uri.path()).map_err(early)?;
        let client = door.client(peer, &parts.headers);
        if let Some(tenant) = entrance.tenant {
            tenant.allows(client).map_err(|refusal| early(refusal.problem))?;
        }
        if probe {
            return Ok(Response::new(Full::default()));
        }
        let body = body::read(body, door.limits.body, door.limits.body_timeout)
            .await
            .map_err(|problem| Refusal::from(problem).closing())?;
        match admit(&door, entrance, client, &parts.headers, body, Timestamp::now())? {
            Admitted::Probe => {}
            Admitted::Event(event, tenant) => {
                let busy = || Refusal::from(Problem::TenantBusy).after(BUSY_DELAY).closing();
                let _place = tenant.waiting.enter(door.share(self.connections_max)).ok_or_else(busy)?;
                let (sender, answer) = oneshot::channel();
                self.store.offer(*event, sender).map_err(|Busy| Refusal::from(Problem::Busy).after(BUSY_DELAY))?;
                match answer.await {
                    Ok(Answer::Stored | Answer::Duplicate) => {}
                    Ok(Answer::Full { retry_after }) => return Err(Refusal::from(Problem::Full).after(retry_after)),
                    Ok(Answer::Stopped) | Err(_) => return Err(Refusal::from(Problem::Stopped).after(STOPPED_DELAY)),
                }
            }
        }
        Ok(acknowledgement(entrance.gate))
    }
}

impl Answers for Hooks {
    type Body = Full<Bytes>;

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let refusal = match AssertUnwindSafe(self.receive(peer, request)).catch_unwind().await {
            Ok(Ok(response)) => return response,
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                tracing::error!("a hook request panicked; it was answered with 500");
                Refusal::from(Problem::Internal).closing()
            }
        };
        self.refused(refusal.problem);
        refusal.response()
    }

    fn refused(&self, problem: Problem) {
        if matches!(problem, Problem::Full | Problem::Stopped) {
            self.refusing.note(Timestamp::now());
        }
        let reason = problem.reason();
        tracing::debug!(reason, "refused a request");
        self.metrics.rejected.get_or_create(&OfReason { reason }).inc();
    }
}

fn acknowledgement(gate: &Gate) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(gate.ack.clone()));
    if let Some(kind) = &gate.ack_type {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// Whether the body is not sent as it is.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}
