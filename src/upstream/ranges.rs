//! Address ranges that are not the public internet. One table, so that it can be read beside the registries it follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks as (network, prefix length, what it is).
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this host"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's shared address"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a protocol assignment"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation address"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmarking address"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a documentation address"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation address"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud platform's own address"),
];

/// IPv6 blocks within global unicast that are not the public internet; everything outside `2000::/3` is blocked anyway.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a protocol assignment (Teredo among them)"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a documentation address"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a documentation address"),
];

/// Names for blocks outside global unicast, for the message only.
const V6_OUTSIDE: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "the unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4-mapped address"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "a NAT64 address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a NAT64 address"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "a discard address"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
];

/// What a blocked address is; `None` for the public internet.
pub fn blocked(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => V4.iter().find(|(net, len, _)| same_v4(ip, *net, *len)).map(|(_, _, what)| *what),
        IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000 => find_v6(V6, ip),
        IpAddr::V6(ip) => Some(find_v6(V6_OUTSIDE, ip).unwrap_or("not a global unicast address")),
    }
}

fn find_v6(table: &[(Ipv6Addr, u32, &'static str)], ip: Ipv6Addr) -> Option<&'static str> {
    table.iter().find(|(net, len, _)| same_v6(ip, *net, *len)).map(|(_, _, what)| *what)
}

fn same_v4(ip: Ipv4Addr, net: Ipv4Addr, len: u32) -> bool {
    (u32::from(ip) ^ u32::from(net)).leading_zeros() >= len
}

fn same_v6(ip: Ipv6Addr, net: Ipv6Addr, len: u32) -> bool {
    (u128::from(ip) ^ u128::from(net)).leading_zeros() >= len
}
