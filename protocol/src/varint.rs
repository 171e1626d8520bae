//! Variable-length integers as in QUIC (RFC 9000, section 16): 1, 2, 4 or 8 bytes, at most 2^62 - 1.

use bytes::{Buf, BufMut, Bytes};

/// The largest number that can be written.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Writes `value`, cut to [`MAX`], in the fewest bytes.
pub(crate) fn put(out: &mut impl BufMut, value: u64) {
    let value = value.min(MAX);
    if let Ok(small) = u8::try_from(value)
        && small < 1 << 6
    {
        out.put_u8(small);
    } else if value < 1 << 14 {
        out.put_u16(0x4000 | (value & 0x3fff) as u16);
    } else if value < 1 << 30 {
        out.put_u32(0x8000_0000 | (value & 0x3fff_ffff) as u32);
    } else {
        out.put_u64(0xc000_0000_0000_0000 | value);
    }
}

/// Reads a number; `None` if the bytes end before it does. Longer spellings than needed are accepted, as in QUIC.
pub(crate) fn take(bytes: &mut Bytes) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1_usize << (first >> 6);
    if bytes.len() < length {
        return None;
    }
    Some(match length {
        1 => u64::from(bytes.get_u8()),
        2 => u64::from(bytes.get_u16() & 0x3fff),
        4 => u64::from(bytes.get_u32() & 0x3fff_ffff),
        _ => bytes.get_u64() & MAX,
    })
}

/// Bytes that [`put`] needs for `value`.
pub(crate) fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a1() {
        for (value, bytes) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ] {
            let mut out = BytesMut::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(len(value), bytes.len());
            assert_eq!(take(&mut out.freeze()), Some(value));
        }
        assert_eq!(take(&mut Bytes::from_static(&[0x40, 0x25])), Some(37), "a longer spelling");
    }

    #[test]
    fn a_number_that_ends_early_is_none() {
        for cut in [&[][..], &[0x40], &[0x80, 0, 0], &[0xc0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(take(&mut Bytes::copy_from_slice(cut)), None);
        }
    }
}
