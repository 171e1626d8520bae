//! What the camera sees: a quay with a ferry that comes and goes, drawn by hand into pixels.

use std::f64::consts::TAU;
use std::time::Duration;

use anyhow::Result;
use jpeg_encoder::{ColorType, Encoder};

/// Pixels across.
pub(super) const WIDTH: u16 = 640;
/// Pixels down.
pub(super) const HEIGHT: u16 = 360;

const HORIZON: i32 = 150;
const SEA_BOTTOM: i32 = 290;

type Colour = [u8; 3];

/// One picture as JPEG, so long after the camera was switched on.
pub(super) fn picture(time: Duration, caption: &str) -> Result<Vec<u8>> {
    let mut canvas = Canvas::new();
    let seconds = time.as_secs_f64();
    sky_and_sea(&mut canvas, seconds);
    ferry(&mut canvas, seconds);
    quay(&mut canvas, seconds);
    canvas.block(area(0, 0, i32::from(WIDTH), 18), [20, 24, 28]);
    canvas.text(8, 3, caption, [235, 235, 235]);
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, 80).encode(&canvas.pixels, WIDTH, HEIGHT, ColorType::Rgb)?;
    Ok(jpeg)
}

fn sky_and_sea(canvas: &mut Canvas, seconds: f64) {
    for y in 0..i32::from(HEIGHT) {
        let shade = if y < HORIZON { y * 60 / HORIZON } else { (y - HORIZON) / 4 };
        let colour = match y < HORIZON {
            true => [150 + shade as u8, 180 + (shade / 2) as u8, 215],
            false => [
                70_u8.saturating_sub(shade as u8),
                105_u8.saturating_sub(shade as u8),
                130_u8.saturating_sub(shade as u8),
            ],
        };
        canvas.block(area(0, y, i32::from(WIDTH), 1), colour);
    }
    for wave in 0..90 {
        let near = f64::from(wave) / 90.0;
        let y = HORIZON + 3 + (near * near * f64::from(SEA_BOTTOM - HORIZON)) as i32;
        let x = (f64::from(wave * 197) + seconds * (6.0 + near * 30.0)) as i32 % (i32::from(WIDTH) + 40) - 40;
        canvas.block(area(x, y, 8 + (near * 30.0) as i32, 1), [120, 150, 170]);
    }
}

/// A minute from the left to the quay and back.
fn ferry(canvas: &mut Canvas, seconds: f64) {
    let x = (170.0 + 150.0 * (seconds * TAU / 60.0).sin()) as i32;
    let y = 205 + (2.0 * (seconds * 1.3).sin()) as i32;
    for row in 0..34 {
        canvas.block(
            area(x - 120 + row / 2, y + row, 240 - row, 1),
            if row < 10 { [235, 235, 235] } else { [35, 60, 110] },
        );
    }
    canvas.block(area(x - 100, y - 26, 190, 26), [245, 245, 240]);
    canvas.block(area(x - 60, y - 46, 110, 20), [245, 245, 240]);
    canvas.block(area(x + 10, y - 72, 22, 26), [200, 60, 40]);
    canvas.block(area(x + 10, y - 72, 22, 7), [30, 30, 30]);
    for window in 0..14 {
        canvas.block(area(x - 92 + window * 13, y - 18, 8, 8), [60, 90, 120]);
    }
    for puff in 0..4 {
        let age = (seconds * 0.8 + f64::from(puff) / 4.0).fract();
        let drift = (age * 70.0) as i32;
        canvas.disc(x + 20 - drift, y - 76 - drift / 2, 3 + drift / 8, [190, 195, 200]);
    }
}

/// The quay with the movable bridge, and a lamp that blinks once a second.
fn quay(canvas: &mut Canvas, seconds: f64) {
    canvas.block(area(0, SEA_BOTTOM, i32::from(WIDTH), i32::from(HEIGHT) - SEA_BOTTOM), [125, 122, 115]);
    canvas.block(area(430, 190, 210, 110), [140, 137, 130]);
    let lift = (12.0 * (seconds * TAU / 60.0).sin()) as i32;
    for step in 0..90 {
        canvas.block(area(342 + step, 225 - lift * (90 - step) / 90, 1, 7), [200, 160, 40]);
    }
    canvas.block(area(440, 110, 10, 120), [90, 90, 90]);
    canvas.block(area(520, 110, 10, 120), [90, 90, 90]);
    canvas.block(area(436, 104, 98, 10), [200, 160, 40]);
    let lamp = if seconds.fract() < 0.5 { [250, 60, 40] } else { [90, 30, 25] };
    canvas.disc(485, 98, 5, lamp);
    for stripe in 0..16 {
        canvas.block(area(stripe * 40, 318, 22, 4), [225, 200, 70]);
    }
}

struct Canvas {
    pixels: Vec<u8>,
}

impl Canvas {
    fn new() -> Self {
        Self { pixels: vec![0; usize::from(WIDTH) * usize::from(HEIGHT) * 3] }
    }

    /// Fills a rectangle; what lies beyond the picture is left out.
    fn block(&mut self, area: Area, colour: Colour) {
        let Area { left, top, width, height } = area;
        let columns = left.clamp(0, i32::from(WIDTH)) as usize..(left + width).clamp(0, i32::from(WIDTH)) as usize;
        for y in top.clamp(0, i32::from(HEIGHT)) as usize..(top + height).clamp(0, i32::from(HEIGHT)) as usize {
            let row = &mut self.pixels[y * usize::from(WIDTH) * 3..(y + 1) * usize::from(WIDTH) * 3];
            for pixel in row.chunks_exact_mut(3).take(columns.end).skip(columns.start) {
                pixel.copy_from_slice(&colour);
            }
        }
    }

    fn disc(&mut self, x: i32, y: i32, radius: i32, colour: Colour) {
        for row in -radius..=radius {
            let half = f64::from(radius * radius - row * row).sqrt() as i32;
            self.block(area(x - half, y + row, 2 * half + 1, 1), colour);
        }
    }

    /// Letters of three by five dots, two pixels a dot.
    fn text(&mut self, left: i32, top: i32, text: &str, colour: Colour) {
        for (at, letter) in (0..).zip(text.chars()) {
            let dots = glyph(letter.to_ascii_uppercase());
            for (row, bits) in (0..).zip(dots) {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    self.block(area(left + at * 8 + column * 2, top + row * 2 + 1, 2, 2), colour);
                }
            }
        }
    }
}

struct Area {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

fn area(left: i32, top: i32, width: i32, height: i32) -> Area {
    Area { left, top, width, height }
}

/// Five rows of three dots.
fn glyph(letter: char) -> [u8; 5] {
    match letter {
        '0' | 'O' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [7, 1, 7, 4, 7],
        '3' => [7, 1, 7, 1, 7],
        '4' => [5, 5, 7, 1, 1],
        '5' | 'S' => [7, 4, 7, 1, 7],
        '6' => [7, 4, 7, 5, 7],
        '7' => [7, 1, 1, 1, 1],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 7],
        'A' => [7, 5, 7, 5, 5],
        'B' => [6, 5, 6, 5, 6],
        'C' => [7, 4, 4, 4, 7],
        'D' => [6, 5, 5, 5, 6],
        'E' => [7, 4, 6, 4, 7],
        'F' => [7, 4, 6, 4, 4],
        'G' => [7, 4, 5, 5, 7],
        'H' => [5, 5, 7, 5, 5],
        'I' => [7, 2, 2, 2, 7],
        'J' => [1, 1, 1, 5, 7],
        'K' => [5, 5, 6, 5, 5],
        'L' => [4, 4, 4, 4, 7],
        'M' => [5, 7, 7, 5, 5],
        'N' => [7, 5, 5, 5, 5],
        'P' => [7, 5, 7, 4, 4],
        'Q' => [7, 5, 5, 7, 1],
        'R' => [7, 5, 6, 5, 5],
        'T' => [7, 2, 2, 2, 2],
        'U' => [5, 5, 5, 5, 7],
        'V' => [5, 5, 5, 5, 2],
        'W' => [5, 5, 7, 7, 5],
        'X' => [5, 5, 2, 5, 5],
        'Y' => [5, 5, 2, 2, 2],
        'Z' => [7, 1, 2, 4, 7],
        '-' => [0, 0, 7, 0, 0],
        ':' => [0, 2, 0, 2, 0],
        '.' => [0, 0, 0, 0, 2],
        '/' => [1, 1, 2, 4, 4],
        _ => [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_jpeg_and_move() {
        let one = picture(Duration::from_secs(1), "CAM 1").unwrap();
        let later = picture(Duration::from_secs(9), "CAM 1").unwrap();
        assert!(one.starts_with(&[0xff, 0xd8]) && one.ends_with(&[0xff, 0xd9]));
        assert_ne!(one, later);
    }
}
