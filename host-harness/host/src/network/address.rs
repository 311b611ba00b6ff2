//! Which addresses may be dialled. An address is judged as what it means: IPv4 inside IPv6 is unwrapped first.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected an address or a range such as 127.0.0.0/8 or fd00::/8")]
pub struct NotARange;

impl FromStr for Cidr {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Cidr, NotARange> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotARange)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| NotARange)?;
        if prefix > most { Err(NotARange) } else { Ok(Cidr { address, prefix }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole {
            self.address.fmt(formatter)
        } else {
            write!(formatter, "{}/{}", self.address, self.prefix)
        }
    }
}

impl Cidr {
    /// Whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                same_prefix(range.to_bits().into(), address.to_bits().into(), self.prefix, 32)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                same_prefix(range.to_bits(), address.to_bits(), self.prefix, 128)
            }
            _ => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, prefix: u8, width: u32) -> bool {
    let shift = width - u32::from(prefix);
    shift >= 128 || left >> shift == right >> shift
}

/// Whether a host is this machine itself, whoever is asked: a name below `localhost` may lead elsewhere.
pub fn is_loopback(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => unwrapped(IpAddr::V6(*address)).is_loopback(),
        url::Host::Domain(name) => *name == "localhost",
    }
}

/// Whether a service of somebody's own may be at an address that is not public. Where clouds keep their metadata, and what
/// is no address of one host, nobody is advised to allow.
pub fn may_serve(address: IpAddr) -> bool {
    match unwrapped(address) {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_loopback() || address.is_private() || first == 100 && (64..128).contains(&second)
        }
        IpAddr::V6(address) => {
            let metadata = address.segments()[..2] == [0xfd00, 0xec2];
            address.is_loopback() || address.is_unique_local() && !metadata
        }
    }
}

/// Why an address must not be dialled; none if it may. `allowed` are the operator's exceptions.
pub fn prohibited(address: IpAddr, allowed: &[Cidr]) -> Option<&'static str> {
    let inner = unwrapped(address);
    if allowed.iter().any(|range| range.contains(address) || range.contains(inner)) {
        return None;
    }
    match inner {
        IpAddr::V4(address) => prohibited_v4(address),
        IpAddr::V6(address) => prohibited_v6(address),
    }
}

/// The address that is meant: IPv4 in mapped, compatible, NAT64 and 6to4 form.
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

fn prohibited_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [169, 254, ..] => Some("a link-local address, where clouds keep their metadata"),
        [168, 63, 129, 16] => Some("the address at which Azure's hosts answer their guests"),
        [100, 64..=127, ..] => Some("an address behind a carrier's NAT"),
        [0, ..] => Some("no address of a host"),
        [192, 0, 0, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [192, 0, 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Some("a reserved address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn prohibited_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("no address of a host"),
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a private address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        // Teredo and others that stand for something else; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a reserved address"),
        [0x2000..=0x3fff, ..] => None,
        // Nothing else was ever given to hosts on the internet.
        _ => Some("a reserved address"),
    }
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
        for text in ["127.0.0.1/33", "nowhere", "1.2.3.4/x", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(NotARange), "{text}");
        }
        for text in ["10.0.0.0/8", "::1", "fd00::/8", "127.0.0.1"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("9.9.9.9".parse().unwrap()));
    }
}
