//! Multicast DNS and SSDP as a stranger may say them: any names, any times, from any address.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::Result;
use linkspan_tests::netns::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

/// The groups and ports of both languages.
pub(crate) const MDNS: (&str, u16) = ("ff02::fb", 5353);
pub(crate) const SSDP: (&str, u16) = ("ff02::c", 1900);

/// What every fake says that it is.
pub(crate) const MODEL: &str =
    "Fake 7 of a maker who has a lot to say about it, and says it in as many words as there is room for in a text";

/// Speaks from addresses that a machine need not have.
pub(crate) struct Mouth(Socket);

impl Mouth {
    /// From that address, on the machine's `eth0`.
    pub(crate) fn new(machine: &Namespace, from: Ipv6Addr) -> Result<Self> {
        machine.inside(move || {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_freebind_v6(true)?;
            socket.bind(&SocketAddrV6::new(from, 0, 0, 0).into())?;
            socket.set_multicast_if_v6(nix::net::if_::if_nametoindex("eth0")?)?;
            Ok(Self(socket))
        })
    }

    pub(crate) fn say(&self, (group, port): (&str, u16), packet: &[u8]) -> Result<()> {
        self.0.send_to(packet, &SocketAddrV6::new(group.parse()?, port, 0, 0).into())?;
        Ok(())
    }
}

/// A host with an address and a service, for so many seconds (RFC 1035, RFC 6762).
pub(crate) fn announcement(host: &str, address: Ipv6Addr, ttl: u32) -> Vec<u8> {
    let (host_name, service) = (name(&[host, "local"]), name(&[host, "_http", "_tcp", "local"]));
    let mut at = 80_u16.to_be_bytes().to_vec();
    at.extend(&host_name);
    let records = [
        record(&name(&["_http", "_tcp", "local"]), 12, ttl, &service),
        record(&service, 33, ttl, &[&[0, 0, 0, 0][..], &at].concat()),
        record(
            &service,
            16,
            ttl,
            &[&[u8::try_from(6 + MODEL.len()).unwrap()][..], b"model=", MODEL.as_bytes()].concat(),
        ),
        record(&host_name, 28, ttl, &address.octets()),
    ];
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    packet.extend(records.concat());
    packet
}

fn name(labels: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    [name, &kind.to_be_bytes(), &1_u16.to_be_bytes(), &ttl.to_be_bytes(), &len.to_be_bytes(), data].concat()
}
