//! The listeners and the store: `server:` and `storage:`.

use crate::domain::Secret;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// `server:`
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where webhooks arrive.
    pub listen: SocketAddr,
    /// Console, API and metrics. Off loopback only with tokens.
    pub admin: SocketAddr,
    /// Who may use the admin listener; empty: anyone who reaches it.
    pub admin_tokens: Vec<AdminToken>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// How long `/readyz` says no before we stop accepting.
    pub shutdown_delay: Duration,
    /// TLS of both listeners.
    pub tls: Option<Tls>,
    /// What a request may cost.
    pub limits: Limits,
}

/// One of `server.admin_tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Who it is, in the audit.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The token, never empty.
    pub token: Secret,
}

/// What a token allows; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Replay, discard, pause, resume.
    Operator,
    /// Reload, erase.
    Admin,
}

/// A file of PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256 of what it says: a renewed certificate at the same place is another setting.
    pub digest: [u8; 32],
}

impl PemFile {
    /// A file with what it says.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, content: &[u8]) -> Self {
        Self { path: path.into(), digest: Sha256::digest(content).into() }
    }
}

impl fmt::Debug for PemFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({:02x?}…)", self.path.display(), &self.digest[..4])
    }
}

/// Files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub cert_file: PemFile,
    /// The private key.
    pub key_file: PemFile,
}

/// `server.limits`; each is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A body's bytes.
    pub body: u64,
    /// All of a request's head, bytes.
    pub headers: u64,
    /// Header lines.
    pub header_count: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For its body.
    pub body_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            headers: 32 << 10,
            header_count: 64,
            connections: 10_000,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// `storage:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The folder.
    pub path: PathBuf,
    /// How long things stay, and the room there is.
    pub retention: crate::journal::Retention,
    /// The share of `max_size` that one destination may pin before it is alarmed, 0 to 100.
    pub backlog_alarm_percent: u8,
}
