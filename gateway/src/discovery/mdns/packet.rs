//! The packets of multicast DNS (RFC 6762, RFC 1035): questions are written, answers read, and no byte of them is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Types of records (RFC 1035, RFC 2782, RFC 3596).
pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;

/// Records that are read of one packet: a full one of 9000 bytes holds some hundred.
const RECORDS_MAX: usize = 512;
/// Bytes of a name (RFC 1035), and leaps within one.
const NAME_MAX: usize = 255;
const LEAPS_MAX: usize = 16;
/// Bytes of a packet of questions: it passes any LAN whole.
const PACKET_MAX: usize = 1200;

/// A name: its labels, with dots between them, and a backslash before each dot or backslash within one. Lower case, since
/// names are compared without it; what is shown to people is the first label, kept as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) folded: Box<str>,
    pub(super) first: Box<str>,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) data: Data,
    /// Seconds for which it holds; zero says that it no longer does.
    pub(super) ttl: u32,
    /// It replaces all others of its name and type.
    pub(super) flush: bool,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Pointer(Name),
    Service {
        port: u16,
        host: Name,
    },
    /// The `key=value` pairs, those that are text.
    Text(Vec<(String, String)>),
    Address(IpAddr),
}

/// The records of an answer, as far as they can be read; nothing of a question or of what is no DNS.
pub(super) fn answers(packet: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    // What was read before it went wrong is as good as the rest.
    let _cut = read_all(packet, &mut records);
    records
}

fn read_all(packet: &[u8], records: &mut Vec<Record>) -> Option<()> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    // A response with opcode and error code zero.
    if word(2)? & 0xf80f != 0x8000 {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = name(packet, at)?.1 + 4;
    }
    let count = usize::from(word(6)?) + usize::from(word(8)?) + usize::from(word(10)?);
    for _ in 0..count.min(RECORDS_MAX) {
        let (owner, after) = name(packet, at)?;
        let (kind, class) = (word(after)?, word(after + 2)?);
        let ttl = u32::from(word(after + 4)?) << 16 | u32::from(word(after + 6)?);
        let start = after + 10;
        at = start + usize::from(word(after + 8)?);
        let rest = packet.get(start..at)?;
        if class & 0x7fff == 1
            && let Some(data) = data(packet, kind, (start, rest))
        {
            records.push(Record { name: owner, data, ttl, flush: class & 0x8000 != 0 });
        }
    }
    Some(())
}

fn data(packet: &[u8], kind: u16, (start, rest): (usize, &[u8])) -> Option<Data> {
    match kind {
        A => Some(Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(rest).ok()?).into())),
        AAAA => Some(Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?).into())),
        PTR => Some(Data::Pointer(name(packet, start)?.0)),
        SRV => {
            let port = u16::from_be_bytes([*rest.get(4)?, *rest.get(5)?]);
            Some(Data::Service { port, host: name(packet, start + 6)?.0 })
        }
        TXT => Some(Data::Text(pairs(rest))),
        _ => None,
    }
}

fn pairs(mut rest: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let Some((len, after)) = rest.split_first() {
        let (text, after) = after.split_at(usize::from(*len).min(after.len()));
        if let Some((key, value)) = std::str::from_utf8(text).ok().and_then(|text| text.split_once('=')) {
            pairs.push((key.to_ascii_lowercase(), value.to_owned()));
        }
        rest = after;
    }
    pairs
}

/// The name at a place, and the place after it.
fn name(packet: &[u8], mut at: usize) -> Option<(Name, usize)> {
    let (mut folded, mut first) = (String::new(), None::<Box<str>>);
    let (mut end, mut leaps) = (None, 0);
    loop {
        let len = usize::from(*packet.get(at)?);
        match len {
            0 => break,
            1..=63 => {
                let label = String::from_utf8_lossy(packet.get(at + 1..at + 1 + len)?);
                if first.is_none() {
                    first = Some(Box::from(&*label));
                } else {
                    folded.push('.');
                }
                for c in label.chars().flat_map(char::to_lowercase) {
                    if matches!(c, '.' | '\\') {
                        folded.push('\\');
                    }
                    folded.push(c);
                }
                at += 1 + len;
            }
            192.. => {
                end.get_or_insert(at + 2);
                leaps += 1;
                at = (len & 63) << 8 | usize::from(*packet.get(at + 1)?);
            }
            _ => return None,
        }
        if folded.len() > 2 * NAME_MAX || leaps > LEAPS_MAX {
            return None;
        }
    }
    Some((Name { folded: folded.into(), first: first.unwrap_or_default() }, end.unwrap_or(at + 1)))
}

/// Packets that ask for names and types. What is known already is added as far as there is room, so that nobody repeats it
/// (RFC 6762, section 7.1).
pub(super) fn questions(asked: &[(&str, u16)], known: &[(&str, &str, u32)]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = asked;
    while !rest.is_empty() {
        let mut packet = vec![0; 12];
        let mut count = 0_u16;
        while let Some(((name, kind), after)) = rest.split_first() {
            let before = packet.len();
            write_name(&mut packet, name);
            if packet.len() + 4 > PACKET_MAX && count > 0 {
                packet.truncate(before);
                break;
            }
            packet.extend(kind.to_be_bytes());
            packet.extend(1_u16.to_be_bytes());
            count += 1;
            rest = after;
        }
        packet[4..6].copy_from_slice(&count.to_be_bytes());
        if rest.is_empty() {
            add_known(&mut packet, known);
        }
        packets.push(packet);
    }
    packets
}

fn add_known(packet: &mut Vec<u8>, known: &[(&str, &str, u32)]) {
    let mut count = 0_u16;
    for (owner, target, ttl) in known {
        let before = packet.len();
        write_name(packet, owner);
        packet.extend(PTR.to_be_bytes());
        packet.extend(1_u16.to_be_bytes());
        packet.extend(ttl.to_be_bytes());
        let mut name = Vec::new();
        write_name(&mut name, target);
        packet.extend(u16::try_from(name.len()).unwrap_or_default().to_be_bytes());
        packet.extend(name);
        if packet.len() > PACKET_MAX {
            packet.truncate(before);
            break;
        }
        count += 1;
    }
    packet[6..8].copy_from_slice(&count.to_be_bytes());
}

fn write_name(packet: &mut Vec<u8>, name: &str) {
    let mut label = Vec::new();
    let mut flush = |label: &mut Vec<u8>| {
        label.truncate(63);
        if let Ok(len @ 1..) = u8::try_from(label.len()) {
            packet.push(len);
            packet.append(label);
        }
    };
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => flush(&mut label),
            b'\\' => label.extend(bytes.next()),
            _ => label.push(byte),
        }
    }
    flush(&mut label);
    packet.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with two records of names that lean on each other: `My.Cam._http._tcp.local` and its host.
    fn answer() -> Vec<u8> {
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 3, 0, 0, 0, 0];
        write_name(&mut packet, "_http._tcp.local");
        packet.extend([0, 12, 0, 1, 0, 0, 0x11, 0x94, 0, 9, 6]);
        packet.extend(b"My.Cam");
        packet.extend([0xc0, 12]);
        packet.extend([0xc0, 40, 0, 33, 0x80, 1, 0, 0, 0, 120, 0, 12, 0, 0, 0, 0, 0x1f, 0x90, 3]);
        packet.extend(b"cam");
        packet.extend([0xc0, 23]);
        packet.extend([0xc0, 40, 0, 16, 0x80, 1, 0, 0, 0, 120, 0, 10, 9]);
        packet.extend(b"ty=Model7");
        packet
    }

    #[test]
    fn an_answer_is_read_with_its_leaps() {
        let records = answers(&answer());
        let [pointer, service, text] = &records[..] else { panic!("{records:?}") };
        assert_eq!(&*pointer.name.folded, "_http._tcp.local");
        let Data::Pointer(instance) = &pointer.data else { panic!("{pointer:?}") };
        assert_eq!((&*instance.folded, &*instance.first), ("my\\.cam._http._tcp.local", "My.Cam"));
        assert_eq!((service.name.clone(), service.flush, service.ttl), (instance.clone(), true, 120));
        assert!(matches!(&service.data, Data::Service { port: 8080, host } if host.folded.starts_with("cam.")));
        assert_eq!(text.data, Data::Text(vec![("ty".into(), "Model7".into())]));
    }

    #[test]
    fn no_bytes_make_it_stumble() {
        let whole = answer();
        for end in 0..whole.len() {
            let _read = answers(&whole[..end]);
            for value in [0, 1, 63, 64, 0xc0, 0xff] {
                let mut broken = whole.clone();
                broken[end] = value;
                assert!(answers(&broken).len() <= 3);
            }
        }
        // A name that leads to itself.
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12];
        packet.extend([0; 10]);
        assert!(answers(&packet).is_empty());
    }

    #[test]
    fn questions_are_written_so_that_they_can_be_read() {
        let known = [("_http._tcp.local", "my\\.cam._http._tcp.local", 4000)];
        let mut packets = questions(&[("_http._tcp.local", PTR), ("cam.local", A)], &known);
        assert_eq!(packets.len(), 1);
        packets[0][2] = 0x84;
        let records = answers(&packets[0]);
        let [Record { data: Data::Pointer(name), ttl: 4000, .. }] = &records[..] else { panic!("{records:?}") };
        assert_eq!(&*name.folded, "my\\.cam._http._tcp.local");
        let many: Vec<_> = (0..200).map(|n| format!("_kind{n}._tcp.local")).collect();
        let asked: Vec<_> = many.iter().map(|name| (name.as_str(), PTR)).collect();
        let packets = questions(&asked, &[]);
        assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() <= PACKET_MAX));
        let counts = packets.iter().map(|packet| usize::from(packet[5]));
        assert_eq!(counts.sum::<usize>(), 200);
    }
}
