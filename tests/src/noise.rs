//! Bytes that look random and are the same each time: no compression, and no mistake in alignment, stays unseen in them.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// So many bytes of noise.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    StdRng::seed_from_u64(4711).fill_bytes(&mut data);
    data
}
