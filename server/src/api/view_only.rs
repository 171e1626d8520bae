//! Lets somebody watch a VNC screen without touching it: follows what the viewer says (RFB 3.3, 3.7, 3.8; RFC 6143), and
//! lets through only what asks for pictures. Whatever it does not know ends the stream (pure).

/// Bytes of a version: `RFB 003.008\n`.
const VERSION_LEN: usize = 12;
/// Encodings that a viewer may name; it names a few dozen.
const ENCODINGS_MAX: u64 = 256;

/// The viewer said something that could not be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("view-only: {0}")]
pub(super) struct Refused(pub(super) &'static str);

/// What the two have agreed on so far, and what of the viewer's words is on its way.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// The beginning of what the device says: its version and, in version 3.3, the way to sign in.
    device: Vec<u8>,
    at: At,
}

/// Versions differ in how one signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Version {
    V33,
    V37,
    V38,
}

/// What comes next from the viewer.
#[derive(Debug)]
enum At {
    Version(Vec<u8>),
    /// In version 3.3 the device chooses how to sign in.
    DeviceChooses,
    Choice,
    Response(usize),
    Init,
    Head(Vec<u8>),
    /// The rest of a message.
    Rest(Fate, u64),
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
}

impl Default for At {
    fn default() -> Self {
        Self::Version(Vec::new())
    }
}

impl Filter {
    /// The device said this; only how it begins matters.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let room = (VERSION_LEN + 4).saturating_sub(self.device.len());
        self.device.extend(bytes.iter().take(room));
    }

    /// The viewer said this; what of it the device may hear.
    pub(super) fn said(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut heard = Vec::with_capacity(bytes.len());
        let mut left = bytes;
        while let Some((first, more)) = left.split_first() {
            if let At::Rest(fate, rest) = &mut self.at {
                let count = usize::try_from(*rest).unwrap_or(usize::MAX).min(left.len());
                let (now, later) = left.split_at(count);
                if *fate == Fate::Pass {
                    heard.extend_from_slice(now);
                }
                *rest -= count as u64;
                if *rest == 0 {
                    self.at = At::Head(Vec::new());
                }
                left = later;
                continue;
            }
            self.byte(*first, &mut heard)?;
            left = more;
        }
        Ok(heard)
    }

    fn byte(&mut self, byte: u8, heard: &mut Vec<u8>) -> Result<(), Refused> {
        if let At::DeviceChooses = self.at {
            self.at = self.device_choice()?;
        }
        match &mut self.at {
            At::Version(line) => {
                line.push(byte);
                if line.len() == VERSION_LEN {
                    let line = std::mem::take(line);
                    let version = self.agreed(&line)?;
                    heard.extend(line);
                    self.at = if version == Version::V33 { At::DeviceChooses } else { At::Choice };
                }
            }
            At::Choice => {
                heard.push(byte);
                self.at = after_choice(byte.into())?;
            }
            At::Response(left) => {
                heard.push(byte);
                *left -= 1;
                if *left == 0 {
                    self.at = At::Init;
                }
            }
            At::Init => {
                // Shared, whatever the viewer wants: to watch alone would throw others out.
                heard.push(1);
                self.at = At::Head(Vec::new());
            }
            At::Head(head) => {
                head.push(byte);
                if let Some((fate, rest)) = message(head)? {
                    if fate == Fate::Pass {
                        heard.append(head);
                    }
                    self.at = if rest == 0 { At::Head(Vec::new()) } else { At::Rest(fate, rest) };
                }
            }
            At::DeviceChooses | At::Rest(..) => {}
        }
        Ok(())
    }

    /// The version that both speak: the viewer's, which is not above the device's.
    fn agreed(&self, line: &[u8]) -> Result<Version, Refused> {
        let viewer = match line {
            b"RFB 003.003\n" => Version::V33,
            b"RFB 003.007\n" => Version::V37,
            b"RFB 003.008\n" => Version::V38,
            _ => return Err(Refused("only versions 3.3, 3.7 and 3.8 of RFB can be followed")),
        };
        let device = self.device.get(..VERSION_LEN).ok_or(Refused("the viewer spoke before the device"))?;
        // What is above 3.8 speaks 3.8 too.
        let device = match (device.get(..4), device.get(4..11)) {
            (Some(b"RFB "), Some(b"003.003")) => Version::V33,
            (Some(b"RFB "), Some(b"003.007")) => Version::V37,
            (Some(b"RFB "), Some(version)) if version >= &b"003.008"[..] => Version::V38,
            _ => return Err(Refused("the device speaks no version of RFB that can be followed")),
        };
        if viewer <= device { Ok(viewer) } else { Err(Refused("the viewer speaks a newer version than the device")) }
    }

    fn device_choice(&self) -> Result<At, Refused> {
        let choice = self.device.get(VERSION_LEN..VERSION_LEN + 4).and_then(|bytes| bytes.try_into().ok());
        let choice = choice.ok_or(Refused("the viewer spoke before the device had chosen how to sign in"))?;
        after_choice(u32::from_be_bytes(choice))
    }
}

/// What the viewer says after a way to sign in was chosen.
fn after_choice(choice: u32) -> Result<At, Refused> {
    match choice {
        1 => Ok(At::Init),
        2 => Ok(At::Response(16)),
        _ => Err(Refused("this way of signing in cannot be followed; use none or a VNC password")),
    }
}

/// What becomes of the message that begins so, and how much of it is still to come; none if that is not known yet.
fn message(head: &[u8]) -> Result<Option<(Fate, u64)>, Refused> {
    let byte = |at: usize| head.get(at).copied().map(u64::from);
    let number = |at: usize, len: usize| -> Option<u64> {
        Some(head.get(at..at + len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let rest = |len: u64| len - head.len() as u64;
    let known = match byte(0) {
        // SetPixelFormat, FramebufferUpdateRequest, EnableContinuousUpdates: how and when pictures come.
        Some(0) => Some((Fate::Pass, rest(20))),
        Some(3 | 150) => Some((Fate::Pass, rest(10))),
        // SetEncodings.
        Some(2) => match number(2, 2) {
            Some(count) if count > ENCODINGS_MAX => return Err(Refused("too many encodings")),
            count => count.map(|count| (Fate::Pass, rest(4 + 4 * count))),
        },
        // ClientFence: keeps both in step.
        Some(248) => match byte(8) {
            Some(len) if len > 64 => return Err(Refused("a fence is too long")),
            len => len.map(|len| (Fate::Pass, rest(9 + len))),
        },
        // KeyEvent, PointerEvent, xvp.
        Some(4) => Some((Fate::Drop, rest(8))),
        Some(5) => Some((Fate::Drop, rest(6))),
        Some(250) => Some((Fate::Drop, rest(4))),
        // ClientCutText; below zero, the length of an extended clipboard.
        Some(6) => number(4, 4).map(|len| {
            let len = u32::try_from(len).unwrap_or(u32::MAX).cast_signed();
            (Fate::Drop, rest(8 + u64::from(len.unsigned_abs())))
        }),
        // SetDesktopSize.
        Some(251) => byte(6).map(|screens| (Fate::Drop, rest(8 + 16 * screens))),
        // QEMU's extended key event.
        Some(255) => match byte(1) {
            Some(0) => Some((Fate::Drop, rest(12))),
            Some(_) => return Err(Refused("the viewer sent a message that is not known")),
            None => None,
        },
        _ => return Err(Refused("the viewer sent a message that is not known")),
    };
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];
    const POINTER: [u8; 6] = [5, 1, 0, 10, 0, 10];
    const REQUEST: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 100, 0, 100];

    fn begun(version: &str, sign_in: &[u8]) -> (Filter, Vec<u8>) {
        let mut filter = Filter::default();
        filter.heard(format!("RFB {version}\n").as_bytes());
        if version == "003.003" {
            filter.heard(&[0, 0, 0, if sign_in.is_empty() { 1 } else { 2 }]);
        }
        let mut said = format!("RFB {version}\n").into_bytes();
        if version != "003.003" {
            said.push(if sign_in.is_empty() { 1 } else { 2 });
        }
        said.extend_from_slice(sign_in);
        let mut expected = said.clone();
        said.push(0);
        expected.push(1);
        let heard = filter.said(&said).unwrap();
        assert_eq!(heard, expected, "{version}: signing in passes, and the screen is shared");
        (filter, heard)
    }

    #[test]
    fn pictures_are_asked_for_and_nothing_is_touched_in_all_versions() {
        let mut encodings = vec![2, 0, 0, 3];
        encodings.extend_from_slice(&[0; 12]);
        let cut_text = [&[6, 0, 0, 0, 0, 0, 0, 5][..], b"paste"].concat();
        let extended = [&[6, 0, 0, 0][..], &(-4_i32).to_be_bytes(), &[1, 2, 3, 4]].concat();
        let size = [&[251, 0, 1, 0, 1, 0, 1, 0][..], &[0; 16]].concat();
        let qemu = [255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30];
        let fence = [&[248, 0, 0, 0, 0, 0, 0, 1, 3][..], b"abc"].concat();
        for version in ["003.003", "003.007", "003.008"] {
            for sign_in in [&[][..], &[7; 16]] {
                let (mut filter, _) = begun(version, sign_in);
                let all = [
                    &[0; 20][..],
                    &KEY,
                    &encodings,
                    &POINTER,
                    &cut_text,
                    &REQUEST,
                    &extended,
                    &size,
                    &qemu,
                    &fence,
                    &[250, 0, 1, 2],
                    &KEY,
                    &REQUEST,
                ]
                .concat();
                let passes = [&[0; 20][..], &encodings, &REQUEST, &fence, &REQUEST].concat();
                assert_eq!(filter.said(&all).unwrap(), passes, "{version}");
                let (mut filter, _) = begun(version, sign_in);
                let one_by_one: Vec<u8> = all.iter().flat_map(|byte| filter.said(&[*byte]).unwrap()).collect();
                assert_eq!(one_by_one, passes, "{version}, a byte at a time");
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_ends_the_stream() {
        for bad in [&[1, 0][..], &[7], &[253], &[255, 1], &[2, 0, 0xff, 0xff], &[248, 0, 0, 0, 0, 0, 0, 1, 65], &[249]]
        {
            let (mut filter, _) = begun("003.008", &[]);
            assert!(filter.said(bad).is_err(), "{bad:?}");
        }
        for (device, viewer) in [
            ("003.003", "003.008"),
            ("003.007", "003.008"),
            ("003.008", "003.005"),
            ("003.008", "004.001"),
            ("002.000", "003.003"),
        ] {
            let mut filter = Filter::default();
            filter.heard(format!("RFB {device}\n").as_bytes());
            assert!(filter.said(format!("RFB {viewer}\n").as_bytes()).is_err(), "{device} {viewer}");
        }
        assert!(Filter::default().said(b"RFB 003.008\n").is_err(), "the viewer spoke first");
        let mut filter = Filter::default();
        filter.heard(b"RFB 003.008\n");
        assert!(filter.said(b"RFB 003.008\n\x13").is_err(), "another way to sign in");
        let mut filter = Filter::default();
        filter.heard(b"RFB 003.003\n");
        assert!(filter.said(b"RFB 003.003\n\x01").is_err(), "before the device had chosen");
    }

    #[test]
    fn a_newer_device_is_spoken_to_in_the_viewers_version() {
        let mut filter = Filter::default();
        filter.heard(b"RFB 003.889\n");
        assert_eq!(filter.said(b"RFB 003.008\n\x01\x00").unwrap(), b"RFB 003.008\n\x01\x01");
        assert_eq!(filter.said(&KEY).unwrap(), b"");
    }
}
