//! A pen: strokes written as text, bent to smooth lines and inked on a small gray picture.
//!
//! Everything here is +, -, *, / and sqrt in f32, so that every machine draws the same bytes.

/// Rows and columns of a picture.
pub const SIDE: usize = 28;

/// Straight pieces between two knots.
const PIECES: usize = 6;

/// A point, x right and y down.
pub type Point = [f32; 2];

/// A point that a stroke passes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Knot {
    /// Where.
    pub at: Point,
    /// Whether the stroke turns here sharply, not in a curve.
    pub corner: bool,
}

/// Reads strokes divided by `|`, each of knots `x,y` divided by spaces; `!` behind a knot is a corner.
///
/// Panics if the text is not of this form: it is for tables in this crate.
pub fn parse(text: &str) -> Vec<Vec<Knot>> {
    let knot = |word: &str| {
        let (at, corner) = word.strip_suffix('!').map_or((word, false), |w| (w, true));
        let (x, y) = at.split_once(',').expect("a knot is x,y");
        let number = |n: &str| n.parse().expect("a knot is of two numbers");
        let at = [number(x), number(y)];
        Knot { at, corner }
    };
    text.split('|')
        .map(|stroke| stroke.split_whitespace().map(knot).collect())
        .collect()
}

/// The straight pieces, as ends, of a stroke that passes the knots in their order.
///
/// Between knots it is a Catmull-Rom spline: the tangent in a knot is half the way from the knot before
/// to the one behind. In a corner and at an end it points along the chord, on each side its own.
pub fn bend(knots: &[Knot], mut piece: impl FnMut(Point, Point)) {
    let mut from = knots[0].at;
    for i in 1..knots.len() {
        let (a, b) = (knots[i - 1], knots[i]);
        let chord = sub(b.at, a.at);
        let tangent = |k: usize| {
            if k == 0 || k + 1 == knots.len() || knots[k].corner {
                return chord;
            }
            sub(knots[k + 1].at, knots[k - 1].at).map(|d| 0.5 * d)
        };
        let (start, end) = (tangent(i - 1), tangent(i));
        for p in 1..=PIECES {
            let t = p as f32 / PIECES as f32;
            let (t2, t3) = (t * t, t * t * t);
            let to = [0, 1].map(|axis| {
                (2.0 * t3 - 3.0 * t2 + 1.0) * a.at[axis]
                    + (t3 - 2.0 * t2 + t) * start[axis]
                    + (3.0 * t2 - 2.0 * t3) * b.at[axis]
                    + (t3 - t2) * end[axis]
            });
            piece(from, to);
            from = to;
        }
    }
}

fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

/// A picture in the making: the ink of each pixel, 0 to 255.
pub struct Picture {
    ink: [f32; SIDE * SIDE],
    /// Squared distance of each pixel's center from the strokes drawn since the last `ink`.
    near: [f32; SIDE * SIDE],
}

impl Picture {
    /// A picture without ink.
    pub fn new() -> Self {
        Picture {
            ink: [0.0; SIDE * SIDE],
            near: [f32::INFINITY; SIDE * SIDE],
        }
    }

    /// Draws the straight line from `a` to `b`, in pixels, with a pen of `radius` pixels.
    ///
    /// It shows after [`Picture::ink`] with the same radius.
    pub fn line(&mut self, a: Point, b: Point, radius: f32) {
        let reach = radius + 1.0;
        let along = sub(b, a);
        let length2 = along[0] * along[0] + along[1] * along[1];
        // Pixels whose centers can be within reach; a cast of a negative float is 0.
        let [columns, rows] = [0, 1].map(|axis| {
            let low = a[axis].min(b[axis]) - reach;
            let high = a[axis].max(b[axis]) + reach;
            low as usize..(high as usize + 1).min(SIDE)
        });
        for y in rows {
            for x in columns.clone() {
                let to = sub([x as f32 + 0.5, y as f32 + 0.5], a);
                let dot = to[0] * along[0] + to[1] * along[1];
                let t = if length2 > 0.0 {
                    (dot / length2).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let off = [to[0] - t * along[0], to[1] - t * along[1]];
                let near = &mut self.near[y * SIDE + x];
                *near = near.min(off[0] * off[0] + off[1] * off[1]);
            }
        }
    }

    /// Inks what was drawn since the last call with `level`, 0 to 255, where no darker ink is yet.
    ///
    /// The edge of a stroke is one pixel wide and goes linearly from no ink to full.
    pub fn ink(&mut self, radius: f32, level: f32) {
        for (ink, near) in self.ink.iter_mut().zip(&mut self.near) {
            let cover = (radius + 0.5 - near.sqrt()).clamp(0.0, 1.0);
            *ink = ink.max(cover * level);
            *near = f32::INFINITY;
        }
    }

    /// The ink of each pixel, 0 to 255, row by row.
    pub fn pixels(&self) -> &[f32; SIDE * SIDE] {
        &self.ink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_read_as_written() {
        let strokes = parse("1,2 30,4.5! | 5,6");
        let knot = |x, y, corner| Knot { at: [x, y], corner };
        assert_eq!(
            strokes,
            [
                vec![knot(1.0, 2.0, false), knot(30.0, 4.5, true)],
                vec![knot(5.0, 6.0, false)]
            ]
        );
    }

    #[test]
    fn a_stroke_passes_its_knots_and_turns_sharply_in_corners_alone() {
        let path = |text: &str| {
            let mut path = Vec::new();
            bend(&parse(text)[0], |from, to| path.extend([from, to]));
            path
        };
        for text in ["0,0 10,0 10,10", "0,0 10,0! 10,10"] {
            let path = path(text);
            assert_eq!(path.len(), 2 * 2 * PIECES);
            assert_eq!(path[0], [0.0, 0.0]);
            assert_eq!(path[2 * PIECES], [10.0, 0.0]);
            assert_eq!(path[4 * PIECES - 1], [10.0, 10.0]);
            assert!(path[1..].windows(2).step_by(2).all(|w| w[0] == w[1]));
        }
        let on_the_legs = |p: &Point| p[1].abs() < 1e-5 || (p[0] - 10.0).abs() < 1e-5;
        assert!(path("0,0 10,0! 10,10").iter().all(on_the_legs));
        assert!(!path("0,0 10,0 10,10").iter().all(on_the_legs));
    }

    #[test]
    fn a_line_covers_its_width() {
        // Half a pixel of edge on both sides of a stroke 3 wide, in row 10 whose center is 10.5.
        let mut picture = Picture::new();
        picture.line([5.0, 10.5], [20.0, 10.5], 1.5);
        picture.ink(1.5, 200.0);
        let ink = picture.pixels();
        let column: Vec<f32> = (7..14).map(|y| ink[y * SIDE + 12]).collect();
        assert_eq!(column, [0.0, 0.0, 200.0, 200.0, 200.0, 0.0, 0.0]);
        assert_eq!(ink[10 * SIDE + 2], 0.0);
        let total: f32 = ink.iter().sum::<f32>() / 200.0;
        let expected = 15.0 * 3.0 + std::f32::consts::PI * 1.5 * 1.5;
        assert!((total - expected).abs() < 1.0, "{total}, not {expected}");

        // Lighter ink leaves it as it is, and the line before is not drawn again.
        picture.line([12.5, 5.5], [12.5, 15.5], 0.5);
        picture.ink(0.5, 100.0);
        let ink = picture.pixels();
        assert_eq!([ink[10 * SIDE + 12], ink[5 * SIDE + 12]], [200.0, 100.0]);
        assert_eq!(ink[8 * SIDE + 10], 0.0);
    }

    #[test]
    fn lines_outside_of_the_picture_leave_it_white() {
        let mut picture = Picture::new();
        for (a, b) in [
            ([-9.0, -9.0], [-5.0, -5.0]),
            ([40.0, 3.0], [99.0, 3.0]),
            ([3.0, 1e9], [3.0, 1e9]),
        ] {
            picture.line(a, b, 2.0);
        }
        picture.ink(2.0, 255.0);
        assert_eq!(picture.pixels(), &[0.0; SIDE * SIDE]);
    }
}
