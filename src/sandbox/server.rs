//! The stand-in's port: which endpoint a request means, and the faults on the way.

use super::{
    State, control, easemob,
    faults::{Endpoint, Fault, Strikes},
    gzip, laigu,
    request::{Reply, Request},
};
use crate::domain::Timestamp;
use axum::{
    Router,
    body::Body,
    extract,
    http::{Method, header},
    response::Response,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// Connections at a time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 256;

/// The most a request may weigh.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Accepts until dropped; its connections end with it.
pub async fn run(listener: TcpListener, state: Arc<State>) {
    let router = Router::new().fallback(handle).with_state(state);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file handles, most likely: some connection will end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let _permit = permit;
            // A connection that breaks is the other side's business.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(extract::State(state): extract::State<Arc<State>>, request: extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, REQUEST_BYTES_MAX).await else {
        return Reply::whole(413, "text/plain", "too large").0;
    };
    let request = Request::new(parts.method, &parts.uri, parts.headers, &body, Timestamp::now());
    if request.segments.first().is_some_and(|segment| segment == "_sandbox") {
        return control::answer(&state, &request).0;
    }
    let endpoint = endpoint(&request);
    let struck = state.faults.next(endpoint);
    tokio::time::sleep(state.options.latency).await;
    match struck {
        Some((Strikes::Instead, Fault::Late(late))) => {
            tokio::time::sleep(late).await;
            answer(&state, endpoint, &request).0
        }
        Some((Strikes::Instead, Fault::Gzip)) => zipped(answer(&state, endpoint, &request)).await.0,
        Some((Strikes::Instead, fault)) => strike(fault).await.0,
        Some((Strikes::AfterDoing, fault)) => {
            drop(answer(&state, endpoint, &request));
            strike(fault).await.0
        }
        None => answer(&state, endpoint, &request).0,
    }
}

fn answer(state: &State, endpoint: Endpoint, request: &Request) -> Reply {
    match endpoint {
        Endpoint::Unknown => laigu::answer(state, endpoint, request),
        endpoint if endpoint.is_laigu() => laigu::answer(state, endpoint, request),
        endpoint => easemob::answer(state, endpoint, request),
    }
}

fn endpoint(request: &Request) -> Endpoint {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    let (put, delete) = (request.method == Method::PUT, request.method == Method::DELETE);
    match segments.as_slice() {
        ["v1", "conversations"] if get => Endpoint::ConversationsV1,
        ["v1", "conversations", _] if get => Endpoint::Conversation,
        ["v2", "conversations"] if get => Endpoint::Conversations,
        ["v2", "clients"] if get => Endpoint::ClientsCreated,
        ["v2", "clients", "updated"] if get => Endpoint::ClientsUpdated,
        ["unified-api", "datagateway", "v1", "reports", "agent_online_stats"] if get => Endpoint::AgentOnlineStats,
        ["unified-api", "datagateway", "v1", "reports", "agent_service"] if get => Endpoint::AgentService,
        // The documented path, and the two that the page's samples use instead.
        ["api", "platform", "tenants", _, rest @ ..] | ["api", "tenants" | "tenant", _, rest @ ..] => match rest {
            ["accessToken"] if post => Endpoint::AccessToken,
            ["agents"] if get => Endpoint::Agents,
            ["agent"] if post => Endpoint::CreateAgent,
            ["agent"] if put => Endpoint::UpdateAgent,
            ["agent"] if delete => Endpoint::DeleteAgent,
            ["agent", "disable"] if put => Endpoint::DisableAgent,
            ["agent", "enable"] if put => Endpoint::EnableAgent,
            ["agent", "password"] if put => Endpoint::Password,
            ["roles"] if get => Endpoint::Roles,
            ["serviceSessionHistorys"] if get => Endpoint::Sessions,
            _ => Endpoint::Unknown,
        },
        _ => Endpoint::Unknown,
    }
}

async fn zipped(reply: Reply) -> Reply {
    let body = axum::body::to_bytes(reply.0.into_body(), usize::MAX).await.unwrap_or_default();
    Reply::whole(200, "application/json", gzip::stored(&body)).with(header::CONTENT_ENCODING, "gzip")
}

async fn strike(fault: Fault) -> Reply {
    /// Valid JSON would end some day; this never does.
    static FILLER: [u8; 1 << 16] = [b' '; 1 << 16];
    match fault {
        Fault::Errno(errno) => laigu::refusal(errno),
        Fault::Code(code) => easemob::refusal(code),
        Fault::Status(status) => Reply::whole(status, "text/plain", "no"),
        Fault::Raw(status, content_type, body) => Reply::whole(status, content_type, body),
        Fault::Hang => std::future::pending().await,
        Fault::Late(late) => {
            tokio::time::sleep(late).await;
            Reply::whole(504, "text/plain", "late")
        }
        Fault::Html => Reply::whole(200, "text/html", "<!doctype html><title>502 Bad Gateway</title>"),
        Fault::Truncated => Reply::truncated(),
        Fault::Drip => Reply::repeated(usize::MAX, b" ", Duration::from_secs(1)),
        Fault::Huge => Reply::repeated((1 << 30) / FILLER.len(), &FILLER, Duration::ZERO),
        Fault::Garbled => Reply::whole(200, "application/json", "{\"errno\":0}").with(header::CONTENT_ENCODING, "gzip"),
        Fault::Gzip => {
            Reply::whole(200, "application/json", gzip::stored(b"{}")).with(header::CONTENT_ENCODING, "gzip")
        }
        Fault::Bomb => {
            Reply::whole(200, "application/json", gzip::bomb(64 << 20)).with(header::CONTENT_ENCODING, "gzip")
        }
        Fault::Deep => Reply::whole(200, "application/json", Body::from("[".repeat(10_000) + &"]".repeat(10_000))),
        Fault::Redirect(to) => Reply::whole(302, "text/plain", "elsewhere").with(header::LOCATION, &to),
        Fault::NullResult => Reply::whole(200, "application/json", "{\"errno\":0,\"errmsg\":\"\",\"result\":null}"),
    }
}
