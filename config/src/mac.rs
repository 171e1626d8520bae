//! The address of an Ethernet device, by which it is known wherever it is.

use std::fmt;
use std::str::FromStr;

/// The address of an Ethernet device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Of six bytes that may be one machine's.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 6] = bytes.try_into().ok()?;
        (bytes != [0; 6] && bytes[0] & 1 == 0).then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "this is not the address of an Ethernet device";
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong);
        }
        Self::of(&bytes).ok_or("this is the address of no single device")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_device_is_six_bytes_of_one_machine() {
        assert_eq!("B8-27-EB-00-00-01".parse::<Mac>().unwrap().to_string(), "b8:27:eb:00:00:01");
        for wrong in
            ["", "b8:27:eb:00:00", "b8:27:eb:00:00:01:02", "b8:27:eb:0:00:01", "00:00:00:00:00:00", "01:00:5e:00:00:fb"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
