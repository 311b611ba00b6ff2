//! The addresses that may be dialled. The judgement unwraps IPv4 inside IPv6 first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// A range of addresses; a single address is a range too.
///
/// ```
/// use std::net::IpAddr;
///
/// use source_host::Cidr;
///
/// let range: Cidr = "10.0.0.0/8".parse()?;
/// assert!(range.contains(IpAddr::from([10, 1, 2, 3])));
/// # Ok::<(), source_host::NotARange>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

/// The text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected an address or a range such as 127.0.0.0/8 or fd00::/8")]
pub struct NotARange;

impl FromStr for Cidr {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Cidr, NotARange> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| single()).map(Cidr).map_err(|_| NotARange)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(formatter),
            false => self.0.fmt(formatter),
        }
    }
}

impl Cidr {
    /// Says whether an address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// Says whether a host is always this machine itself. A name below `localhost` is not, because it may resolve to
/// another address.
pub fn is_loopback(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => unwrapped(IpAddr::V6(*address)).is_loopback(),
        url::Host::Domain(name) => *name == "localhost",
    }
}

/// Says whether somebody's own service may be at an address that is not public. Messages do not advise people to allow
/// addresses of cloud metadata, or addresses that are not those of one host.
pub fn may_serve(address: IpAddr) -> bool {
    match unwrapped(address) {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || SHARED.contains(&address),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() && !METADATA_V6.contains(&address),
    }
}

/// Says why an address must not be dialled; `None` if it may. `allowed` holds the operator's exceptions.
pub fn prohibited(address: IpAddr, allowed: &[Cidr]) -> Option<&'static str> {
    let inner = unwrapped(address);
    if allowed.iter().any(|range| range.contains(address) || range.contains(inner)) {
        return None;
    }
    match inner {
        IpAddr::V4(address) => PROHIBITED_V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, name)| *name),
        IpAddr::V6(address) => {
            let known = PROHIBITED_V6.iter().find(|(range, _)| range.contains(&address)).map(|(_, name)| *name);
            // No other address was ever assigned to a host on the internet.
            known.or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some(RESERVED))
        }
    }
}

/// Unwraps IPv4 in mapped, compatible, NAT64 and 6to4 form.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let tail = || Ipv4Addr::from_bits((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => tail().into(),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => tail().into(),
        [0x2002, high, low, ..] => Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into(),
        _ => address,
    }
}

const LOOPBACK: &str = "a loopback address";
const PRIVATE: &str = "a private address";
const LINK_LOCAL: &str = "a link-local address, where clouds keep their metadata";
const NO_HOST: &str = "no address of a host";
const MULTICAST: &str = "a multicast address";
const RESERVED: &str = "a reserved address";

/// Addresses behind a carrier's NAT (RFC 6598).
const SHARED: Ipv4Net = v4([100, 64, 0, 0], 10);

/// A network inside the private ones, in which AWS serves the metadata of its machines.
const METADATA_V6: Ipv6Net = v6([0xfd00, 0xec2], 32);

/// The part of IPv6 that is assigned to hosts on the internet.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0], 3);

/// The list has addresses of every large cloud, whatever service a plugin polls, because the collector may run in any
/// of them.
const PROHIBITED_V4: &[(Ipv4Net, &str)] = &[
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    (v4([10, 0, 0, 0], 8), PRIVATE),
    (v4([172, 16, 0, 0], 12), PRIVATE),
    (v4([192, 168, 0, 0], 16), PRIVATE),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (v4([168, 63, 129, 16], 32), "the address at which Azure's hosts answer their guests"),
    (SHARED, "an address behind a carrier's NAT"),
    (v4([0, 0, 0, 0], 8), NO_HOST),
    (v4([192, 0, 0, 0], 24), RESERVED),
    (v4([192, 0, 2, 0], 24), RESERVED),
    (v4([192, 88, 99, 0], 24), RESERVED),
    (v4([198, 18, 0, 0], 15), RESERVED),
    (v4([198, 51, 100, 0], 24), RESERVED),
    (v4([203, 0, 113, 0], 24), RESERVED),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([240, 0, 0, 0], 4), RESERVED),
];

const PROHIBITED_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), LOOPBACK),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), NO_HOST),
    (v6([0xfc00, 0], 7), PRIVATE),
    (v6([0xfe80, 0], 10), "a link-local address"),
    (v6([0xfec0, 0], 10), PRIVATE),
    (v6([0xff00, 0], 8), MULTICAST),
    // Teredo, and other addresses that represent a second one.
    (v6([0x2001, 0], 23), RESERVED),
    // Documentation.
    (v6([0x2001, 0xdb8], 32), RESERVED),
    (v6([0x3fff, 0], 20), RESERVED),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_on_the_public_internet_are_prohibited_in_every_form() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "64:ff9b:1::1",
            "168.63.129.16",
            "::ffff:0:7f00:1",
            "2001:0:1::1",
            "fec0::1",
            "4000::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(prohibited(address.parse().unwrap(), &[]).is_some(), "{address}");
        }
        for address in [
            "20.190.128.1",
            "172.15.0.1",
            "172.32.0.1",
            "168.63.129.17",
            "2603:1030::1",
            "2001:4860::1",
            "64:ff9b::14be:8001",
            "100.128.0.1",
        ] {
            assert_eq!(prohibited(address.parse().unwrap(), &[]), None, "{address}");
        }
    }

    #[test]
    fn the_operator_may_allow_a_range() {
        let allowed: Vec<Cidr> = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        for (address, free) in [("127.9.9.9", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)] {
            assert_eq!(prohibited(address.parse().unwrap(), &allowed).is_none(), free, "{address}");
        }
        for text in ["127.0.0.1/33", "::1/129", "nowhere", "1.2.3.4/x", "10/8", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(NotARange), "{text}");
        }
        for text in ["10.0.0.0/8", "::1", "fd00::/8", "127.0.0.1"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("9.9.9.9".parse().unwrap()));
    }
}
