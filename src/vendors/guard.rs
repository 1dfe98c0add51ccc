//! What keeps a call inside the API it was meant for: which addresses may be dialled, what a path may hold.
//!
//! A base URL comes from `routes.yaml` alone, never from a payload. Even so its name may be made to resolve to a
//! machine's metadata service, and an id out of a payload may try to climb out of its place in the path.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use url::{Host, Url};

/// The longest id that may enter a path.
const SEGMENT_BYTES_MAX: usize = 64;

/// Why a URL was not built or an address not dialled. Holds no text of the caller's: it may be hostile or secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A piece of the path is not an id.
    #[error("a path segment must be 1 to 64 of `A-Z a-z 0-9 _ -`")]
    Segment,
    /// The URL that came out is not the one that was meant.
    #[error("the built address does not lie below `base_url`")]
    Escaped,
    /// Neither `https` nor, where that is allowed, `http`.
    #[error("`base_url` must use https; plain http is for loopback only")]
    Scheme,
    /// User and password, a query or a fragment in the base URL.
    #[error("`base_url` must be scheme, host, port and path: no credentials, query or fragment")]
    Decorated,
    /// A link-local, metadata, unspecified or multicast address.
    #[error("the host is a link-local or metadata address, which is never called")]
    Address,
    /// The name has no address.
    #[error("the host has no address")]
    NoAddress,
}

/// Whether plain `http` may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plaintext {
    /// To this machine only.
    #[default]
    LoopbackOnly,
    /// Anywhere: credentials and customers' data travel readable.
    Anywhere,
}

/// Checks a base URL from the configuration.
///
/// # Errors
/// [`Refusal`] when it is not plain `https://host[:port][/path]`, or names an address that is never called.
pub fn check_base(base: &Url, plaintext: Plaintext) -> Result<(), Refusal> {
    let loopback = match base.host() {
        None => return Err(Refusal::NoAddress),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => allowed(address.into())?.is_loopback(),
        Some(Host::Ipv6(address)) => allowed(address.into())?.is_loopback(),
    };
    let secure = base.scheme() == "https";
    let plain = base.scheme() == "http" && (loopback || plaintext == Plaintext::Anywhere);
    if !secure && !plain {
        return Err(Refusal::Scheme);
    }
    let bare = base.username().is_empty() && base.password().is_none() && base.query().is_none();
    if !bare || base.fragment().is_some() || base.path().contains('%') {
        return Err(Refusal::Decorated);
    }
    Ok(())
}

/// Whether a text may be one segment of a path: `[A-Za-z0-9_-]{1,64}`.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    plain && !text.is_empty() && text.len() <= SEGMENT_BYTES_MAX
}

/// Appends segments to the base URL, and proves that the result lies where it was meant to.
///
/// The check before is not enough by itself: `url` silently drops a pushed `..`, so that the request for one record
/// would become the request for the list.
///
/// # Errors
/// [`Refusal::Segment`] or [`Refusal::Escaped`]; nothing was sent.
pub fn below(base: &Url, segments: &[&str]) -> Result<Url, Refusal> {
    if segments.is_empty() {
        return Ok(base.clone());
    }
    if !segments.iter().all(|segment| is_segment(segment)) {
        return Err(Refusal::Segment);
    }
    let mut url = base.clone();
    url.path_segments_mut().map_err(|()| Refusal::Escaped)?.pop_if_empty().extend(segments);
    let prefix = base.path().trim_end_matches('/');
    let wanted = format!("{prefix}/{}", segments.join("/"));
    let same_place = url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default();
    if same_place && url.path() == wanted { Ok(url) } else { Err(Refusal::Escaped) }
}

/// Hands back an address that may be dialled. Private ones and loopback may: APIs are reached through proxies there.
///
/// # Errors
/// [`Refusal::Address`] for link-local, metadata, unspecified, broadcast and multicast addresses, also when
/// written as IPv6.
pub fn allowed(address: IpAddr) -> Result<IpAddr, Refusal> {
    let address = inner(address);
    let refused = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || METADATA.contains(&v4)
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == METADATA_V6,
    };
    if refused { Err(Refusal::Address) } else { Ok(address) }
}

/// Metadata services outside 169.254.0.0/16: Alibaba Cloud, Oracle, Azure's wire server.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// The EC2 metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The IPv4 address inside an IPv6 one: mapped, or behind the NAT64 prefix 64:ff9b::/96.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let [head @ .., a, b, c, d] = v6.octets();
    if head == [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] {
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address
}

/// Resolves names, and lets only addresses through that may be dialled.
///
/// What it returns is what the connection is made to: a name that changes its mind between check and dial gains
/// nothing.
pub struct GuardedResolver;

impl reqwest::dns::Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses = dialable(found)?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("GuardedResolver")
    }
}

/// All addresses of a name, or a refusal if even one of them is never called.
fn dialable(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
    if found.is_empty() {
        return Err(Refusal::NoAddress);
    }
    for address in &found {
        allowed(address.ip())?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Plaintext, Refusal, allowed, below, check_base, dialable};
    use url::Url;

    fn base(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_id_goes_into_the_path_as_it_is() {
        let url = below(&base("https://api.laigu.com"), &["v1", "conversations", "7"]).unwrap();
        assert_eq!(url.as_str(), "https://api.laigu.com/v1/conversations/7");
        let url = below(&base("https://proxy.example/laigu/"), &["v2", "clients"]).unwrap();
        assert_eq!(url.as_str(), "https://proxy.example/laigu/v2/clients");
    }

    #[test]
    fn sixty_hostile_ids_never_reach_a_url() {
        let hostile = [
            "",
            ".",
            "..",
            "...",
            "/",
            "//",
            "//evil",
            "///",
            "\\",
            "..\\",
            "\\..\\",
            "a/b",
            "a\\b",
            "/a",
            "a/",
            "./",
            "../",
            "../..",
            "..%2f",
            "%2e",
            "%2e%2e",
            "%2E%2E",
            ".%2e",
            "%2f",
            "%5c",
            "%00",
            "%",
            "%25",
            "%252e%252e",
            "?",
            "a?b",
            "?x=1",
            "#",
            "a#b",
            "&",
            "a&b=c",
            ";",
            "a;b",
            "=",
            ":",
            "a:b",
            "@",
            "user@host",
            "http://169.254.169.254",
            "https:evil",
            "javascript:1",
            " ",
            "a b",
            " 7",
            "7 ",
            "\t",
            "\n",
            "7\r\nHost: x",
            "\0",
            "7\0",
            "会话",
            "7\u{202e}",
            "７",
            "é",
            "~",
            "7.json",
            "'",
            "\"",
            "<7>",
            "{7}",
            "7,8",
            "*",
            "+7",
            "$7",
            "..;",
            ".\u{200b}.",
        ];
        assert!(hostile.len() >= 60, "{}", hostile.len());
        let base = base("https://api.laigu.com");
        for id in hostile {
            assert_eq!(below(&base, &["v1", "conversations", id]), Err(Refusal::Segment), "{id:?}");
        }
        let long = "7".repeat(65);
        assert_eq!(below(&base, &["v1", &long]), Err(Refusal::Segment));
        assert!(below(&base, &["v1", &"7".repeat(64)]).is_ok());
    }

    #[test]
    fn link_local_and_metadata_addresses_are_never_dialled() {
        for bad in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert_eq!(allowed(bad.parse().unwrap()), Err(Refusal::Address), "{bad}");
        }
        for good in ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.1", "47.92.0.1", "2400:3200::1"] {
            assert!(allowed(good.parse().unwrap()).is_ok(), "{good}");
        }
    }

    #[test]
    fn one_bad_address_among_good_ones_refuses_the_name() {
        let mixed = vec!["47.92.0.1:0".parse().unwrap(), "169.254.169.254:0".parse().unwrap()];
        assert_eq!(dialable(mixed), Err(Refusal::Address));
        assert_eq!(dialable(Vec::new()), Err(Refusal::NoAddress));
    }

    #[test]
    fn a_base_url_is_https_unless_it_is_loopback() {
        let check = |text: &str, expected: Result<(), Refusal>| {
            assert_eq!(check_base(&base(text), Plaintext::LoopbackOnly), expected, "{text}");
        };
        check("https://api.laigu.com", Ok(()));
        check("http://127.0.0.1:9", Ok(()));
        check("http://localhost:9", Ok(()));
        check("http://[::1]:9", Ok(()));
        check("http://0x7f.1:9", Ok(()));
        check("http://api.laigu.com", Err(Refusal::Scheme));
        check("http://[::ffff:10.0.0.1]", Err(Refusal::Scheme));
        check("ftp://127.0.0.1", Err(Refusal::Scheme));
        check("https://169.254.169.254", Err(Refusal::Address));
        check("https://[::ffff:169.254.169.254]", Err(Refusal::Address));
        check("https://2852039166", Err(Refusal::Address));
        check("https://user:pass@api.laigu.com", Err(Refusal::Decorated));
        check("https://api.laigu.com?x=1", Err(Refusal::Decorated));
        check("https://api.laigu.com/%2e%2e", Ok(()));
        check("https://api.laigu.com/a%20b", Err(Refusal::Decorated));
        assert_eq!(check_base(&base("http://sandbox:8080"), Plaintext::Anywhere), Ok(()));
    }
}
