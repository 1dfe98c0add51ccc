//! Where a request really comes from, when trusted proxies stand in between.

use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The sender's address, or `None` when a trusted proxy names one that cannot be read.
///
/// Only the hops that trusted proxies wrote count: `X-Forwarded-For` is read from the right, as long as the hop
/// before is trusted. What a stranger wrote further left is never looked at.
#[must_use]
pub fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = peer.ip().to_canonical();
    if !contains(trusted, client) {
        return Some(client);
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
    for line in lines.iter().rev() {
        for hop in line.as_bytes().rsplit(|byte| *byte == b',') {
            client = parse(std::str::from_utf8(hop).ok()?.trim())?;
            if !contains(trusted, client) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// Whether an address lies in one of the networks.
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Reads an address, with or without a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::client;
    use http::{HeaderMap, HeaderValue};

    fn check(peer: &str, forwarded: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let found = client(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{peer} {forwarded:?}");
    }

    #[test]
    fn only_hops_written_by_trusted_proxies_count() {
        check("1.2.3.4:5", &["9.9.9.9"], Some("1.2.3.4"));
        check("10.0.0.1:5", &[], Some("10.0.0.1"));
        check("10.0.0.1:5", &["9.9.9.9"], Some("9.9.9.9"));
        check("10.0.0.1:5", &["6.6.6.6, 9.9.9.9"], Some("9.9.9.9"));
        check("10.0.0.1:5", &["6.6.6.6, 9.9.9.9, 10.0.0.7"], Some("9.9.9.9"));
        check("10.0.0.1:5", &["6.6.6.6", "9.9.9.9", "10.0.0.7"], Some("9.9.9.9"));
        check("10.0.0.1:5", &["10.0.0.8,10.0.0.7"], Some("10.0.0.8"));
        check("[::ffff:10.0.0.1]:5", &["::ffff:9.9.9.9"], Some("9.9.9.9"));
        check("[fd00::1]:5", &["[2001:db8::1]:443"], Some("2001:db8::1"));
        check("10.0.0.1:5", &["9.9.9.9:1234"], Some("9.9.9.9"));
    }

    #[test]
    fn a_hop_that_cannot_be_read_is_no_address() {
        check("10.0.0.1:5", &["9.9.9.9, unknown"], None);
        check("10.0.0.1:5", &[""], None);
        check("10.0.0.1:5", &["unknown, 9.9.9.9"], Some("9.9.9.9"));
    }
}
