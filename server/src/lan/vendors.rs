//! Who made a device, by the beginning of its Ethernet address: the lists of the IEEE, as `vendors.py` packs them.

use std::sync::Arc;

use linkspan_protocol::discovery::FoundDevice;

/// Lines of a beginning in hexadecimal and a name, sorted and packed.
const PACKED: &[u8] = include_bytes!("vendors.z");
/// The lines unpacked are this long at most.
const TEXT_MAX: usize = 8_000_000;

/// All vendors. Clones share the list.
#[derive(Clone)]
pub struct Vendors(Arc<[u8]>);

impl Vendors {
    /// Unpacks the list that came with the program.
    pub fn new() -> Self {
        let text = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(PACKED, TEXT_MAX).unwrap_or_default();
        Self(text.into())
    }

    /// Who registered the address of a device, if it is known.
    pub fn of(&self, device: &FoundDevice) -> Option<&str> {
        let digits: String = device.key.strip_prefix("mac:")?.split(':').collect();
        // Whoever chose the address himself has told nobody (IEEE 802c).
        let first = u8::from_str_radix(digits.get(..2)?, 16).ok()?;
        if first & 2 != 0 {
            return None;
        }
        [9, 7, 6].into_iter().find_map(|len| self.find(digits.get(..len)?))
    }

    fn find(&self, prefix: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let start = self.0[..middle].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1).max(low);
            let end = start + self.0[start..].iter().position(|byte| *byte == b'\n')?;
            let (found, name) = std::str::from_utf8(&self.0[start..end]).ok()?.split_once(' ')?;
            match found.cmp(prefix) {
                std::cmp::Ordering::Equal => return Some(name),
                std::cmp::Ordering::Less => low = end + 1,
                std::cmp::Ordering::Greater => high = start,
            }
        }
        None
    }
}

impl Default for Vendors {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_names_its_vendor() {
        let vendors = Vendors::new();
        let of = |key: &str| {
            let device = FoundDevice { key: key.into(), ..FoundDevice::default() };
            vendors.of(&device).map(str::to_owned)
        };
        assert_eq!(of("mac:08:61:95:01:02:03").as_deref(), Some("Rockwell Automation"));
        assert_eq!(of("mac:b8:27:eb:00:00:01").as_deref(), Some("Raspberry Pi Foundation"));
        for (none, why) in
            [("mac:02:27:eb:00:00:01", "chosen by itself"), ("ip:10.0.0.1", "no address"), ("mac:x", "none")]
        {
            assert_eq!(of(none), None, "{why}");
        }
        let lines = vendors.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert!(lines > 40_000, "{lines}");
        for line in vendors.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).step_by(997) {
            let (prefix, name) = std::str::from_utf8(line).unwrap().split_once(' ').unwrap();
            assert_eq!(vendors.find(prefix), Some(name));
        }
    }
}
