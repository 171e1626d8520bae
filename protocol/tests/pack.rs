//! Compression: what comes out is what went in, text shrinks, noise does not grow, keys do not wait, lies are caught.
#![cfg(feature = "compress")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::time::Duration;

use linkspan_protocol::driver::reset_of;
use linkspan_protocol::pack::Packed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

/// Bytes that look random, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// Sends something through a pair with pieces of that size; what it took on the way.
async fn carried(data: &[u8], piece: usize) -> u64 {
    let (near, far) = duplex(3000);
    let (mut near, mut far) = (Packed::new(near), Packed::new(far));
    let sent = async {
        for piece in data.chunks(piece) {
            near.write_all(piece).await.unwrap();
        }
        near.shutdown().await.unwrap();
        near.passed().1
    };
    let mut heard = Vec::new();
    let received = async { far.read_to_end(&mut heard).await.unwrap() };
    let (sent, _) = timeout(LONG, async { tokio::join!(sent, received) }).await.unwrap();
    assert!(heard == data, "{} bytes in pieces of {piece} are not what was sent", data.len());
    assert_eq!(far.passed().0, sent);
    sent
}

#[tokio::test]
async fn real_text_and_programs_shrink_and_noise_does_not_grow() {
    let text = include_bytes!("../../docs/protocol.md");
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let program = &program[..program.len().min(2_000_000)];
    for (data, most) in [(&text[..], 0.6), (program, 0.8)] {
        let sent = carried(data, 100_000).await;
        assert!((sent as f64) < data.len() as f64 * most, "{sent} of {}", data.len());
    }
    let mut page = b"\x89PNG and then noise: ".to_vec();
    page.extend(noise(7, 2_000_000));
    let sent = carried(&page, 100_000).await;
    assert!(sent < page.len() as u64 + page.len() as u64 / 1000, "{sent} of {}", page.len());
}

#[tokio::test]
async fn pieces_of_every_size_arrive() {
    for size in [1, 2, 63, 64, 65, 255, 256, 4095, 16_383, 16_384, 16_385, 40_000] {
        let data: Vec<u8> = noise(size as u64, 100_000).iter().map(|byte| byte & 3).collect();
        carried(&data[..(size * 300).min(data.len())], size).await;
    }
    carried(&[], 1).await;
}

#[tokio::test]
async fn text_between_pictures_is_found_again() {
    let mut data = noise(1, 400_000);
    data.extend(std::iter::repeat_n(b'a', 4_000_000));
    let sent = carried(&data, 16_384).await;
    assert!(sent < 1_600_000, "{sent}");
}

#[tokio::test]
async fn a_key_and_its_echo_wait_for_nothing() {
    let (near, far) = duplex(100);
    let (mut near, mut far) = (Packed::new(near), Packed::new(far));
    for key in b"ls -l\r" {
        near.write_all(&[*key]).await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(timeout(LONG, far.read_u8()).await.unwrap().unwrap(), *key);
        far.write_all(&[*key]).await.unwrap();
        far.flush().await.unwrap();
        assert_eq!(timeout(LONG, near.read_u8()).await.unwrap().unwrap(), *key);
    }
    assert_eq!(near.passed(), (18, 18), "three bytes for one");
}

#[tokio::test]
async fn hostile_pieces_are_errors_and_unpack_to_sixteen_kilobytes_at_most() {
    // A piece of one byte whose length would be that of no piece, spoilt ones, cut ones, and a bomb.
    let mut bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; 1 << 20], 9);
    let length = u16::try_from(bomb.len() - 1).unwrap();
    bomb.splice(0..0, (length | 0x8000).to_be_bytes());
    let mut hostile =
        vec![vec![0x7f, 0xff, 1], vec![0x80, 0x00, 0xff], vec![0xff, 0xff], vec![0x00], vec![0x00, 0x05, 1], bomb];
    // Nothing at all, packed; and something with more behind its end.
    hostile.push(vec![0x80, 0x01, 0x03, 0x00]);
    let mut more = miniz_oxide::deflate::compress_to_vec(b"hello", 9);
    more.push(0);
    more.splice(0..0, (0x8000 | u16::try_from(more.len() - 1).unwrap()).to_be_bytes());
    hostile.push(more);
    for bytes in hostile {
        let (mut near, far) = duplex(1 << 17);
        let mut far = Packed::new(far);
        near.write_all(&bytes).await.unwrap();
        near.write_all(&vec![0; 40_000]).await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        let error = timeout(LONG, far.read_to_end(&mut heard)).await.unwrap();
        if let Err(error) = error {
            assert!(reset_of(&error).is_some(), "{error}");
            assert!(heard.len() <= 40_000 + 16_384, "{}", heard.len());
        } else {
            panic!("{} bytes were taken for {}", bytes.len(), heard.len());
        }
    }
}

#[tokio::test]
async fn no_bytes_whatever_panic_or_hang() {
    for seed in 1..400 {
        let (mut near, far) = duplex(1 << 17);
        let mut far = Packed::new(far);
        near.write_all(&noise(seed, 40_000)).await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        let _ended = timeout(LONG, far.read_to_end(&mut heard)).await.unwrap();
        assert!(heard.len() < 20_000 * 40_000);
    }
}
