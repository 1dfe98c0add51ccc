//! Requests and replies as the stand-in's two vendors see them.

use crate::domain::Timestamp;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use futures_util::stream;
use serde_json::{Map, Value};
use std::{convert::Infallible, time::Duration};

/// One call.
#[derive(Debug)]
pub struct Request {
    /// When it came.
    pub now: Timestamp,
    /// Its method.
    pub method: Method,
    /// Its path, cut at the slashes.
    pub segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// Its body as an object; empty if it is none.
    pub body: Map<String, Value>,
}

impl Request {
    /// Reads a request whose body has been read.
    #[must_use]
    pub fn new(method: Method, uri: &Uri, headers: HeaderMap, body: &[u8], now: Timestamp) -> Self {
        let segments = uri.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let body = serde_json::from_slice(body).unwrap_or_default();
        Self { now, method, segments, query, headers, body }
    }

    /// A query parameter; the first, if it comes twice.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A text of the body.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name)?.as_str()
    }
}

/// One answer.
#[derive(Debug)]
pub struct Reply(pub Response);

impl Reply {
    /// A whole body.
    #[must_use]
    pub fn whole(status: u16, content_type: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        Self(response)
    }

    /// A JSON body.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, "application/json; charset=utf-8", body.to_string())
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// Half a JSON body, then the connection breaks.
    #[must_use]
    pub fn truncated() -> Self {
        let half = Ok(Bytes::from_static(b"{\"errno\":0,\"result\":[{\"conv_id\":7"));
        let broken = Err(std::io::Error::other("broken off on purpose"));
        Self::whole(200, "application/json", Body::from_stream(stream::iter([half, broken])))
    }

    /// The same kibibyte over and over: `times` of it, with a pause before each.
    #[must_use]
    pub fn repeated(times: usize, chunk: &'static [u8], pause: Duration) -> Self {
        let chunks = stream::unfold(0, move |sent| async move {
            if sent >= times {
                return None;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, Infallible>(Bytes::from_static(chunk)), sent + 1))
        });
        Self::whole(200, "application/json", Body::from_stream(chunks))
    }
}
