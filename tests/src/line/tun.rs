//! A TUN device: the one place of the rig that needs `unsafe`, for the ioctl that names the device.
#![expect(
    unsafe_code,
    reason = "TUNSETIFF has no safe wrapper; the call and its argument are described where it is made"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

mod ioctl {
    nix::ioctl_write_int!(set_interface, b'T', 202);
}

/// Opens a new TUN device of that name (at most 15 bytes) in the caller's network namespace. It carries bare IP packets,
/// one a read or write, and goes away when the file is closed.
pub(super) fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    if name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of a network device has at most 15 bytes"));
    }
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let address = std::ptr::from_mut(&mut request) as nix::sys::ioctl::ioctl_param_type;
    // SAFETY: the descriptor is open for the length of the call, and the kernel reads (and writes back) one `struct ifreq`
    // of 40 bytes at the address, which is a live local value of that size and layout.
    unsafe { ioctl::set_interface(file.as_raw_fd(), address) }?;
    Ok(file)
}

/// `struct ifreq` of <linux/if.h>, as TUNSETIFF uses it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}
