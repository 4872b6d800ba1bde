//! Addresses that are not the public internet, and addresses beside them that are.

use std::net::IpAddr;

/// First, last and one in the middle of every range, with the address before the range and after it where those are public.
pub const BLOCKED_V4: [(&str, &str); 16] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
];

pub const PUBLIC_V4: [&str; 16] = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
];

pub const BLOCKED_V6: [&str; 24] = [
    "::",
    "::1",
    "::2",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "3fff:fff::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "febf::1",
    "ff02::1",
];

pub const PUBLIC_V6: [&str; 4] = ["2600::1", "2a00:1450:4001::1", "2001:200::1", "2003::1"];

/// Every blocked address of the lists.
pub fn blocked() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = BLOCKED_V6.iter().map(|ip| ip.parse().unwrap()).collect();
    for (first, last) in BLOCKED_V4 {
        let (a, b): (std::net::Ipv4Addr, std::net::Ipv4Addr) = (first.parse().unwrap(), last.parse().unwrap());
        let middle = u32::from(a) + (u32::from(b) - u32::from(a)) / 2;
        all.extend([a.into(), b.into(), IpAddr::from(std::net::Ipv4Addr::from(middle))]);
    }
    all
}
