//! First contacts as a picture: how many took how long.

use std::convert::Infallible;

use anyhow::Result;
use embedded_graphics::{
    mono_font::{
        MonoTextStyle,
        ascii::{FONT_9X18_BOLD, FONT_10X20},
    },
    pixelcolor::Rgb888,
    prelude::*,
    primitives::{Line, PrimitiveStyle, Rectangle},
    text::{Alignment, Text},
};

use crate::contacts::{Circumstance, Contacts};

const WIDTH: u32 = 1200;
const PANEL: u32 = 360;
const LEFT: i32 = 70;
const RIGHT: i32 = 1170;
/// Buckets from 2^-2 ms on, so many to an octave.
const PER_OCTAVE: f64 = 4.0;
const FIRST_OCTAVE: f64 = -2.0;
const OCTAVES: f64 = 11.0;

const PAPER: Rgb888 = Rgb888::WHITE;
const INK: Rgb888 = Rgb888::new(0x22, 0x26, 0x2d);
const GRID: Rgb888 = Rgb888::new(0xdd, 0xe1, 0xe6);
const BLUE: Rgb888 = Rgb888::new(0x2f, 0x6f, 0xb7);
const ORANGE: Rgb888 = Rgb888::new(0xe0, 0x8a, 0x1e);
const RED: Rgb888 = Rgb888::new(0xc2, 0x30, 0x30);

/// One kind of contact in a panel.
struct Series {
    name: &'static str,
    color: Rgb888,
    /// Milliseconds, sorted.
    times: Vec<f64>,
    /// What p99 is held to.
    bar: Option<f64>,
}

/// The histograms as a PNG file.
pub(crate) fn draw(contacts: &Contacts) -> Result<Vec<u8>> {
    let series = |name, color, circumstance, bar| Series {
        name,
        color,
        times: contacts.times(circumstance),
        bar,
    };
    let panels = [
        (
            "First contact of two pods, first packet to its answer",
            [
                series(
                    "the nodes have a channel",
                    BLUE,
                    Circumstance::Warm,
                    Some(60.0),
                ),
                series(
                    "the nodes never met",
                    ORANGE,
                    Circumstance::Cold,
                    Some(150.0),
                ),
            ],
        ),
        (
            "The same while another pod of the node scans 10,000 addresses",
            [
                series("nobody scans", BLUE, Circumstance::Alone, None),
                series("beside the scan", RED, Circumstance::BesideScan, None),
            ],
        ),
    ];
    let mut canvas = Canvas::new(WIDTH, PANEL * panels.len() as u32);
    for (number, (title, series)) in panels.iter().enumerate() {
        let top = PANEL as i32 * number as i32;
        let Ok(()) = panel(&mut canvas, top, title, series);
    }
    canvas.png()
}

fn panel(canvas: &mut Canvas, top: i32, title: &str, all: &[Series]) -> Result<(), Infallible> {
    let (ceiling, floor) = (top + 100, top + PANEL as i32 - 50);
    let counts: Vec<Vec<usize>> = all.iter().map(|series| buckets(&series.times)).collect();
    let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
    let height = |count: usize| (f64::from(floor - ceiling) * count as f64 / most as f64) as i32;
    let x = |octave: f64| {
        let share = (octave - FIRST_OCTAVE) / OCTAVES;
        LEFT + (f64::from(RIGHT - LEFT) * share) as i32
    };
    let small = MonoTextStyle::new(&FONT_10X20, INK);

    Text::new(
        title,
        Point::new(LEFT, top + 30),
        MonoTextStyle::new(&FONT_10X20, INK),
    )
    .draw(canvas)?;
    for octave in 0..=OCTAVES as i32 {
        let octave = FIRST_OCTAVE + f64::from(octave);
        let at = x(octave);
        line(canvas, (at, ceiling), (at, floor), GRID)?;
        let label = format!("{} ms", octave.exp2());
        Text::with_alignment(&label, Point::new(at, floor + 24), small, Alignment::Center)
            .draw(canvas)?;
    }
    for (share, label) in [(0, "0".to_owned()), (most, most.to_string())] {
        let at = floor - height(share);
        line(canvas, (LEFT, at), (RIGHT, at), GRID)?;
        Text::with_alignment(
            &label,
            Point::new(LEFT - 10, at + 6),
            small,
            Alignment::Right,
        )
        .draw(canvas)?;
    }
    for (number, (series, counts)) in all.iter().zip(&counts).enumerate() {
        let width = 1.0 / PER_OCTAVE / all.len() as f64;
        for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let from = FIRST_OCTAVE + bucket as f64 / PER_OCTAVE + number as f64 * width;
            let corner = Point::new(x(from) + 1, floor - height(*count));
            let size = Size::new(
                (x(from + width) - x(from) - 1) as u32,
                height(*count) as u32,
            );
            Rectangle::new(corner, size)
                .into_styled(PrimitiveStyle::with_fill(series.color))
                .draw(canvas)?;
        }
        if let Some(bar) = series.bar {
            let at = x(bar.log2());
            line(canvas, (at, ceiling), (at, floor), series.color)?;
            let label = format!("p99 bar {bar}");
            let style = MonoTextStyle::new(&FONT_9X18_BOLD, series.color);
            Text::with_alignment(
                &label,
                Point::new(at, ceiling - 6),
                style,
                Alignment::Center,
            )
            .draw(canvas)?;
        }
        let legend = legend(series);
        let style = MonoTextStyle::new(&FONT_9X18_BOLD, series.color);
        let column = LEFT + number as i32 * (RIGHT - LEFT) / 2;
        Text::new(&legend, Point::new(column, top + 60), style).draw(canvas)?;
    }
    line(canvas, (LEFT, floor), (RIGHT, floor), INK)
}

fn legend(series: &Series) -> String {
    let at = |share: f64| {
        let last = series.times.len().saturating_sub(1);
        let time = series.times.get((last as f64 * share).ceil() as usize);
        time.copied().unwrap_or_default()
    };
    format!(
        "{}: {} pairs, p50 {:.1}, p99 {:.1} ms",
        series.name,
        series.times.len(),
        at(0.5),
        at(0.99)
    )
}

/// How many fall into each bucket; what is beyond the ends is in the first or the last.
fn buckets(times: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; (OCTAVES * PER_OCTAVE) as usize];
    let last = counts.len() - 1;
    for time in times {
        let bucket = ((time.log2() - FIRST_OCTAVE) * PER_OCTAVE).max(0.0) as usize;
        counts[bucket.min(last)] += 1;
    }
    counts
}

fn line(
    canvas: &mut Canvas,
    from: (i32, i32),
    to: (i32, i32),
    color: Rgb888,
) -> Result<(), Infallible> {
    Line::new(from.into(), to.into())
        .into_styled(PrimitiveStyle::with_stroke(color, 1))
        .draw(canvas)
}

/// What is drawn on: three bytes a pixel.
struct Canvas {
    size: Size,
    bytes: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        let paper = [PAPER.r(), PAPER.g(), PAPER.b()];
        Self {
            size: Size::new(width, height),
            bytes: paper.repeat((width * height) as usize),
        }
    }

    fn png(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.bytes)?;
        writer.finish()?;
        Ok(file)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        let area = self.bounding_box();
        for Pixel(at, color) in pixels.into_iter().filter(|pixel| area.contains(pixel.0)) {
            let first = 3 * (at.y as usize * self.size.width as usize + at.x as usize);
            self.bytes[first..first + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
        }
        Ok(())
    }
}
